#pragma once
/// What fine-tuning for segmentation and for classification share: networks that start from pretraining, the plan of
/// epochs, one step of the optimiser, and keeping the best model.

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "m3i/models/heads.hpp"
#include "m3i/train/build.hpp"
#include "m3i/train/loop.hpp"
#include "m3i/train/mixed_network.hpp"
#include "m3i/train/model_file.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Encoder, decoder, and a new head that gives one channel a class. Parameters are named as those of pretraining.
template <class T>
struct SegmentationModel {
  Backbone<T> network;

  SegmentationModel(const MethodConfig& c, Index classes)
      : network(backbone_options(c.network, classes, c.segmentation.deep_supervision)) {}

  /// x [N, D, H, W, in] -> logits [N, D, H, W, classes], with deep supervision also at 1/2 and 1/4 of the resolution.
  std::vector<Var<T>> operator()(const Var<T>& x, const Mode& mode = {}) const { return network(x, mode); }
  /// What pretraining has filled: all but the head.
  auto body() const { return network.body(); }
  M3I_FIELDS(network)
};

/// Encoder, and a linear head on its pooled deepest map (4.2.2).
template <class T>
struct ClassificationModel {
  BackboneEncoder<T> network;
  ClassificationHead<T> head;
  double drop;

  ClassificationModel(const MethodConfig& c, Index classes)
      : ClassificationModel(backbone_options(c.network, 1), classes, c.classification.dropout) {}

  /// x [N, D, H, W, in] -> logits [N, classes]
  Var<T> operator()(const Var<T>& x, const Mode& mode = {}) const {
    Var<T> features = head.norm(pooled(network(x, mode).back()));
    if (Random* random = mode.dropping(drop)) features = dropout(features, drop, *random);
    return head.fc(features);
  }
  /// What pretraining has filled: all but the head.
  const BackboneEncoder<T>& body() const { return network; }
  M3I_FIELDS(network, head)

 private:
  ClassificationModel(const BackboneOptions& o, Index classes, double dropout)
      : network(o), head(deepest_channels(o), classes), drop(dropout) {}
};

namespace detail {
template <class T, class Module>
LoadReport load_body(const Module& body, const ModelFile& file, std::vector<std::string> heads) {
  LoadOptions options;
  options.prefix = "network.";
  options.ignore = std::move(heads);
  return load_module<T>(body, *file.weights, options);
}
}  // namespace detail

/// Fills encoder and decoder from a model file; the head keeps its initial values. Strict: throws FileError with the
/// report unless every parameter of the two is there and nothing else but heads.
template <class T>
LoadReport load_pretrained(const SegmentationModel<T>& model, const ModelFile& file) {
  return detail::load_body<T>(model.body(), file, backbone_heads);
}
/// The same for the encoder alone.
template <class T>
LoadReport load_pretrained(const ClassificationModel<T>& model, const ModelFile& file) {
  return detail::load_body<T>(model.body(), file, backbone_decoders);
}

/// Loads encoder and decoder from `path`, if it is not "", and prints what was and what was not. `program` begins the
/// lines. Throws ConfigError if the file's network is not the configured one.
template <class Model>
void start_from_pretrained(const char* program,
                           const Model& model,
                           const std::string& path,
                           const MethodConfig& config) {
  if (path.empty()) {
    std::printf("%s: from scratch (no --pretrained)\n", program);
    return;
  }
  const ModelFile file = read_model(path);
  for (const std::string& line : compare_model(file, config))
    std::printf("%s: note: preprocessing differs from that of pretraining: %s\n", program, line.c_str());
  const LoadReport report = load_pretrained(model, file);
  std::printf("%s: pretrained %s\n%s: the head is new\n", program, report.text().c_str(), program);
}

/// Epochs as steps: step i takes items [i b, (i + 1) b) of an endless sequence of epochs.
struct FinetunePlan {
  Index items, batch, steps;
  FinetuneConfig config;

