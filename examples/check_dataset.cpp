// Reads every volume of a data set and says what is wrong with it and what is odd, before any long work starts.
//
//     check_dataset data/phantoms --labels --report report.json

#include <CLI/CLI.hpp>

#include "m3i/data/check_json.hpp"
#include "m3i/data/surprises.hpp"
#include "m3i/data/triplets.hpp"
#include "m3i/train/guard.hpp"
#include "m3i/train/table_text.hpp"

namespace {

using namespace m3i;

struct Request {
  std::string data, report;
  std::optional<Index> channel;
  bool labels = false, classes = false, first_frame = false, cases = false;
};

SubjectList subjects_of(const Request& request, std::vector<DatasetReport::Problem>& problems) {
  if (!detail::ends_with(request.data, ".jsonl")) return find_subjects(request.data, {request.channel});
  const auto triplets = read_triplets(request.data);
  for (const std::string& problem : triplet_problems(triplets, request.data))
    problems.push_back({request.data, problem});
  return subjects_of_triplets(triplets, request.data);
}

std::string number(double x) { return fixed_text(x, x == std::floor(x) || std::abs(x) >= 100 ? 0 : 2); }
template <class Three>
std::string triple(const Three& x) {
  std::string out;
  for (const auto v : x) out += (out.empty() ? "" : " x ") + number(double(v));
  return out;
}

/// One line for all, or one for each image.
Table case_table(const SubjectList& list, const DatasetReport& report) {
  Table table({"image", "size", "spacing mm", "axes", "low", "high", "mean", "labels"});
  for (std::size_t i = 0; i < report.cases.size(); ++i) {
    const CaseFacts& c = report.cases[i];
    std::string labels;
    for (const auto& [value, voxels] : c.labels)
      if (value != 0 && labels.size() < 40) labels += (labels.empty() ? "" : ", ") + text(value);
    if (c.image_read)
      table.rows.push_back({std::filesystem::path(list.entries[i].image).filename().string(), triple(c.size),
                            triple(c.spacing_mm), c.orientation, number(c.low), number(c.high), number(c.mean),
                            labels});
  }
  return table;
}

/// Smallest, median and largest of what the readable images have.
Table range_table(const DatasetReport& report) {
  Table table({"", "smallest", "median", "largest"});
  const auto row = [&](const std::string& name, const auto& value) {
    std::vector<double> values;
    for (const CaseFacts& c : report.cases)
      if (c.image_read) values.push_back(value(c));
    if (values.empty()) return;
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    table.rows.push_back({name, number(*low), number(detail::median_of(values)), number(*high)});
  };
  for (std::size_t a = 0; a < 3; ++a) {
    const std::string axis(1, "ijk"[a]);
    row("voxels along " + axis, [a](const CaseFacts& c) { return double(c.size[a]); });
    row("spacing along " + axis + ", mm", [a](const CaseFacts& c) { return c.spacing_mm[a]; });
  }
  row("lowest intensity", [](const CaseFacts& c) { return c.low; });
  row("highest intensity", [](const CaseFacts& c) { return c.high; });
  row("mean intensity", [](const CaseFacts& c) { return c.mean; });
  return table;
}

/// Each label: in how many volumes it occurs, and how large it is there.
Table label_table(const SubjectList& list, const DatasetReport& report) {
  std::map<std::pair<Index, std::string>, std::vector<double>> ml;
  for (std::size_t i = 0; i < report.cases.size(); ++i) {
    const SubjectEntry& e = list.entries[i];
    const auto& names = e.structures.empty() ? list.structures : e.structures;
    for (const auto& [value, voxels] : report.cases[i].labels)
      ml[{value, value < Index(names.size()) ? names[std::size_t(value)] : ""}].push_back(double(voxels) *
                                                                                          report.cases[i].voxel_ml());
  }
  Table table({"label", "name", "volumes", "smallest ml", "median ml", "largest ml"});
  for (const auto& [label, sizes] : ml) {
    const auto [low, high] = std::minmax_element(sizes.begin(), sizes.end());
    table.rows.push_back({text(label.first), label.second, text(sizes.size()), number(*low),
                          number(detail::median_of(sizes)), number(*high)});
    if (table.rows.size() >= 64) break;
  }
  return table;
}

void print_lines(const char* title, const std::vector<std::string>& lines) {
  if (!lines.empty()) std::printf("\n%s\n", title);
  for (const std::string& line : lines) std::printf("  %s\n", line.c_str());
}

int run(const Request& request) {
  std::vector<DatasetReport::Problem> misfits;
  const SubjectList list = subjects_of(request, misfits);
  require_no_input(request.report, {request.data, list.folder + "/dataset.json", list.folder + "/classes.json"});
  for (const SubjectEntry& e : list.entries) require_no_input(request.report, {e.image, e.labels});
  DatasetReport report = check_dataset(
      list, {.need_labels = request.labels, .need_classes = request.classes, .first_frame = request.first_frame});
  report.problems.insert(report.problems.end(), misfits.begin(), misfits.end());
  const auto surprises = dataset_surprises(list, report);
  const Json json = dataset_report_json(list, report, surprises);
  if (!request.report.empty())  // names of files need not be UTF-8
    write_file(request.report, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");

  std::printf("check_dataset: %s: %lld images of %lld subjects\n\n%s", request.data.c_str(), (long long)report.checked,
              json["subjects"].get<long long>(), table_text(range_table(report)).c_str());
  if (const Table labels = label_table(list, report); !labels.rows.empty())
    std::printf("\n%s", table_text(labels).c_str());
  if (request.cases) std::printf("\n%s", table_text(case_table(list, report)).c_str());
  std::vector<std::string> problems;
  for (const auto& p : report.problems) problems.push_back(p.text);
  print_lines("Not used:", list.left_out);
  print_lines("Surprises:", surprises);
  print_lines("Problems:", problems);
  std::printf("\ncheck_dataset: %zu problem(s), %zu surprise(s), %lld of %lld images can be used\n", problems.size(),
              surprises.size(), json["usable"].get<long long>(), (long long)report.checked);
  return report.sound() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Reads every volume of a data set and names every file that is missing, unreadable, of several frames, with "
        "NaN,\n"
        "constant, listed twice or copied, and all labels that are not whole numbers, not on the image's grid, or "
        "without name.\n"
        "Also says what is odd: mixed orientations, thick slices, voxel sizes and intensities far from the others', "
        "empty labels.");
    Request request;
    app.add_option("data", request.data, "folder, dataset.json (Decathlon, MONAI, nnU-Net v2) or triplets.jsonl")
        ->required();
    app.add_option("-r,--report", request.report, "write all of it, image by image, as JSON");
    app.add_flag("--labels", request.labels, "an image without labels is a problem (segmentation)");
    app.add_flag("--classes", request.classes, "an image without class is a problem (classification)");
    app.add_option("--channel", request.channel, "of images with several channels, the one to check (from 0)");
    app.add_flag("--first-frame", request.first_frame, "take the first frame of files with several");
    app.add_flag("--cases", request.cases, "print one line for each image");
    app.footer(
        "Example:  check_dataset data/phantoms --labels --report report.json\n"
        "Leaves with 0 if every image can be used, 1 if one cannot, 2 if there is no data set.");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(request);
  });
}
