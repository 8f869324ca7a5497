#pragma once
/// Normalisation layers with learned gain (weight) and bias.

#include "m3i/nn/fields.hpp"
#include "m3i/nn/init.hpp"
#include "m3i/ops/norm.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Normalises the last axis.
template <class T>
struct LayerNorm {
  Var<T> weight, bias;
  double eps = 1e-5;

  explicit LayerNorm(Index channels, double eps_ = 1e-5)
      : weight(constant_parameter<T>({channels}, 1)), bias(constant_parameter<T>({channels}, 0)), eps(eps_) {}

  /// x [..., C] -> [..., C]
  Var<T> operator()(const Var<T>& x) const { return layer_norm(x, weight, bias, eps); }
  M3I_FIELDS(weight, bias)
};

/// Normalises each channel of each sample over space.
template <class T>
struct InstanceNorm {
  Var<T> weight, bias;
  double eps = 1e-5;

  explicit InstanceNorm(Index channels, double eps_ = 1e-5)
      : weight(constant_parameter<T>({channels}, 1)), bias(constant_parameter<T>({channels}, 0)), eps(eps_) {}

  /// x [N, ..., C] -> [N, ..., C]
  Var<T> operator()(const Var<T>& x) const { return instance_norm(x, weight, bias, eps); }
  M3I_FIELDS(weight, bias)
};

}  // namespace M3I_ABI
}  // namespace m3i
