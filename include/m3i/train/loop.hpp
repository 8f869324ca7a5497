#pragma once
/// The loop around a training step: log, progress, checkpoints, Ctrl-C, resuming, and steps that go wrong.
///
///     TrainingRun<float> run("out", config, "nnformer 128", total_steps);
///     run.add_module("model/", network);
///     run.add_trainer("network", trainer);
///     run.start(resume);
///     return run.loop([&](Index step, OrderedJson& record) { ...; return loss; });
///
/// Resuming gives the same bits as never having stopped, as long as a step depends on its number and on what was added
/// here alone.

#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "m3i/dist/data_parallel.hpp"
#include "m3i/io/checkpoint.hpp"
#include "m3i/train/build.hpp"
#include "m3i/train/interrupt.hpp"
#include "m3i/train/log.hpp"
#include "m3i/train/progress.hpp"
#include "m3i/train/weights.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Seconds since the last call.
class Stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// Takes a step with finite loss and gradients and returns the loss. Else NaN, and nothing has changed; but where the
/// gradients alone are not finite and the loss in half was scaled, the scale is halved, the step skipped, and no harm
/// done: it returns the loss.
template <class Take>
double guarded_step(double loss, double grad_norm, MixedPrecision& mixed, OrderedJson& record, const Take& take) {
  if (mixed.scale.exponent > 0) record["loss_scale"] = mixed.scale.value();
  if (!std::isfinite(loss)) return std::nan("");
  if (!std::isfinite(grad_norm)) {
    if (!mixed.scale.reduce()) return std::nan("");
    record["skipped"] = true;
    return loss;
  }
  take();
  mixed.scale.accept();
  mixed.refresh();
  return loss;
}

/// Gradients of the float weights: the mean over the ranks. With small weights, after those have been collected.
inline void backward(const Var<float>& loss, MixedPrecision& mixed, DataParallel<float>& parallel) {
  if (!mixed.active()) return parallel.backward(loss);
  backward(loss);
  mixed.collect();
  parallel.average();
}

template <class T>
class TrainingRun {
 public:
  /// `folder` gets config.json, log.jsonl and checkpoints/. `network` says in words what is trained: a checkpoint of
  /// something else is refused.
  TrainingRun(std::string folder, const MethodConfig& config, std::string network, Index total_steps, std::string name)
      : folder_(std::move(folder)),
        config_(config),
        total_(total_steps),
        name_(std::move(name)),
        checkpoints_(folder_ + "/checkpoints", config.run.keep) {
    state_.network = std::move(network);
    state_.seed = config.run.seed;
    state_.config = parse_json(config_text(config), "configuration");
  }

  template <class Module>
  void add_module(const std::string& prefix, const Module& module) {
    for (auto& slot : state_slots<T>(module, prefix)) slots_.push_back(std::move(slot));
    sources_.push_back([prefix, module] { return state_arrays<T>(module, prefix); });
  }
  /// The optimiser's moments and step count. It must outlive the run.
  void add_trainer(const std::string& name, Trainer<T>& trainer) {
    const std::string prefix = "optimizer/" + name + "/";
    for (const auto& [key, tensor] : trainer.state())
      slots_.push_back(
          {prefix + key, tensor.shape(), Layout::same, [tensor = tensor](const Tensor<T>& v) { tensor.copy_from(v); }});
    sources_.push_back([prefix, &trainer] {
      std::vector<NamedArray> arrays;
      for (const auto& [key, tensor] : trainer.state()) arrays.emplace_back(prefix + key, tensor);
      return arrays;
    });
    trainers_.emplace_back(name, &trainer);
  }
  /// Copies of the weights in a small type: made again when weights are restored, with the scale of the loss. It must
  /// outlive the run.
  void add_precision(MixedPrecision& mixed) {
    if (mixed.active()) precision_.push_back(&mixed);
  }
  /// Ranks that take the same steps: rank 0 writes, Ctrl-C and non-finite losses count for all. It must outlive the
  /// run.
  void add_ranks(Communicator& ranks) { ranks_ = &ranks; }
  /// A note that must be equal when the run is resumed, such as a checksum of the data.
  void add_note(const std::string& key, const std::string& value) { state_.notes[key] = value; }

