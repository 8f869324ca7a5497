#pragma once
/// Heads of the downstream tasks (paper, 4.2).

#include "m3i/nn/linear.hpp"
#include "m3i/nn/norm.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/ops/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Mean over space: feature map [N, D, H, W, C] -> [N, C].
template <class T>
Var<T> pooled(const Var<T>& map) {
  require(map.rank() == 5, "pooled: needs a feature map [N, D, H, W, C], got ", map.shape());
  const Index n = map.shape()[0], c = map.shape()[4];
  return mean(reshape(map, {n, map.size() / std::max<Index>(1, n * c), c}), 1);
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
