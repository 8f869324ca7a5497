// Writes the report of scripts/demo.sh: one HTML page without outside resources, from the files that the programs left.
//
//     demo_report demo-output demo-output/report.html

#include <CLI/CLI.hpp>

#include "m3i/data/triplets.hpp"
#include "m3i/imaging/overlay.hpp"
#include "m3i/io/json.hpp"
#include "m3i/text/text_file.hpp"
#include "m3i/train/box_chart.hpp"
#include "m3i/train/group_chart.hpp"
#include "m3i/train/guard.hpp"
#include "m3i/train/log.hpp"
#include "m3i/train/plot.hpp"
#include "m3i/train/progress.hpp"
#include "m3i/train/report.hpp"

namespace {

using namespace m3i;
namespace fs = std::filesystem;

/// The three ways to start fine-tuning: folders DEMO/segmentation/NAME-SEED and words for readers.
struct Method {
  const char* folder;
  const char* words;
};
constexpr Method methods[] = {
    {"scratch", "from scratch"}, {"reconstruction", "reconstruction only"}, {"full", "full method"}};

bool there(const std::string& path) { return fs::exists(path); }

/// Subfolders DEMO/TASK/METHOD-SEED that hold metrics.json, sorted.
std::vector<std::string> runs_of(const std::string& demo, const std::string& task, const Method& method) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(fs::path(demo) / task, error)) {
    const std::string name = item.path().filename().string();
    if (name.rfind(std::string(method.folder) + "-", 0) == 0 && there(item.path() / "metrics.json"))
      out.push_back(item.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// One figure of every run of a method; what is null or missing is left out.
std::vector<double> figures(const std::vector<std::string>& runs, const char* key) {
  std::vector<double> out;
  for (const std::string& run : runs) {
    const Json metrics = read_json(run + "/metrics.json");
    if (metrics.contains(key) && metrics.at(key).is_number()) out.push_back(metrics.at(key).get<double>());
  }
  return out;
}

/// Dice of every test subject in every run, one box a structure and method. Cases keep their places, so that the same
/// subject and seed stand in the same place of each method.
BoxChart structure_boxes(const std::string& demo) {
  BoxChart chart{.title = "Dice of each structure", .value = {"Dice"}, .series = {}, .groups = {}, .paired = true};
  std::map<std::string, std::vector<std::vector<double>>> values;
  for (std::size_t m = 0; m < std::size(methods); ++m) {
    chart.series.push_back(methods[m].words);
    for (const std::string& run : runs_of(demo, "segmentation", methods[m])) {
      const Json metrics = read_json(run + "/metrics.json");
      for (const Json& one : metrics.at("cases"))
        for (const Json& s : one.at("structures")) {
          auto& lists = values[s.at("name").get<std::string>()];
          lists.resize(std::size(methods));
          lists[m].push_back(s.at("dice").is_number() ? s.at("dice").get<double>() : std::nan(""));
        }
    }
  }
  for (auto& [name, lists] : values) {
    const bool any = std::any_of(lists.begin(), lists.end(), [](const std::vector<double>& list) {
      return std::any_of(list.begin(), list.end(), [](double v) { return std::isfinite(v); });
    });
    if (any) chart.groups.push_back({name, std::move(lists)});
  }
  chart.width = std::clamp(120 * int(chart.groups.size()), 720, 1800);
  return chart;
}

/// The colours of structures in the overlays: class i of the network has colour i.
std::vector<std::pair<std::string, Rgb>> overlay_key(const std::string& run) {
  std::vector<std::pair<std::string, Rgb>> key;
  for (const Json& s : read_json(run + "/metrics.json").at("structures"))
    key.emplace_back(s.at("name").get<std::string>(), label_color(std::int64_t(key.size()) + 1));
  return key;
}

/// One figure of each structure, averaged over the runs.
std::map<std::string, std::vector<double>> structure_figures(const std::vector<std::string>& runs, const char* key) {
  std::map<std::string, std::vector<double>> out;
  for (const std::string& run : runs)
    for (const Json& s : read_json(run + "/metrics.json").at("structures"))
      if (s.contains(key) && s.at(key).is_number())
        out[s.at("name").get<std::string>()].push_back(s.at(key).get<double>());
  return out;
}

std::string classification_subjects(const std::string& demo) {
  const auto runs = runs_of(demo, "classification", methods[0]);
  return runs.empty() ? "none" : text(read_json(runs[0] + "/metrics.json").at("run").at("train_images").get<Index>());
}

void add_results(Report& report, const std::string& demo) {
  report.heading("Results");
  Table table({"start of fine-tuning", "Dice", "HD95 (mm)", "accuracy", "AUC"});
  GroupChart dice{.title = "Segmentation: mean Dice of the test subjects", .value = {"Dice"}, .groups = {}};
  GroupChart area{.title = "Classification: area under the ROC curve", .value = {"AUC"}, .groups = {}};
  Index runs = 0;
  for (const Method& method : methods) {
    const auto segmentation = runs_of(demo, "segmentation", method),
               classification = runs_of(demo, "classification", method);
    runs += Index(segmentation.size() + classification.size());
    const auto d = figures(segmentation, "dice_mean"), a = figures(classification, "auc");
    table.add({method.words, mean_sd_text(d, 3), mean_sd_text(figures(segmentation, "hd95_mean_mm"), 1),
               mean_sd_text(figures(classification, "accuracy"), 3), mean_sd_text(a, 3)});
    dice.groups.push_back({method.words, d});
    area.groups.push_back({method.words, a});
  }
  if (runs == 0) {
    report.paragraph("Nothing was fine-tuned in this run.");
    return;
  }
  const auto first = runs_of(demo, "segmentation", methods[0]);
  std::string conventions, subjects;
  if (!first.empty()) {
    const Json metrics = read_json(first[0] + "/metrics.json");
    conventions = text(" Dice and HD95 are means over the test subjects of each structure, then over structures. ",
                       metrics.at("conventions").at("dice").get<std::string>(), ". ",
                       metrics.at("conventions").at("hd95").get<std::string>(), ".");
    subjects = text(" Each run learned from ", metrics.at("run").at("train_images").get<Index>(),
                    " labelled subjects (classification: ", classification_subjects(demo), ") and was tested on ",
                    metrics.at("count").get<Index>(), " others.");
  }
  report.table(table, text("Mean ± standard deviation over ", first.size(), " seeds.", subjects, conventions));
  report.note(
      "These are small networks, few synthetic subjects and minutes of training: the table shows that every part runs "
      "and is "
      "measured, not how good the method is. The figures stand as they came out. The spread over seeds says how little "
      "a difference "
      "between rows means here.");
  for (GroupChart* chart : {&dice, &area}) {
    bool any = false;
    for (const Group& g : chart->groups) any = any || !g.values.empty();
    if (any)
      report.svg(group_chart(*chart), "Each point is one seed; the line is the mean with one standard deviation.");
  }
  std::map<std::string, std::vector<std::string>> rows;
  for (const Method& method : methods)
    for (const auto& [name, values] : structure_figures(runs_of(demo, "segmentation", method), "dice_mean"))
      rows[name].push_back(mean_sd_text(values, 3));
  Table structures({"structure", "from scratch", "reconstruction only", "full method"});
  for (auto& [name, cells] : rows) {
    cells.insert(cells.begin(), name);
    if (cells.size() == 4) structures.add(cells);
  }
  if (!structures.rows.empty())
    report.subheading("Dice of each structure"), report.table(structures, "Mean ± standard deviation over seeds.");
  if (const BoxChart boxes = structure_boxes(demo); !boxes.groups.empty())
    report.svg(
        box_chart(boxes),
        "Each point is one test subject of one seed: boxes hold the middle half, whiskers reach to the last value "
        "within 1.5 boxes; lines join the same subject and seed.");
}

void add_triplets(Report& report, const std::string& demo) {
  const std::string path = demo + "/triplets/triplets.jsonl";
  if (!there(path)) return;
  const auto triplets = read_triplets(path);
  std::set<std::string> subjects;
  for (const Triplet& t : triplets) subjects.insert(t.subject);
  report.heading("Triplets");
  report.paragraph(text(triplets.size(), " triplets of ", subjects.size(),
                        " subjects: a volume, one of its slices, and a caption by the built-in ",
                        "describer. Plane and position of each slice are drawn at random."));
  std::vector<Picture> pictures;
  const std::size_t shown = std::min<std::size_t>(9, triplets.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const Triplet& t = triplets[i * triplets.size() / shown];
    if (t.picture.empty()) continue;
    pictures.push_back({read_text_file(detail::beside(path, t.picture)),
                        text(plane_name(t.plane), " slice ", t.slice + 1, " of ", t.slices, ". ", t.caption)});
  }
  report.pictures(pictures);
}

/// One quantity of several logs as lines of one chart; nothing if no log has it.
void add_curves(Report& report,
                const std::string& title,
                const std::string& y,
                const std::vector<std::array<std::string, 3>>& lines,
                const std::string& caption,
                Index smooth = 15) {
  Chart chart{.title = title, .x = {"step"}, .y = {y}, .series = {}, .smooth = smooth, .links = {}, .height = 320};
  for (const auto& [name, log, key] : lines) {
    if (!there(log)) continue;
    const LogColumn column = read_log(log).column(key);
    if (!column.x.empty()) chart.series.push_back({name, column.x, column.y, {}, {}});
  }
  if (!chart.series.empty()) report.svg(line_chart(chart), caption);
}

void add_pretraining(Report& report, const std::string& demo) {
  const std::string clip = demo + "/clip/log.jsonl", full = demo + "/pretrain/log.jsonl",
                    plain = demo + "/pretrain-reconstruction/log.jsonl";
  if (!there(clip) && !there(full)) return;
  report.heading("Pretraining");
  report.paragraph(
      "First the two-dimensional image and text towers are fitted to slices and captions, and frozen. Then the volume "
      "network learns to "
      "restore volumes while mini-batch partial optimal transport aligns what it sees with the towers' features.");
  add_curves(report, "Towers", "contrastive loss", {{"towers", clip, "loss"}},
             "Symmetric contrastive loss of slices and captions.");
  add_curves(report, "Volume network: alignment", "loss", {{"full method", full, "alignment"}},
             "Divergence of both transport plans (volume to slice, volume to caption) from the diagonal.");
  add_curves(report, "Volume network: reconstruction", "mean squared error",
             {{"full method", full, "reconstruction"}, {"reconstruction only", plain, "reconstruction"}},
             "Restoration of the volume, intensities in [0, 1].");
  add_curves(
      report, "Mass on the diagonal of the transport plans", "mass",
      {{"volume to slice", full, "ot_slice.diagonal_mass"}, {"volume to caption", full, "ot_text.diagonal_mass"}},
      "1 would be all of the mass between the parts of the same triplet; a plan without any knowledge puts 1 / batch "
      "size there.");
}

void add_overlays(Report& report, const std::string& demo) {
  std::map<std::string, std::vector<std::pair<const char*, std::string>>> by_case;  // picture name -> method, path
  for (const Method& method : methods) {
    const auto runs = runs_of(demo, "segmentation", method);
    if (runs.empty()) continue;
    std::error_code error;
    for (const auto& item : fs::directory_iterator(runs[0] + "/overlays", error))
      by_case[item.path().filename().string()].emplace_back(method.words, item.path().string());
  }
  if (by_case.empty()) return;
  report.heading("Segmentations");
  report.paragraph(
      "Test subjects that no run was trained on. In each picture, from left to right: the slice, the truth, the "
      "prediction, and where the two agree. The patient's right is on the left. The structures:");
  for (const Method& method : methods)
    if (const auto runs = runs_of(demo, "segmentation", method); !runs.empty()) {
      report.key(overlay_key(runs[0]));
      break;
    }
  std::size_t shown = 0;
  for (const auto& [name, pictures] : by_case) {
    if (++shown > 3) break;
    report.subheading(name.substr(0, name.find('.')));
    for (const auto& [words, path] : pictures) report.png(read_text_file(path), words);
  }
}

void add_embeddings(Report& report, const std::string& demo) {
  const std::string path = demo + "/embed/embeddings.json";
  if (!there(path)) return;
  const Json json = read_json(path);
  report.heading("Shared space");
  report.svg(
      read_text_file(demo + "/embed/embeddings.svg"),
      "Volumes, slices and captions after pretraining; a line joins each volume with its slice and its caption.");
  Table table({"pair", "modality gap", "recall@1", "recall@5"});
  const std::pair<const char*, const char*> pairs[] = {
      {"volume_slice", "volume and slice"}, {"volume_text", "volume and caption"}, {"slice_text", "slice and caption"}};
  for (const auto& [key, words] : pairs)
    table.add({words, fixed_text(json.at(key).at("modality_gap").get<double>(), 3),
               fixed_text(json.at(key).at("recall_at_1").get<double>(), 3),
               fixed_text(json.at(key).at("recall_at_5").get<double>(), 3)});
  const double count = json.at("count").get<double>();
  report.table(
      table,
      text("Recall is measured among ", json.at("count").get<Index>(), " triplets of the training set; chance is ",
           fixed_text(1 / count, 3), " and ", fixed_text(5 / count, 3), ". Mean cosine of two volumes: ",
           fixed_text(json.at("mean_pairwise_cosine").at("volume").get<double>(), 3), " (1 would be collapse)."));
}

/// times.tsv: stage, seconds, command; one line each.
void add_commands(Report& report, const std::string& demo) {
  const std::string path = demo + "/times.tsv";
  report.heading("How it was made");
  if (there(path)) {
    Table table({"stage", "time"});
    double total = 0;
    std::string commands;
    const std::string lines = read_text_file(path);
    for (std::size_t at = 0; at < lines.size();) {
      const std::size_t end = std::min(lines.find('\n', at), lines.size());
      const std::string line = lines.substr(at, end - at);
      at = end + 1;
      const std::size_t a = line.find('\t'), b = line.find('\t', a + 1);
      if (a == std::string::npos || b == std::string::npos) continue;
      const double seconds = std::strtod(line.c_str() + a + 1, nullptr);
      total += seconds;
      table.add({line.substr(0, a), duration_text(seconds)});
      commands += line.substr(b + 1) + "\n";
    }
    table.add({"all", duration_text(total)});
    report.table(table, "Time of each stage.");
    report.code(commands, "Commands");
  }
  if (there(demo + "/pretrain/config.json"))
    report.code(read_text_file(demo + "/pretrain/config.json"), "Configuration of the pretraining");
}

int run(const std::string& demo, const std::string& out) {
  require<FileError>(fs::is_directory(demo), demo, ": no such folder; expected the output folder of scripts/demo.sh");
  const bool any = there(demo + "/times.tsv") || there(demo + "/triplets") || there(demo + "/segmentation");
  require<FileError>(any, demo, ": holds nothing of a demonstration; expected the output folder of scripts/demo.sh");
  const bool own = !there(demo + "/segmentation");
  Report report(own ? "Med3DInsight: pretraining on your volumes" : "Med3DInsight on phantoms",
                own ? "Triplets, towers and pretraining with m3i"
                    : "The whole method with m3i, from synthetic volumes to a comparison");
  if (!own) add_results(report, demo);
  if (!own) add_overlays(report, demo);
  add_triplets(report, demo);
  add_pretraining(report, demo);
  add_embeddings(report, demo);
  add_commands(report, demo);
  report.save(out);
  std::printf("demo_report: wrote %s\n", out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Writes one HTML page, without outside resources, about what scripts/demo.sh has left in DEMO: results, "
        "pictures,\n"
        "triplets, curves, times and commands. Parts that are not there are left out.");
    std::string demo, out;
    app.add_option("demo", demo, "output folder of scripts/demo.sh")->required();
    app.add_option("out", out, "the page to write, report.html")->required();
    app.footer("Example:  demo_report demo-output demo-output/report.html");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(demo, out);
  });
}
