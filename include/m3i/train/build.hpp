#pragma once
/// From a configuration to the parts of the method: options of the networks, the loss and the optimiser.

#include <memory>
#include <variant>
#include <vector>

#include "m3i/models/backbone.hpp"
#include "m3i/models/clip.hpp"
#include "m3i/models/psat.hpp"
#include "m3i/optim.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/ot/psd.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

inline NnFormerOptions nnformer_options(const NetworkConfig& c, Index out_channels, bool deep_supervision = false) {
  require<ConfigError>(c.depths.size() == 4, "network.depths: nnFormer has 4 stages, found ", c.depths.size());
  NnFormerOptions o;
  o.in_channels = c.in_channels;
  o.out_channels = out_channels;
  o.image = {c.image_size, c.image_size, c.image_size};
  o.embedding = c.embedding;
  std::copy(c.depths.begin(), c.depths.end(), o.depths.begin());
  std::copy(c.heads.begin(), c.heads.end(), o.heads.begin());
  std::copy(c.windows.begin(), c.windows.end(), o.window.begin());
  o.patch = {c.patch, c.patch, c.patch};
  o.drop_path = c.drop_path;
  o.deep_supervision = deep_supervision;
  o.checkpoint = c.checkpointing;
  for (int stage = 0; stage < 3; ++stage)
    require<ConfigError>(o.channels(stage) % o.decoder_heads(stage) == 0, "network.heads: the decoder's stage ", stage,
                         " has ", o.channels(stage), " channels for ", o.decoder_heads(stage),
                         " heads (the published variant gives it the heads of the next stage); they must divide");
  return o;
}

inline UnetrOptions unetr_options(const NetworkConfig& c, Index out_channels) {
  static_assert(UnetrConfig::patch == UnetrOptions::patch);
  UnetrOptions o;
  o.in_channels = c.in_channels;
  o.out_channels = out_channels;
  o.image = {c.image_size, c.image_size, c.image_size};
  o.feature_size = c.unetr.feature_size;
  o.hidden = c.unetr.hidden;
  o.mlp = c.unetr.mlp;
  o.heads = c.unetr.heads;
  o.layers = c.unetr.layers;
  o.checkpoint = c.checkpointing;
  return o;
}

/// The volume encoder-decoder with `out_channels` outputs: 1 to restore the volume, or the classes of a segmentation.
inline BackboneOptions backbone_options(const NetworkConfig& c, Index out_channels, bool deep_supervision = false) {
  if (c.backbone == choice::Backbone::unetr) return unetr_options(c, out_channels);
  return nnformer_options(c, out_channels, deep_supervision);
}

/// The same in words. Checkpoints hold them: a run resumes only where they are equal.
inline std::string network_text(const NetworkConfig& c) {
  if (c.backbone == choice::Backbone::nnformer) return text("nnformer ", c.image_size, ", embedding ", c.embedding);
  return text("unetr ", c.image_size, ", hidden ", c.unetr.hidden, ", feature size ", c.unetr.feature_size);
}

inline PsatOptions psat_options(const MethodConfig& c, Index tower_width) {
  PsatOptions o;
  o.kind = c.psat.mode == choice::Psat::full           ? PsatKind::plane_slice_queries
           : c.psat.mode == choice::Psat::no_positions ? PsatKind::queries
                                                       : PsatKind::pooled;
  o.volume_channels = deepest_channels(backbone_options(c.network, 1));
  o.tower_width = tower_width;
  o.width = c.psat.width;
  o.queries = c.psat.queries;
  o.heads = c.psat.heads;
  o.depth = c.psat.depth;
  o.mlp_ratio = Index(c.psat.mlp_ratio);
  o.slices = c.psat.bins;
  return o;
}

