#pragma once
/// Convolution layers on [N, D, H, W, C].

#include "m3i/nn/fields.hpp"
#include "m3i/nn/init.hpp"
#include "m3i/ops/conv.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// weight [out, kD, kH, kW, in], bias [out] or none.
template <class T>
struct Conv3d {
  Var<T> weight, bias;
  Conv3dSpec spec;

  Conv3d(Index in,
         Index out,
         Index3 kernel,
         Index3 stride = {1, 1, 1},
         Index3 padding = {0, 0, 0},
         bool with_bias = true) {
    const Index fan_in = in * kernel[0] * kernel[1] * kernel[2];
    weight = fan_in_parameter<T>({out, kernel[0], kernel[1], kernel[2], in}, fan_in);
    if (with_bias) bias = fan_in_parameter<T>({out}, fan_in);
    spec.stride = stride;
    spec.padding = padding;
  }

  /// x [N, D, H, W, in] -> [N, D', H', W', out]
  Var<T> operator()(const Var<T>& x) const { return conv3d(x, weight, bias, spec); }
  M3I_FIELDS(weight, bias)
};

/// Transposed convolution with stride = kernel: each voxel becomes a block. weight [in, kD, kH, kW, out], bias [out] or
/// none.
template <class T>
struct ConvTranspose3d {
  Var<T> weight, bias;
  Conv3dSpec spec;

  ConvTranspose3d(Index in, Index out, Index3 kernel, bool with_bias = true) {
    const Index fan_in = out * kernel[0] * kernel[1] * kernel[2];  // PyTorch counts the second axis of its weight
    weight = fan_in_parameter<T>({in, kernel[0], kernel[1], kernel[2], out}, fan_in);
    if (with_bias) bias = fan_in_parameter<T>({out}, fan_in);
    spec.stride = kernel;
  }

  /// x [N, D, H, W, in] -> [N, kD D, kH H, kW W, out]
  Var<T> operator()(const Var<T>& x) const { return conv_transpose3d(x, weight, bias, spec); }
  M3I_FIELDS(weight, bias)
};

}  // namespace M3I_ABI
}  // namespace m3i
