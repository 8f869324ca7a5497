#pragma once
/// AdamW: Adam with decoupled weight decay.

#include "m3i/optim/adam.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// AdamOptions for AdamW with the usual decay of 0.01.
inline AdamOptions adamw_options(double lr = 1e-3, double weight_decay = 1e-2) {
  AdamOptions options;
  options.lr = lr;
  options.weight_decay = weight_decay;
  options.decoupled = true;
  return options;
}

}  // namespace M3I_ABI
}  // namespace m3i