inline MpotOptions mpot_options(const MpotConfig& c) {
  MpotOptions o;
  o.mass = c.mass;
  o.epsilon = c.epsilon;
  o.cost.scale = c.cost_scale == choice::CostScale::max ? CostScale::max : CostScale::none;
  o.cost.l2_normalize = c.l2_normalize;
  o.cost.metric = c.metric == choice::Metric::full     ? Metric::full
                  : c.metric == choice::Metric::factor ? Metric::factor
                                                       : Metric::diagonal;
  o.loss = c.loss == choice::Divergence::kl            ? OtLoss::kl
           : c.loss == choice::Divergence::generalised ? OtLoss::generalised
                                                       : OtLoss::cross_entropy;
  o.solver.solver = c.solver == choice::Solver::newton ? OtSolver::newton : OtSolver::dykstra;
  o.solver.tolerance = c.tolerance;
  o.solver.max_sweeps = c.max_sweeps;
  o.gradient = c.gradient == choice::Gradient::implicit ? OtGradient::implicit : OtGradient::unrolled;
  return o;
}

/// The metric M that training starts from: the identity, in its parametrisation.
template <class T>
Var<T> initial_metric(const MpotConfig& c, Index width) {
  if (c.metric == choice::Metric::diagonal) return Var<T>(Tensor<T>::full({width}, T(1.0f)), true);
  const Tensor<T> identity = identity_metric<T>(width);
  if (c.metric == choice::Metric::factor && c.metric_rank > 0)
    return Var<T>(identity.slice(0, std::min(c.metric_rank, width)).clone(), true);
  return Var<T>(identity, true);
}

inline ClipOptions clip_options(const ClipConfig& c, Index vocabulary) {
  ClipOptions o;
  o.vision = {c.vision_width, c.vision_layers, c.vision_heads, 4 * c.vision_width, Activation::quick_gelu};
  o.image = c.image_size;
  o.patch = c.patch;
  o.text = {c.text_width, c.text_layers, c.text_heads, 4 * c.text_width, Activation::quick_gelu};
  o.vocabulary = vocabulary;
  o.context = c.context_length;
  o.projection = c.embedding;
  return o;
}

inline Schedule learning_rate_schedule(const OptimizerConfig& c, Index total_steps, double rate) {
  return {c.schedule == choice::Schedule::cosine ? ScheduleKind::cosine : ScheduleKind::constant, rate,
          c.final_rate * rate, c.warmup_steps, total_steps};
}

/// The configured optimiser with the schedule of its learning rate.
template <class T>
class Trainer {
 public:
  /// `rate` replaces the configured learning rate (the metric may have its own).
  Trainer(std::vector<Var<T>> parameters, const OptimizerConfig& c, Index total_steps, double rate = 0)
      : parameters_(std::move(parameters)),
        clip_norm_(c.clip_norm),
        schedule_(learning_rate_schedule(c, total_steps, rate > 0 ? rate : c.learning_rate)),
        optimizer_(make(parameters_, c)) {}

  const std::vector<Var<T>>& parameters() const { return parameters_; }
  void clear_gradients() const { m3i::clear_gradients(parameters_); }
  Index steps() const {
    return std::visit([](const auto& o) { return o.steps(); }, optimizer_);
  }
  void set_steps(Index steps) {
    std::visit([&](auto& o) { o.set_steps(steps); }, optimizer_);
  }
  double learning_rate() const { return schedule_(steps()); }

  /// L2 norm of all gradients; clips them if configured.
  double prepare() const {
    return clip_norm_ > 0 ? clip_gradients(parameters_, clip_norm_) : gradient_norm(parameters_);
  }
  void step() {
    const double rate = learning_rate();
    std::visit([&](auto& o) { o.options.lr = rate, o.step(); }, optimizer_);
  }

  /// Named state for checkpoints; loading copies into the same tensors.
  std::vector<std::pair<std::string, Tensor<accumulate_t<T>>>> state() const {
    return std::visit([](const auto& o) { return o.state(); }, optimizer_);
  }

 private:
  using Optimizers = std::variant<Adam<T>, Sgd<T>>;
  static Optimizers make(const std::vector<Var<T>>& parameters, const OptimizerConfig& c) {
    if (c.kind == choice::Optimizer::sgd)
      return Sgd<T>(parameters, {c.learning_rate, c.momentum, c.weight_decay, false});
    return Adam<T>(parameters, {c.learning_rate, c.beta1, c.beta2, c.epsilon, c.weight_decay,
                                c.kind == choice::Optimizer::adamw, false});
  }

  std::vector<Var<T>> parameters_;
  double clip_norm_;
  Schedule schedule_;
  Optimizers optimizer_;
};

}  // namespace M3I_ABI
}  // namespace m3i
