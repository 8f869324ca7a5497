#pragma once
/// Settings of an optimiser and of its learning rate.

#include <array>

#include "m3i/core/shape.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace choice {

enum class Optimizer { adam, adamw, sgd };
inline auto enum_names(Optimizer) { return std::array{"adam", "adamw", "sgd"}; }

enum class Schedule { none, cosine };
inline auto enum_names(Schedule) { return std::array{"none", "cosine"}; }

}  // namespace choice

/// Optimiser and schedule.
struct OptimizerConfig {
  choice::Optimizer kind = choice::Optimizer::adam;
  double learning_rate = 2e-5;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, momentum = 0.9, weight_decay = 0;
  choice::Schedule schedule = choice::Schedule::none;
  Index warmup_steps = 0;
  double final_rate = 0;
  double clip_norm = 0;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("kind", self.kind, "update rule (4.1: adam)");
    field("learning_rate", self.learning_rate, "step size after warm-up (4.1: 2e-5 in pretraining)", above(0));
    field("beta1", self.beta1, "decay of the mean of gradients (adam, adamw)", from_below(0, 1));
    field("beta2", self.beta2, "decay of the mean of squared gradients (adam, adamw)", from_below(0, 1));
    field("epsilon", self.epsilon, "added to the root of the mean square (adam, adamw)", above(0));
    field("momentum", self.momentum, "momentum (sgd)", from_below(0, 1));
    field("weight_decay", self.weight_decay, "weight decay: added to the gradient, or decoupled in adamw (ours)",
          at_least(0));
    field("schedule", self.schedule, "constant rate, or half a cosine to final_rate (ours: none)");
    field("warmup_steps", self.warmup_steps, "steps of linear warm-up (ours)", at_least(0));
    field("final_rate", self.final_rate, "last rate of the cosine, as a fraction of learning_rate (ours)",
          between(0, 1));
    field("clip_norm", self.clip_norm, "largest global norm of the gradient, 0 for no clipping (ours)", at_least(0));
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
