// Fine-tunes the volume network for classification (paper, 4.2.2): the pretrained encoder, its deepest map pooled, and
// a linear head with cross-entropy; validated while it learns, the best model tested.
//
//     finetune_classification data/phantoms runs/cls --pretrained runs/pretrain/model.safetensors --config
//     configs/demo.json

#include <numeric>

#include <CLI/CLI.hpp>

#include "m3i/dist.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/train.hpp"

namespace {

using namespace m3i;
using T = float;

/// The classes of some entries.
Tensor<std::int64_t> class_labels(const Cohort& cohort, const std::vector<Index>& entries) {
  const Tensor<std::int64_t> labels({Index(entries.size())});
  for (std::size_t i = 0; i < entries.size(); ++i) labels.data()[i] = *cohort.entry(entries[i]).class_label;
  return labels;
}

/// Names of all classes. Throws unless there are at least two, and two among the training subjects.
std::vector<std::string> classes_of(const Cohort& cohort) {
  Index count = Index(cohort.list.classes.size());
  for (const SubjectEntry& e : cohort.list.entries) count = std::max(count, *e.class_label + 1);
  std::set<Index> training;
  for (const Index e : cohort.train) training.insert(*cohort.entry(e).class_label);
  require<ConfigError>(count >= 2 && count <= 256, cohort.list.folder, ": has ", count,
                       " class(es), expected 2 to 256");
  require<ConfigError>(training.size() >= 2, cohort.list.folder, ": the ", cohort.train.size(),
                       " training images are all of class ", *training.begin(),
                       "; use another run.seed, a larger train_fraction, or more subjects");
  return class_names(cohort.list.classes, count);
}

void draw_curves(const std::string& log, const std::vector<ClassifiedCase>& cases, const std::string& out) {
  const LogRecords records = read_log(log);
  const auto loss = records.column("loss"), validation = records.column("validation_loss");
  Chart chart{.title = "Classification", .x = {"step"}, .y = {"cross-entropy"}, .smooth = 25};
  chart.series = {{"training", loss.x, loss.y}, {"validation", validation.x, validation.y}};
  write_file(out + "/loss.svg", line_chart(chart));
  std::vector<double> scores;
  std::vector<std::int64_t> labels;
  for (const ClassifiedCase& c : cases) scores.push_back(c.probabilities[1]), labels.push_back(c.label);
  const Index positives = std::count(labels.begin(), labels.end(), 1), all = Index(labels.size());
  if (positives == 0 || positives == all || cases[0].probabilities.size() != 2) return;  // no curve exists
  const RocCurve roc = roc_curve(scores, labels);
  Chart curve{.title = "Test subjects",
              .x = {"false positive rate", false, 0, 1},
              .y = {"true positive rate", false, 0, 1},
              .width = 420};
  curve.series = {{"ROC", roc.false_positive_rate, roc.true_positive_rate}, {"chance", {0, 1}, {0, 1}}};
  write_file(out + "/roc.svg", line_chart(curve));
}

int run(const FinetuneRequest& request, const MethodConfig& config, Communicator& ranks) {
  const char* const program = "finetune_classification";
  const ClassificationConfig& c = config.classification;
  const std::string& out = request.out;

  require_whole_volumes(config, program);
  const Cohort cohort =
      load_cohort(request.data, request.split, Task::classification, config, c.training.train_fraction);
  const auto classes = classes_of(cohort);
  Finetuning<ClassificationModel> run(
      {.program = program,
       .training = c.training,
       .model = {"classification", config, classes, {}, {}},
       .items = c.balance ? balanced_entries(cohort, cohort.train) : cohort.train,
       .with_labels = false,
       .targets = [&](const VolumeBatch& batch) { return class_labels(cohort, batch.entries); },
       .score = "mean log-likelihood of the validation subjects",
       .stream = 4},
      request, config, cohort, ranks);

  const SampleSource samples(cohort, config);
  const auto classify = [&](Index e) {
    const SubjectEntry& entry = cohort.entry(e);
    const Device device = Device::parse(config.run.device);
    return ClassifiedCase{entry.subject, entry.image, *entry.class_label,
                          class_probabilities(run.network(), samples.image(e), device)};
  };
  const auto loss = [&](const Tensor<T>& images, const Tensor<std::int64_t>& labels, const Mode& mode) {
    return cross_entropy(run.network()(Var<T>(images), mode), labels, c.label_smoothing);
  };
  // Mean log-likelihood of the true classes: finer than accuracy where the validation subjects are few.
  const auto validate = [&](OrderedJson& record) {
    const auto likelihoods = shared_scores(ranks, cohort.validation, [&](Index entry) {
      const ClassifiedCase one = classify(entry);
      return std::log(std::max(one.probabilities[std::size_t(one.label)], 1e-12));
    });
    const double mean = std::accumulate(likelihoods.begin(), likelihoods.end(), 0.0) / double(likelihoods.size());
    record["validation_loss"] = -mean;
    return mean;
  };
  const int code = run.train(samples, loss, validate);
  if (code != 0 || !ranks.first()) return code;

  run.load_best();
  std::vector<ClassifiedCase> cases;
  for (const Index entry : cohort.test) cases.push_back(classify(entry));
  draw_curves(run.log_path(), cases, out);
  OrderedJson metrics = classification_metrics(cases, classes, config.run.seed);
  metrics["run"] = run.facts("validation_loss", -1);
  write_metrics(out + "/metrics.json", metrics);
  std::printf("%s: %zu test images, 95 %% bootstrap intervals\n  accuracy %s\n  AUC      %s\n", program, cases.size(),
              metric_text(metrics, "accuracy").c_str(), metric_text(metrics, "auc").c_str());
  std::printf("%s: wrote %s/model.safetensors, metrics.json, split.json, loss.svg, log.jsonl\n", program, out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Fine-tunes the encoder of the volume network to classify volumes. The class of an image stands in "
        "dataset.json\n"
        "(\"class\": 1) or in classes.json ({\"subject\": 1}), numbered from 0.\n"
        "Subjects are split 7:1:2, or as data.split_by says; the model that is best on the validation subjects is "
        "tested.\n"
        "Makes OUT/model.safetensors, metrics.json, split.json, loss.svg, roc.svg, log.jsonl, checkpoints.");
    FinetuneRequest request;
    ProgramOptions options;
    request.add_to(app, "folder of NIfTI images with classes");
    options.add_to(app);
    options.add_ranks_to(app);
    app.footer(
        "Example:  finetune_classification data/phantoms runs/cls -p runs/pretrain/model.safetensors -c "
        "configs/demo.json\n"
        "          ... --set classification.balance=true    where one class is rare\n"
        "With fewer than two classes among the test subjects the AUC is undefined, and metrics.json says so.\n"
        "Ctrl-C saves and leaves; the same command with --resume continues.");
    parse_command_line<CLI::ParseError>(app, argc, argv, options);
    return options.run_on_ranks(
        [&](const MethodConfig& config, Communicator& ranks) { return run(request, config, ranks); });
  });
}