  FinetunePlan(Index items_, const FinetuneConfig& c)
      : items(items_), batch(std::min(c.batch_size, items_)), config(c) {
    const Index all = (c.epochs * items + batch - 1) / batch;
    steps = c.max_steps > 0 ? std::min(c.max_steps, all) : all;
  }
  /// The epoch of the first item of a step.
  Index epoch(Index step) const { return step * batch / items; }
  /// Whether only the head learns.
  bool head_only(Index step) const { return epoch(step) < config.freeze_epochs; }
  /// Whether the model is validated after a step: after every `validate_every` epochs and at the end.
  bool validates(Index step) const {
    const auto passed = [&](Index s) { return s * batch / items / config.validate_every; };
    return step + 1 == steps || passed(step + 1) > passed(step);
  }
};

/// The gradients of a loss, in place of those of the step before.
inline void differentiate(const Var<float>& loss,
                          const Trainer<float>& trainer,
                          DataParallel<float>& parallel,
                          MixedPrecision& mixed) {
  trainer.clear_gradients();
  backward(loss, mixed, parallel);
}

/// The optimiser's step by the gradients that are there; `loss` is that of this rank's part of a batch that the ranks
/// share. Returns what guarded_step returns.
inline double take_step(const Var<float>& loss,
                        Trainer<float>& trainer,
                        DataParallel<float>& parallel,
                        MixedPrecision& mixed,
                        OrderedJson& record) {
  const double value = parallel.ranks().mean(double(loss.value().item()));
  const double norm = trainer.prepare();
  record["loss"] = value;
  record["grad_norm"] = norm;
  record["learning_rate"] = trainer.learning_rate();
  return guarded_step(value, norm, mixed, record, [&] { trainer.step(); });
}

/// One step of gradient descent.
inline double descend(const Var<float>& loss,
                      Trainer<float>& trainer,
                      DataParallel<float>& parallel,
                      MixedPrecision& mixed,
                      OrderedJson& record) {
  differentiate(loss, trainer, parallel, mixed);
  return take_step(loss, trainer, parallel, mixed, record);
}

/// Keeps the model with the best score of validation in a file, so that it is there whenever the run ends. Its step and
/// score are notes of the file ("step", "validation"); a resumed run goes on from them.
template <class T, class Module>
class BestModel {
 public:
  /// `score_name`: what is maximised, in words.
  BestModel(std::string path, const Module& model, ModelInfo info, std::string score_name)
      : path_(std::move(path)), model_(model), info_(std::move(info)), name_(std::move(score_name)) {}

  /// Reads the score that an interrupted run has reached.
  void resume() {
    std::error_code error;
    if (!std::filesystem::exists(path_, error)) return;
    const ModelInfo found = read_model(path_).info;
    const auto at = found.notes.find("validation");
    if (found.kind != info_.kind || at == found.notes.end() || at->second == no_score) return;
    score_ = std::strtod(at->second.c_str(), nullptr);
    info_.notes = found.notes;
  }
  /// Writes the model if the score is better than all before. A score that is not a number never is.
  void offer(double score, Index step) {
    if (std::isnan(score) || (score_ && score <= *score_)) return;
    score_ = score;
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.17g", score);
    write(step, digits);
  }
  /// Writes the model unless one was kept: without validation the last model is the result. Then loads the kept one.
  void finish(Index step) {
    if (!score_) write(step, no_score);
    load_module<T>(model_, *read_model(path_).weights);
  }
  std::optional<double> score() const { return score_; }
  std::string step() const { return info_.notes.count("step") ? info_.notes.at("step") : ""; }

 private:
  void write(Index step, const std::string& score) {
    info_.notes["step"] = text(step);
    info_.notes["validation"] = score;
    info_.notes["validation_score"] = name_;
    write_model<T>(path_, model_, info_);
  }

  static constexpr const char* no_score = "none";
  std::string path_;
  const Module& model_;
  ModelInfo info_;
  std::string name_;
  std::optional<double> score_;
};

}  // namespace M3I_ABI
}  // namespace m3i
