// Fine-tunes the volume network for classification (paper, 4.2.2): the pretrained encoder, its deepest map pooled, and
// a linear head with cross-entropy; validated while it learns, the best model tested.
//
//     finetune_classification data/phantoms runs/cls --pretrained runs/pretrain/model.safetensors --config
//     configs/demo.json

#include <CLI/CLI.hpp>

#include "m3i/ops/loss.hpp"
#include "m3i/train.hpp"

namespace {

using namespace m3i;
using T = float;

struct Request {
  std::string data, out, pretrained, split;
  bool resume = false;
};

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

/// One step of gradient descent on one batch. Returns the loss; when it is not finite nothing has been changed.
double training_step(const MixedNetwork<ClassificationModel>& network,
                     const VolumeBatch& batch,
                     const Tensor<std::int64_t>& labels,
                     const ClassificationConfig& c,
                     Trainer<T>& trainer,
                     Random random,
                     OrderedJson& record) {
  const Var<T> logits = network(Var<T>(batch.images), Mode{true, &random});
  return descend(cross_entropy(logits, labels, c.label_smoothing), trainer, record, network.precision());
}

/// The model's probabilities for some entries.
std::vector<ClassifiedCase> classify(const MixedNetwork<ClassificationModel>& network,
                                     const Cohort& cohort,
                                     const std::vector<Index>& entries,
                                     const SampleSource& samples,
                                     Device device) {
  std::vector<ClassifiedCase> cases;
  for (const Index e : entries) {
    const SubjectEntry& entry = cohort.entry(e);
    cases.push_back(
        {entry.subject, entry.image, *entry.class_label, class_probabilities(network, samples.image(e), device)});
  }
  return cases;
}

/// Mean log-likelihood of the true classes: finer than accuracy where the validation subjects are few.
double log_likelihood(const std::vector<ClassifiedCase>& cases) {
  double sum = 0;
  for (const ClassifiedCase& c : cases) sum += std::log(std::max(c.probabilities[std::size_t(c.label)], 1e-12));
  return cases.empty() ? std::nan("") : sum / double(cases.size());
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

int run(const Request& request, const MethodConfig& config) {
  const ClassificationConfig& c = config.classification;
  const std::string& out = request.out;
  const Device device = Device::parse(config.run.device);

  // Everything that can be wrong with the input is found before anything is written.
  require_whole_volumes(config, "finetune_classification");
  const Cohort cohort =
      load_cohort(request.data, request.split, Task::classification, config, c.training.train_fraction);
  const auto classes = classes_of(cohort);
  const ClassificationModel<T> model(config, Index(classes.size()));
  start_from_pretrained("finetune_classification", model, request.pretrained, config);
  to(model, device);
  const MixedNetwork<ClassificationModel> network(config.run.dtype, model, config, Index(classes.size()));
  const auto entries = c.balance ? balanced_entries(cohort, cohort.train) : cohort.train;
  const FinetunePlan plan(Index(entries.size()), c.training);
  std::printf(
      "finetune_classification: %s\nfinetune_classification: %zu classes, %lld parameters, %lld steps of %lld, device "
      "%s, %s\n",
      cohort_text(cohort).c_str(), classes.size(), (long long)count_parameters(model), (long long)plan.steps,
      (long long)plan.batch, config.run.device.c_str(), enum_name(config.run.dtype).c_str());
  make_folder(out);

  Trainer<T> trainer(parameters<T>(model), c.training.optimizer, plan.steps);
  TrainingRun<T> training(out, config,
                          text("classification of ", classes.size(), " classes, nnformer ", config.network.image_size,
                               ", embedding ", config.network.embedding),
                          plan.steps, "finetune_classification");
  training.add_module("model/", model);
  training.add_trainer("network", trainer);
  training.add_precision(network.precision());
  training.add_note("cohort", cohort_hash(cohort));
  training.start(request.resume);
  write_split(out + "/split.json", cohort.split);
  BestModel<T, ClassificationModel<T>> best(out + "/model.safetensors", model,
                                            {"classification", config, classes, {}, {}},
                                            "mean log-likelihood of the validation subjects");
  if (request.resume) best.resume();

  const SampleSource samples(cohort, config);
  TrainingBatches batches(samples, cohort, entries, false, config, c.training, training.first_step() * plan.batch);
  const int code = training.loop([&](Index step, OrderedJson& record) {
    Stopwatch watch;
    const VolumeBatch batch = batches.next(plan.batch, device);
    training.add_wait(watch.lap());
    record["epoch"] = plan.epoch(step);
    set_trainable(model.network, !plan.head_only(step));
    network.precision().refresh();
    const Random random = Random(config.run.seed, 4).split(std::uint64_t(step));
    const double loss = training_step(network, batch, class_labels(cohort, batch.entries), c, trainer, random, record);
    record["step_seconds"] = watch.lap();
    if (plan.validates(step) && !cohort.validation.empty()) {
      const double likelihood = log_likelihood(classify(network, cohort, cohort.validation, samples, device));
      best.offer(likelihood, step + 1);
      record["validation_loss"] = -likelihood;
    }
    return loss;
  });
  if (code != 0) return code;

  best.finish(plan.steps);
  network.precision().refresh();
  const auto cases = classify(network, cohort, cohort.test, samples, device);
  draw_curves(training.log_path(), cases, out);
  OrderedJson metrics = classification_metrics(cases, classes, config.run.seed);
  metrics["run"] = {{"seed", config.run.seed},
                    {"pretrained", request.pretrained},
                    {"train_images", cohort.train.size()},
                    {"validation_images", cohort.validation.size()},
                    {"steps", plan.steps},
                    {"model_step", best.step()},
                    {"validation_loss", -best.score().value_or(std::nan(""))}};
  write_metrics(out + "/metrics.json", metrics);
  std::printf("finetune_classification: %zu test images, 95 %% bootstrap intervals\n  accuracy %s\n  AUC      %s\n",
              cases.size(), metric_text(metrics, "accuracy").c_str(), metric_text(metrics, "auc").c_str());
  std::printf("finetune_classification: wrote %s/model.safetensors, metrics.json, split.json, loss.svg, log.jsonl\n",
              out.c_str());
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
    Request request;
    ProgramOptions options;
    app.add_option("data", request.data, "folder of NIfTI images with classes")->required();
    app.add_option("out", request.out, "output folder")->required();
    app.add_option("-p,--pretrained", request.pretrained,
                   "model.safetensors of pretrain; without it, training from scratch");
    app.add_option("--split", request.split, "split.json of an earlier run, to compare on the same subjects");
    app.add_flag("--resume", request.resume, "continue the run in OUT from its newest checkpoint");
    options.add_to(app);
    app.footer(
        "Example:  finetune_classification data/phantoms runs/cls -p runs/pretrain/model.safetensors -c "
        "configs/demo.json\n"
        "          ... --set classification.balance=true    where one class is rare\n"
        "With fewer than two classes among the test subjects the AUC is undefined, and metrics.json says so.\n"
        "Ctrl-C saves and leaves; the same command with --resume continues.");
    parse_command_line<CLI::ParseError>(app, argc, argv, options);
    return run(request, options.load());
  });
}
