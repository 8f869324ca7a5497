#pragma once
/// Finetuning: what the programs that fine-tune the volume network share, from the command line to the best model.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "m3i/dist/shared_rows.hpp"
#include "m3i/train/cohort.hpp"
#include "m3i/train/finetune.hpp"
#include "m3i/train/program.hpp"
#include "m3i/train/recorded_step.hpp"
#include "m3i/train/samples.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What the user asks for.
struct FinetuneRequest {
  std::string data, out, pretrained, split;
  bool resume = false;

  /// App is CLI::App; `data_words` say what the folder holds.
  template <class App>
  void add_to(App& app, const std::string& data_words) {
    app.add_option("data", data, data_words)->required();
    app.add_option("out", out, "output folder")->required();
    app.add_option("-p,--pretrained", pretrained, "model.safetensors of pretrain; without it, training from scratch");
    app.add_option("--split", split, "split.json of an earlier run, to compare on the same subjects");
    app.add_flag("--resume", resume, "continue the run in OUT from its newest checkpoint");
  }
};

/// What distinguishes one task from another.
struct FinetuneTask {
  std::string program;
  FinetuneConfig training;
  ModelInfo model;           ///< of the file that results
  std::vector<Index> items;  ///< entries of an epoch; one may be listed more than once
  bool with_labels;          ///< batches carry label volumes
  /// What the loss compares a batch with.
  std::function<Tensor<std::int64_t>(const VolumeBatch&)> targets;
  std::string score;     ///< what validation maximises, in words
  std::uint64_t stream;  ///< of the random numbers of dropout
};

/// f(entry) for each entry, computed by the ranks in turn; the same values on all of them, whatever their number.
template <class F>
std::vector<double> shared_scores(Communicator& ranks, const std::vector<Index>& entries, const F& f) {
  const auto score = [&](Index i, Index) { return Tensor<double>::full({1, 1}, f(entries[std::size_t(i)])); };
  return shared_rows<double>(ranks, Index(entries.size()), 1, 1, score).to_vector();
}

/// One fine-tuning on one process or several, which share each batch and the validation; the first alone writes.
///
///     Finetuning<SegmentationModel> run(task, request, config, cohort, ranks);
///     const int code = run.train(samples, loss, validate);
///     if (code != 0 || !ranks.first()) return code;
///     run.load_best();
template <template <class> class Model>
class Finetuning {
 public:
  /// Builds the network, loads what was pretrained, and prepares the folder. Nothing is written before all that can be
  /// wrong with request and task has been found.
  Finetuning(const FinetuneTask& task,
             const FinetuneRequest& request,
             const MethodConfig& config,
             const Cohort& cohort,
             Communicator& ranks)
      : task_(task),
        request_(request),
        config_(config),
        cohort_(cohort),
        ranks_(ranks),
        device_(Device::parse(config.run.device)),
        plan_(Index(task.items.size()), task.training),
        shard_(batch_shard(ranks, plan_.batch)),
        model_(initial_model(task, request, config)),
        network_(config.run.dtype, model_, config, classes()),
        trainer_(parameters<float>(model_), task.training.optimizer, plan_.steps),
        training_(request.out,
                  config,
                  text(task.model.kind, " of ", classes(), " classes, ", network_text(config.network)),
                  plan_.steps,
                  task.program),
        best_(request.out + "/model.safetensors", model_, task.model, task.score) {
    require_recordable(config.run, ranks);
    std::printf("%s: %s\n%s: %s, %lld classes, %lld parameters, %lld steps of %lld, device %s, %s\n",
                task.program.c_str(), cohort_text(cohort).c_str(), task.program.c_str(),
                network_text(config.network).c_str(), (long long)classes(), (long long)count_parameters(model_),
                (long long)plan_.steps, (long long)plan_.batch, config.run.device.c_str(),
                enum_name(config.run.dtype).c_str());
    make_folder(request.out);
    training_.add_module("model/", model_);
    training_.add_trainer("network", trainer_);
    training_.add_precision(network_.precision());
    training_.add_ranks(ranks);
    training_.add_note("cohort", cohort_hash(cohort));
    training_.start(request.resume);
    if (!ranks.first()) return;
    write_split(request.out + "/split.json", cohort.split);
    if (request.resume) best_.resume();
  }