  /// Refuses a folder that holds a run, unless it is to be resumed. start() does so too; this is for before long work.
  void require_free(bool resume) const {
    require<ConfigError>(resume || checkpoints_.empty(), folder_, ": holds a run already (",
                         checkpoints_.steps().size(), " checkpoints); use --resume to continue it, or another folder");
  }

  /// Prepares the folder. With `resume`, continues from the newest checkpoint; without, a folder that holds a run is
  /// refused, so that nothing is overwritten.
  void start(bool resume) {
    require_free(resume);
    if (!checkpoints_.empty()) restore();
    for (const MixedPrecision* mixed : precision_) mixed->refresh();
    require<RankError>(ranks_->mean(double(first_)) == double(first_), folder_,
                       ": the ranks do not see the same checkpoints; all must read one folder");
    if (!ranks_->first()) return;
    log_.emplace(resume ? RunLog::resume(log_path(), first_) : RunLog::create(log_path()));
    if (resume && checkpoints_.empty())
      std::printf("%s: nothing to continue in %s: starts at the first step\n", name_.c_str(), folder_.c_str());
    else if (resume)
      std::printf("%s: continues after step %lld of %lld\n", name_.c_str(), (long long)first_, (long long)total_);
    AtomicFile file(folder_ + "/config.json");
    file.write(config_text(config_));
    file.commit();
  }

  Index first_step() const { return first_; }
  std::string log_path() const { return folder_ + "/log.jsonl"; }
  /// Time that the current step waited for data, for the log and the progress line.
  void add_wait(double seconds) { waited_ += seconds; }

  /// Calls step(number, record) until all steps are done or Ctrl-C; it returns the loss, or NaN after having left
  /// everything unchanged. Returns the program's exit code: 0, or 130 after Ctrl-C.
  template <class Step>
  int loop(const Step& step) {
    const bool first_rank = ranks_->first();
    Interrupt interrupt(first_rank ? Interrupt::usual : "");
    std::optional<Progress> progress;
    if (first_rank) progress.emplace(name_, total_, ProgressOptions{.done = first_});
    Stopwatch watch;
    Index bad = 0;
    for (Index i = first_; i < total_; ++i) {
      OrderedJson record{{"step", i + 1}};
      waited_ = 0;
      const double loss = loss_of(step, i, record);
      bad = std::isfinite(loss) ? 0 : bad + 1;
      record["data_wait"] = waited_;
      record["seconds"] = watch.lap();
      if (progress) progress->add_wait(waited_);
      const bool validated = record.contains("validation") || record.contains("validation_loss");
      const bool noted = i % config_.run.log_every == 0 || i + 1 == total_ || bad > 0 || validated;
      if (noted && log_) log_->write(record);
      const bool stop = ranks_->any(interrupt.requested()), last = i + 1 == total_;
      if (bad >= config_.run.max_bad_steps || (last && bad > 0))
        fail<NumericError>(name_, ": the loss was not finite in ", bad, " steps in a row (until step ", i + 1,
                           "); those steps were skipped and ", last_saved(),
                           " is the last good state; lower the learning rate", " or set optimizer.clip_norm",
                           record.contains("error") ? "; the last step said: " : "", record.value("error", ""));
      if (progress) progress->update(i + 1, note(loss));
      if (bad == 0 && first_rank && (stop || last || (i + 1) % config_.run.save_every == 0)) save(i + 1);
      if (stop && !last) {
        if (progress) progress->say(text(name_, ": stopped after step ", i + 1, "; continue with --resume"));
        return std::max(interrupt.exit_code(), 130);  // another rank may have been told
      }
    }
    if (progress) progress->finish();
    return 0;
  }

