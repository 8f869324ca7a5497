#pragma once
/// Fully connected layer and table of embeddings.

#include "m3i/nn/fields.hpp"
#include "m3i/nn/init.hpp"
#include "m3i/ops/embedding.hpp"
#include "m3i/ops/linear.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// y = x W^T + b. weight [out, in], bias [out].
template <class T>
struct Linear {
  Var<T> weight, bias;

  Linear(Index in, Index out, bool with_bias = true) : weight(fan_in_parameter<T>({out, in}, in)) {
    if (with_bias) bias = fan_in_parameter<T>({out}, in);
  }

  /// x [..., in] -> [..., out]
  Var<T> operator()(const Var<T>& x) const { return linear(x, weight, bias); }
  M3I_FIELDS(weight, bias)
};

/// Rows of a table by id. weight [entries, channels].
template <class T>
struct Embedding {
  Var<T> weight;

  Embedding(Index entries, Index channels, double deviation = 0.02)
      : weight(normal_parameter<T>({entries, channels}, deviation)) {}

  /// ids [...] -> [..., channels]
  Var<T> operator()(const Tensor<std::int64_t>& ids) const { return embedding(weight, ids); }
  M3I_FIELDS(weight)
};

}  // namespace M3I_ABI
}  // namespace m3i