  const MixedNetwork<Model>& network() const { return network_; }
  Index classes() const { return task_.model.classes(); }
  std::string log_path() const { return training_.log_path(); }

  /// All steps, or until Ctrl-C. Returns the program's exit code.
  ///
  ///   loss      (images, targets, Mode) -> Var<float> of this rank's part of a batch: a mean over its volumes, which
  ///             the ranks' mean makes one over the batch. Works on the device alone
  ///   validate  (OrderedJson& record) -> double, the score of the model as it is; called on every rank
  template <class Loss, class Validate>
  int train(const SampleSource& samples, const Loss& loss, const Validate& validate) {
    DataParallel<float> parallel(ranks_, parameters<float>(model_));
    TrainingBatches batches(samples, cohort_, task_.items, task_.with_labels, config_, task_.training, shard_,
                            training_.first_step() * plan_.batch);
    Tensor<float> images;
    Tensor<std::int64_t> targets;
    ReplayedRandom numbers(device_);
    Var<float> value;
    RecordedStep compute(config_.run, [&] {
      Random random = numbers.random();
      value = loss(images, targets, Mode{true, &random});
      differentiate(value, trainer_, parallel, network_.precision());
    });
    return training_.loop([&](Index step, OrderedJson& record) {
      Stopwatch watch;
      const VolumeBatch batch = batches.next(device_);
      training_.add_wait(watch.lap());
      record["epoch"] = plan_.epoch(step);
      set_trainable(model_.body(), !plan_.head_only(step));
      network_.precision().refresh();
      compute.give(images, batch.images);
      compute.give(targets, task_.targets(batch).to(device_));
      numbers.set(random_of_rank(ranks_, Random(config_.run.seed, task_.stream).split(std::uint64_t(step))));
      compute(2 * network_.precision().scale.exponent + plan_.head_only(step));
      const double taken = take_step(value, trainer_, parallel, network_.precision(), record);
      record["step_seconds"] = watch.lap();
      if (plan_.validates(step) && !cohort_.validation.empty()) {
        const double score = validate(record);
        if (ranks_.first()) best_.offer(score, step + 1);
      }
      return taken;
    });
  }

  /// The best model, or without validation the last one, takes the place of the last. For the first rank.
  void load_best() {
    best_.finish(plan_.steps);
    network_.precision().refresh();
  }
  /// What metrics.json says about the run; `score_name` names validation's score, which is written times `sign`.
  OrderedJson facts(const std::string& score_name, double sign = 1) const {
    return {{"seed", config_.run.seed},
            {"pretrained", request_.pretrained},
            {"train_images", cohort_.train.size()},
            {"validation_images", cohort_.validation.size()},
            {"steps", plan_.steps},
            {"model_step", best_.step()},
            {score_name, sign * best_.score().value_or(std::nan(""))}};
  }

 private:
  static Model<float> initial_model(const FinetuneTask& task,
                                    const FinetuneRequest& request,
                                    const MethodConfig& config) {
    const Model<float> model(config, task.model.classes());
    start_from_pretrained(task.program.c_str(), model, request.pretrained, config);
    to(model, Device::parse(config.run.device));
    return model;
  }

  const FinetuneTask task_;
  const FinetuneRequest request_;
  const MethodConfig config_;
  const Cohort& cohort_;
  Communicator& ranks_;
  const Device device_;
  const FinetunePlan plan_;
  const BatchShard shard_;
  const Model<float> model_;
  const MixedNetwork<Model> network_;
  Trainer<float> trainer_;
  TrainingRun<float> training_;
  BestModel<float, Model<float>> best_;
};

}  // namespace M3I_ABI
}  // namespace m3i