 private:
  /// The loss of a step. One that stops because a value is not finite, or because transport has no solution with such
  /// values, counts as a step with a loss that is not; if that happens to one rank, all skip the step.
  template <class Step>
  double loss_of(const Step& step, Index i, OrderedJson& record) const {
    try {
      try {
        return step(i, record);
      } catch (const NumericError& error) {
        ranks_->skip_step(error.what());
      } catch (const OtError& error) {
        ranks_->skip_step(error.what());
      }
    } catch (const SkippedStep& skipped) {
      record["error"] = skipped.what();
      return std::nan("");
    }
  }
  static std::string note(double loss) {
    char words[32];
    std::snprintf(words, sizeof words, "loss %.4f", loss);
    return words;
  }
  std::string last_saved() const {
    return checkpoints_.empty() ? "the start (no checkpoint was written yet)"
                                : checkpoints_.path(checkpoints_.steps().front());
  }
  void save(Index step) {
    state_.step = step;
    for (const auto& [name, trainer] : trainers_) state_.counters["optimizer." + name] = trainer->steps();
    for (std::size_t i = 0; i < precision_.size(); ++i) {
      state_.counters[text("loss_scale.", i, ".exponent")] = precision_[i]->scale.exponent;
      state_.counters[text("loss_scale.", i, ".good")] = precision_[i]->scale.good;
    }
    std::vector<NamedArray> arrays;
    for (const auto& source : sources_)
      for (auto& array : source()) arrays.push_back(std::move(array));
    checkpoints_.save(std::move(arrays), state_);
  }
  void restore() {
    std::vector<std::string> skipped;
    const Checkpoint checkpoint = checkpoints_.latest(true, &skipped);
    for (const auto& message : skipped)
      if (ranks_->first()) std::fprintf(stderr, "%s: skipped: %s\n", name_.c_str(), message.c_str());
    require_same_network(checkpoint, "", slots_, state_);
    require_same_run(checkpoint);
    if (ranks_->first())
      for (const std::string& line : json_differences(state_.config, checkpoint.state.config))
        std::printf("%s: note: another setting than before: %s\n", name_.c_str(), line.c_str());
    load_state(*checkpoint.file, slots_);
    for (const auto& [name, trainer] : trainers_) {
      const auto at = checkpoint.state.counters.find("optimizer." + name);
      trainer->set_steps(at == checkpoint.state.counters.end() ? checkpoint.state.step : at->second);
    }
    const auto restore_counter = [&](const std::string& name, Index& value) {
      const auto at = checkpoint.state.counters.find(name);  // a run in another type has none
      if (at != checkpoint.state.counters.end()) value = at->second;
    };
    for (std::size_t i = 0; i < precision_.size(); ++i) {
      restore_counter(text("loss_scale.", i, ".exponent"), precision_[i]->scale.exponent);
      restore_counter(text("loss_scale.", i, ".good"), precision_[i]->scale.good);
    }
    first_ = checkpoint.state.step;
  }
  /// Other data or another seed would give a mixture of two runs.
  void require_same_run(const Checkpoint& checkpoint) const {
    require<ConfigError>(checkpoint.state.seed == state_.seed, checkpoint.path(), ": was made with run.seed ",
                         checkpoint.state.seed, ", this run has ", state_.seed,
                         "; resume with the same seed, or use another folder");
    require<ConfigError>(checkpoint.state.step <= total_, checkpoint.path(), ": stands after step ",
                         checkpoint.state.step, ", this run has ", total_,
                         " steps; resume with as many, or use another folder");
    for (const auto& [key, value] : state_.notes) {
      const auto at = checkpoint.state.notes.find(key);
      require<ConfigError>(at != checkpoint.state.notes.end() && at->second == value, checkpoint.path(),
                           ": was made with another ", key, "; resume with the same data, or use another folder");
    }
  }

  std::string folder_;
  MethodConfig config_;
  Index total_, first_ = 0;
  std::string name_;
  CheckpointFolder checkpoints_;
  TrainingState state_;
  std::vector<StateSlot<T>> slots_;
  std::vector<std::function<std::vector<NamedArray>()>> sources_;
  std::vector<std::pair<std::string, Trainer<T>*>> trainers_;
  std::vector<MixedPrecision*> precision_;
  std::optional<RunLog> log_;
  double waited_ = 0;
  OneProcess alone_;
  Communicator* ranks_ = &alone_;
};

}  // namespace M3I_ABI
}  // namespace m3i
