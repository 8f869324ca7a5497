// Compares two methods on the same subjects, or by runs with the same seeds.
//
//     compare scores_a/scores.csv scores_b/scores.csv --metric hd95

#include <algorithm>

#include <CLI/CLI.hpp>

#include "m3i/text/text_file.hpp"
#include "m3i/train/comparison.hpp"
#include "m3i/train/guard.hpp"
#include "m3i/train/metrics_file.hpp"

namespace {

using namespace m3i;

struct Request {
  std::vector<std::string> paths;  ///< A and B, each one file or some, separated by commas
  std::string unit = "subject", zeros = "wilcox", json;
  ComparisonRequest comparison;
};

/// `written`: where the result goes; may be "".
std::vector<CsvTable> read_tables(const std::string& paths, const std::string& written) {
  std::vector<CsvTable> out;
  for (std::size_t begin = 0; begin <= paths.size();) {
    const std::size_t end = std::min(paths.find(',', begin), paths.size());
    const std::string path = paths.substr(begin, end - begin);
    require_no_input(written, {path});
    out.push_back(parse_csv(path, read_text_file(path)));
    begin = end + 1;
  }
  return out;
}

int run(Request request) {
  request.comparison.by_run = request.unit == "run";
  if (request.zeros == "pratt") request.comparison.zeros = ZeroDifferences::pratt;
  const auto a = read_tables(request.paths[0], request.json), b = read_tables(request.paths[1], request.json);
  const auto pairs = pair_rows(a, b, request.comparison);
  const OrderedJson result = comparison_json(pairs, request.comparison);
  std::printf("%s", comparison_text(result).c_str());
  if (!request.json.empty()) {
    write_metrics(request.json, result);
    std::printf("compare: wrote %s\n", request.json.c_str());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Compares two methods, A and B, on the same cases: mean difference with a 95 % bootstrap interval, exact "
        "Wilcoxon\n"
        "signed-rank test, sign permutation test and paired t test, all two-sided.");
    Request request;
    app.add_option(
           "files", request.paths,
           "A.csv B.csv: scores.csv (or cases.csv) of `evaluate`; several runs of one method, for example one a "
           "seed,\n"
           "separated by commas and in the same order on both sides: A1.csv,A2.csv B1.csv,B2.csv")
        ->required()
        ->expected(2);
    app.add_option("--metric", request.comparison.metric,
                   "column: dice, hd95, iou, nsd, assd, hd, correct, ...; the unit may be left out")
        ->capture_default_str();
    app.add_option("--structure", request.comparison.structure, "one structure; without it, the mean over all");
    app.add_option("--unit", request.unit, "what one pair is: subject (runs are averaged), or run (one a file)")
        ->check(CLI::IsMember({"subject", "run"}))
        ->capture_default_str();
    app.add_option("--zeros", request.zeros,
                   "pairs without a difference in Wilcoxon's test: wilcox (left out) or pratt (ranked, then left out)")
        ->check(CLI::IsMember({"wilcox", "pratt"}))
        ->capture_default_str();
    app.add_option("--seed", request.comparison.seed, "of the bootstrap and of sampled permutations")
        ->capture_default_str();
    app.add_option("--json", request.json, "write the result and every pair to this file");
    app.footer(
        "Example:  compare plain/scores.csv pretrained/scores.csv --metric hd95 --structure brain --json result.json\n"
        "What it assumes: pairs are independent, which holds for subjects, not for structures or slices of one; so "
        "rows "
        "are first\n"
        "averaged within a subject. A value that is missing on one side is left out on both. Wilcoxon's test takes the "
        "differences\n"
        "as symmetric, the t test as normal; the permutation test only that A and B could be swapped. A subject-wise "
        "test says\n"
        "whether these two sets of models differ, not whether the methods do over seeds: for that use --unit run. One "
        "question,\n"
        "one test: many metrics and structures need a correction, which is not made here.");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(std::move(request));
  });
}
