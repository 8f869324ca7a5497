// Scores a model on a data set, or label files that any program has predicted.
//
//     evaluate runs/seg/model.safetensors data/phantoms scores --split runs/seg/split.json --part test
//     evaluate --predictions labels/ --labels data/phantoms/labelsTr scores

#include <CLI/CLI.hpp>

#include "m3i/train.hpp"

namespace {

using namespace m3i;
namespace fs = std::filesystem;

struct Request {
  std::vector<std::string> paths;  ///< MODEL DATA OUT, or OUT
  std::string predictions, labels, split, part = "all", convention = "monai", device = "cpu";
  std::vector<std::string> names;
  std::string empty;         ///< policy for empty masks; "": the convention's own
  double nsd_tolerance = 1;  ///< mm (nnformer: voxels)

  SegmentationScores scores(const LabelScheme& scheme) const {
    SegmentationScores out{parse_convention(convention), scheme.names, scheme.values, {}, nsd_tolerance};
    if (!empty.empty()) out.empty = parse_empty(empty);
    return out;
  }
  InferenceRequest inference;
};

void write_scores(const std::string& program, const SegmentationScores& scores, const std::string& out) {
  make_folder(out);
  write_metrics(out + "/metrics.json", scores_json(scores));
  write_file(out + "/scores.csv", scores_csv(scores));
  std::printf("%s%s\n%s\n%s: wrote %s/metrics.json, scores.csv\n", table_text(scores_table(scores)).c_str(),
              scores.dice_text().c_str(), scores.hd95_text().c_str(), program.c_str(), out.c_str());
}

// A model on a data set
// ------------------------------------------------------------------------------------------------

/// The images to score. Without a split all of them, whatever the configuration's ratios.
Cohort cohort_of(const Request& request, Task task, const MethodConfig& config, const std::string& data) {
  require<UsageError>(request.part == "all" || !request.split.empty(), "--part ", request.part,
                      " needs --split split.json");
  return load_cohort(data, request.split, task, config);
}

void evaluate_segmentation(const Request& request, const ModelFile& file, const Cohort& cohort, Device device) {
  const auto model = load_segmentation_model(file, device);
  const LabelScheme scheme{file.info.names, file.info.values};
  SegmentationScores scores = request.scores(scheme);
  const auto entries = cohort.part(request.part);
  Progress progress("evaluate", Index(entries.size()));
  Segmenter<float> segmenter(model, file.info.config.network.image_size, scheme.classes(), device,
                             request.inference.options(file.info.config),
                             [&](const std::string& line) { progress.say("evaluate: " + line); });
  for (const Index e : entries) {
    const SubjectEntry& entry = cohort.entry(e);
    const auto truth =
        LabelTable(scheme, cohort.structures(e)).classes(read_labels<std::int32_t>(entry.labels).voxels, entry.labels);
    const auto prediction =
        segmenter.on_input_grid(apply(preprocessing_chain(file.info), read_nifti<float>(entry.image)));
    SegmentationCase one = score_case(scores, prediction.voxels, truth, spacing_mm(prediction.affine));
    one.subject = entry.subject, one.image = entry.image, one.labels = entry.labels;
    scores.cases.push_back(std::move(one));
    progress.update(Index(scores.cases.size()));
  }
  write_scores("evaluate", scores, request.paths[2]);
}

void evaluate_classification(const Request& request, const ModelFile& file, const Cohort& cohort, Device device) {
  const auto model = load_classification_model(file, device);
  std::vector<ClassifiedCase> cases;
  Table table({"image", "class", "predicted", "probability"});
  for (const Index e : cohort.part(request.part)) {
    const SubjectEntry& entry = cohort.entry(e);
    require<FileError>(*entry.class_label < file.info.classes(), entry.image, ": is of class ", *entry.class_label,
                       ", the model has ", file.info.classes(), " classes");
    const auto volume = read_preprocessed(entry.image, preprocessing_chain(file.info)).volume.voxels;
    cases.push_back({entry.subject, entry.image, *entry.class_label, class_probabilities(model, volume, device)});
    const ClassifiedCase& one = cases.back();
    table.add({fs::path(entry.image).filename().string(), file.info.names[std::size_t(one.label)],
               file.info.names[std::size_t(one.predicted())],
               fixed_text(one.probabilities[std::size_t(one.predicted())], 3)});
  }
  make_folder(request.paths[2]);
  const OrderedJson metrics = classification_metrics(cases, file.info.names, file.info.config.run.seed);
  write_metrics(request.paths[2] + "/metrics.json", metrics);
  write_file(request.paths[2] + "/cases.csv", classification_csv(cases, file.info.names));
  std::printf("%s  accuracy %s\n  AUC      %s\nevaluate: wrote %s/metrics.json, cases.csv\n", table_text(table).c_str(),
              metric_text(metrics, "accuracy").c_str(), metric_text(metrics, "auc").c_str(), request.paths[2].c_str());
}

void evaluate_model(const Request& request) {
  const ModelFile file = read_model(request.paths[0]);
  require<FileError>(file.info.kind != "pretrained", file.path(),
                     ": is pretrained only and predicts nothing; fine-tune it first");
  const Device device = Device::parse(request.device);
  const bool segmentation = file.info.kind == "segmentation";
  const Cohort cohort =
      cohort_of(request, segmentation ? Task::segmentation : Task::classification, file.info.config, request.paths[1]);
  std::printf("evaluate: %s model, part \"%s\" of %s: %zu images\nevaluate: preprocessing: %s\n",
              file.info.kind.c_str(), request.part.c_str(), request.paths[1].c_str(), cohort.part(request.part).size(),
              preprocessing_text(file.info).c_str());
  make_folder(request.paths[2]);  // before the long work
  if (segmentation) evaluate_segmentation(request, file, cohort, device);
  else evaluate_classification(request, file, cohort, device);
}

// Label files against label files
// ---------------------------------------------------------------------------------------

/// NIfTI files of a folder, or one file, by their names without ending.
std::map<std::string, std::string> files_by_name(const std::string& path) {
  std::error_code error;
  require<FileError>(fs::exists(path, error), path, ": no such file or folder");
  const auto files = fs::is_directory(path, error) ? detail::nifti_files(path) : std::vector<std::string>{path};
  require<FileError>(!files.empty(), path, ": holds no .nii or .nii.gz file");
  std::map<std::string, std::string> out;
  for (const std::string& file : files) {
    const auto [at, fresh] = out.emplace(detail::nifti_stem(file), file);
    require<FileError>(fresh, file, ": has the same name as ", at->second, "; evaluate their folders one by one");
  }
  return out;
}

struct FilePair {
  std::string name, prediction, labels;
};

/// Pairs X with X, else with X_label, X_seg, ...; X_0000 (a channel of nnU-Net) also with X. A single file on each side
/// is a pair whatever its name. Every prediction must have labels; labels without a prediction are counted, because a
/// mean without them may look better.
std::vector<FilePair> pair_files(const Request& request) {
  const auto predictions = files_by_name(request.predictions), labels = files_by_name(request.labels);
  if (predictions.size() == 1 && labels.size() == 1)
    return {{predictions.begin()->first, predictions.begin()->second, labels.begin()->second}};
  std::vector<FilePair> pairs;
  std::string missing;
  for (const auto& [name, file] : predictions) {
    auto at = labels.find(name);
    const auto is_target = [&, start = name](const auto& item) {
      const auto words = detail::name_words(item.first.substr(std::min(start.size(), item.first.size())));
      return item.first.rfind(start, 0) == 0 && words.size() == 2 && words[0].empty() &&
             detail::is_target_word(words[1]);
    };
    if (at == labels.end()) at = std::find_if(labels.begin(), labels.end(), is_target);
    if (at == labels.end()) at = labels.find(detail::without_channel(name));
    if (at == labels.end()) missing += "\n  " + file;
    else pairs.push_back({name, file, at->second});
  }
  require<FileError>(missing.empty(), request.labels, ": has no label file of the name of", missing);
  if (pairs.size() < labels.size())
    std::printf("evaluate: note: %zu of %zu label files have no prediction and are not scored\n",
                labels.size() - pairs.size(), labels.size());
  return pairs;
}

/// All values that occur, as a scheme; names from --names where given.
LabelScheme scheme_of(const std::vector<FilePair>& pairs, const std::vector<std::string>& names) {
  std::set<std::int32_t> values{0};
  for (const FilePair& pair : pairs) {
    const auto prediction = read_labels<std::int32_t>(pair.prediction), labels = read_labels<std::int32_t>(pair.labels);
    check_same_grid(pair.labels, labels.grid(), pair.prediction, prediction.grid());
    values.insert(prediction.voxels.data(), prediction.voxels.data() + prediction.voxels.size());
    values.insert(labels.voxels.data(), labels.voxels.data() + labels.voxels.size());
  }
  for (std::size_t v = 1; v <= names.size(); ++v) values.insert(std::int32_t(v));
  LabelScheme scheme;
  for (const std::int32_t v : values) {
    const bool named = v > 0 && v <= std::int32_t(names.size());
    scheme.names.push_back(v == 0 ? "background" : named ? names[std::size_t(v - 1)] : text("label ", v));
    scheme.values.push_back(v);
  }
  detail::check_class_count(pairs[0].labels, scheme.names.size());
  return scheme;
}

void evaluate_files(const Request& request) {
  const auto pairs = pair_files(request);
  make_folder(request.paths[0]);
  const LabelScheme scheme = scheme_of(pairs, request.names);
  const LabelTable table(scheme, {});
  SegmentationScores scores = request.scores(scheme);
  for (const FilePair& pair : pairs) {
    const auto prediction = read_labels<std::int32_t>(pair.prediction), labels = read_labels<std::int32_t>(pair.labels);
    SegmentationCase one = score_case(scores, table.classes(prediction.voxels, pair.prediction),
                                      table.classes(labels.voxels, pair.labels), spacing_mm(labels.affine));
    one.subject = pair.name, one.image = pair.prediction, one.labels = pair.labels;
    scores.cases.push_back(std::move(one));
  }
  write_scores("evaluate", scores, request.paths[0]);
}

int run(const Request& request) {
  const bool files = !request.predictions.empty() || !request.labels.empty();
  request.scores({});
  if (files) {
    require<UsageError>(!request.predictions.empty() && !request.labels.empty(),
                        "--predictions and --labels belong together");
    require<UsageError>(request.paths.size() == 1, "with --predictions and --labels one path is expected, OUT; found ",
                        request.paths.size());
    require<UsageError>(request.split.empty() && request.part == "all",
                        "--split and --part belong to the evaluation of a model");
    evaluate_files(request);
  } else {
    require<UsageError>(request.paths.size() == 3,
                        "expected MODEL DATA OUT, or --predictions DIR --labels DIR OUT; found ", request.paths.size(),
                        " path(s)");
    evaluate_model(request);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Scores segmentations by Dice and surface distances (HD95, HD, ASSD, NSD), classifications by accuracy and "
        "AUC.\n"
        "  evaluate MODEL DATA OUT                              a model on a data set\n"
        "  evaluate --predictions DIR --labels DIR OUT          label files that any program has written\n"
        "Prints a table; makes OUT/metrics.json and OUT/scores.csv with every case and structure (classifications: "
        "cases.csv).\nmetrics.json names the conventions and says what the columns mean; `compare` takes two "
        "scores.csv.");
    Request request;
    app.add_option("paths", request.paths, "MODEL DATA OUT, or OUT alone")->required()->expected(1, 3);
    app.add_option("--split", request.split, "split.json of the run that made the model");
    app.add_option("--part", request.part, "train, validation, test (with --split) or all")->capture_default_str();
    app.add_option("--predictions", request.predictions, "predicted labels: a folder, or one file");
    app.add_option("--labels", request.labels, "true labels of the same names: X.nii.gz, X_label.nii.gz, X_seg.nii.gz");
    app.add_option("--names", request.names, "names of labels 1, 2, ... (with --predictions), separated by commas")
        ->delimiter(',');
    app.add_option("--convention", request.convention,
                   "of HD95: monai (mm, the larger direction), medpy (mm, both directions together), nnformer (as "
                   "medpy, in voxels,\n"
                   "and empty masks count 0). Figures of different conventions cannot be compared")
        ->capture_default_str();
    app.add_option(
           "--nsd-tolerance", request.nsd_tolerance,
           "of the normalised surface distance (NSD), in mm (nnformer: voxels): how far a surface may be off and "
           "still count")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    app.add_option("--empty", request.empty,
                   "value where the prediction or the reference has no voxel: skip, zero, perfect (distance 0, overlap "
                   "1), diagonal\n"
                   "(of the image, overlap 0), infinite (overlap 0) or error; or three of them for both empty, "
                   "prediction empty,\n"
                   "reference empty: perfect,diagonal,diagonal. Default: what the named software does");
    app.add_option("--device", request.device, "cpu, cuda:0, ...")->capture_default_str();
    request.inference.add_to<CLI::Range>(app);
    app.footer(
        "Example:  evaluate runs/seg/model.safetensors data/phantoms scores --split runs/seg/split.json --part test\n"
        "          evaluate --predictions labels/ --labels data/phantoms/labelsTr scores --names skull,brain\n"
        "Without --empty, a structure that is absent from the reference has no Dice and is left out of means "
        "(nnformer: 1 or 0); a\n"
        "structure that is missed or invented has no HD95 (nnformer: 0). Both are counted. Spacing comes from the "
        "label file's header.");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(request);
  });
}
