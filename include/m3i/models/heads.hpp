#pragma once
/// Heads of the downstream tasks (paper, 4.2).

#include "m3i/nn/linear.hpp"
#include "m3i/nn/norm.hpp"
#include "m3i/ops/instances.hpp"
#include "m3i/ops/pool.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What the tasks see of a feature map: its mean over space, [N, D, H, W, C] -> [N, C].
template <class T>
Var<T> pooled(const Var<T>& map) {
  return global_avg_pool(map);
}

/// Pooled features to class logits.
template <class T>
struct ClassificationHead {
  LayerNorm<T> norm;
  Linear<T> fc;

  ClassificationHead(Index channels, Index classes) : norm(channels), fc(channels, classes) {}

  /// map [N, D, H, W, C] -> [N, classes]
  Var<T> operator()(const Var<T>& map) const { return fc(norm(pooled(map))); }
  M3I_FIELDS(norm, fc)
};

}  // namespace M3I_ABI
}  // namespace m3i
