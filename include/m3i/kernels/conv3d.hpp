#pragma once
/// Channels-last 3-D convolution and its two gradients.
///
/// On the host an implicit matrix product (conv3d_host.hpp), on the GPU cuDNN (conv3d_cudnn.hpp, with M3I_CUDNN=1).
/// Where cuDNN has no body, and on the emulated device, implicit products by teams (conv3d_implicit.hpp); where
/// groups are single channels, result and input gradient by the definition (conv3d_direct.hpp).

#include <array>

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/conv3d_direct.hpp"
#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/kernels/gemm.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Three numbers, one for each of D, H, W.
using Index3 = std::array<Index, 3>;

/// How a convolution moves. output_padding is for conv_transpose3d: rows added at the far end of its result.
struct Conv3dSpec {
  Index3 stride{1, 1, 1}, padding{0, 0, 0}, dilation{1, 1, 1};
  Index groups = 1;
  Index3 output_padding{0, 0, 0};
};

/// Checks shapes and settings; throws ShapeError that names the operation.
///   x [N, D, H, W, Ci], w [Co, kD, kH, kW, Ci / groups]
inline Conv3dGeometry conv3d_geometry(const char* name, const Shape& x, const Shape& w, const Conv3dSpec& spec) {
  require(x.rank() == 5 && w.rank() == 5, name,
          ": needs an input [N, D, H, W, Ci] and a weight [Co, kD, kH, kW, Ci / groups], got ", x, " and ", w);
  require(spec.groups >= 1 && x[4] % spec.groups == 0 && w[0] % spec.groups == 0 && x[4] == w[4] * spec.groups, name,
          ": input ", x, " has ", x[4], " channels, weight ", w, " in ", spec.groups, " groups expects ",
          w[4] * spec.groups, " of them and a multiple of ", spec.groups, " outputs");
  Conv3dGeometry g{};
  g.batch = x[0];
  g.in_channels = x[4];
  g.out_channels = w[0];
  g.groups = spec.groups;
  for (int a = 0; a < 3; ++a) {
    const auto i = std::size_t(a);
    const Index stride = spec.stride[i], padding = spec.padding[i], dilation = spec.dilation[i], kernel = w[a + 1];
    require(stride >= 1 && dilation >= 1 && padding >= 0 && kernel >= 1, name, ": axis ", a, " has kernel ", kernel,
            ", stride ", stride, ", dilation ", dilation, ", padding ", padding, "; they start at 1, 1, 1, 0");
    const Index reach = x[a + 1] + 2 * padding - dilation * (kernel - 1);
    require(reach >= 1, name, ": the kernel of ", w, " with dilation ", dilation, " and padding ", padding,
            " does not fit into the input ", x, " along axis ", a);
    g.in[a] = x[a + 1];
    g.out[a] = (reach - 1) / stride + 1;
    g.kernel[a] = kernel;
    g.stride[a] = stride;
    g.padding[a] = padding;
    g.dilation[a] = dilation;
  }
  return g;
}
/// [N, oD, oH, oW, Co]
inline Shape conv3d_output_shape(const Conv3dGeometry& g) {
  return {g.batch, g.out[0], g.out[1], g.out[2], g.out_channels};
}

namespace detail {
// Host bodies for float and double.
template <class T>
void conv3d_host_forward(const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y);
template <class T>
void conv3d_host_input_grad(const Conv3dGeometry& g, const T* dy, const T* w, T* dx);
template <class T>
void conv3d_host_weight_grad(const Conv3dGeometry& g, const T* x, const T* dy, T* dw);

inline Conv3dGeometry conv3d_grad_geometry(
    const char* name, const Shape& x, const Shape& dy, const Shape& w, const Conv3dSpec& spec) {
  const Conv3dGeometry g = conv3d_geometry(name, x, w, spec);
  require(dy == conv3d_output_shape(g), name, ": the output of input ", x, " and weight ", w, " is ",
          conv3d_output_shape(g), ", got a gradient ", dy);
  return g;
}
}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i

#include "m3i/kernels/conv3d_cudnn.hpp"
#include "m3i/kernels/conv3d_implicit.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// y = x * w + bias.
///
///   x     [N, D, H, W, Ci]
///   w     [Co, kD, kH, kW, Ci / groups]
///   bias  [Co], or not defined
///   ->    [N, oD, oH, oW, Co], o = (in + 2 padding - dilation (k - 1) - 1) / stride + 1, rounded down
///
/// half and bf16 are summed in float. Throws ShapeError.
template <class T>
Tensor<T> conv3d_forward(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& bias, const Conv3dSpec& spec) {
  const Conv3dGeometry g = conv3d_geometry("conv3d", x.shape(), w.shape(), spec);
  require(!bias.defined() || bias.shape() == Shape{g.out_channels}, "conv3d: bias ", bias.shape(), " for ",
          g.out_channels, " output channels");
  const Device device = x.device();
  if constexpr (is_small_float<T>) {
    if (device.kind == Device::Kind::cpu)
      return cast<T>(
          conv3d_forward(cast<float>(x), cast<float>(w), bias.defined() ? cast<float>(bias) : Tensor<float>(), spec));
  }
  const Tensor<T> y(conv3d_output_shape(g), device);
  if (y.size() == 0) return y;
  if (device.kind != Device::Kind::cpu) {
    if (!detail::conv3d_cudnn_forward(device, g, x.data(), w.data(), bias.data(), y.data()))
      detail::conv3d_implicit_forward(device, g, x.data(), w.data(), bias.data(), y.data());
  } else if constexpr (!is_small_float<T>) {
    detail::conv3d_host_forward(g, x.data(), w.data(), bias.data(), y.data());
  }
  return y;
}

/// dx += gradient of a convolution with respect to its input; shapes as in conv3d_forward. Each element of dx is summed
/// by one thread.
template <class T>
void conv3d_input_grad(const Tensor<T>& dy, const Tensor<T>& w, const Tensor<T>& dx, const Conv3dSpec& spec) {
  const Conv3dGeometry g =
      detail::conv3d_grad_geometry("conv3d input gradient", dx.shape(), dy.shape(), w.shape(), spec);
  const Device device = dx.device();
  if (dx.size() == 0 || dy.size() == 0) return;
  if (device.kind != Device::Kind::cpu) {
    if (!detail::conv3d_cudnn_input_grad(device, g, dy.data(), w.data(), dx.data()))
      detail::conv3d_implicit_input_grad(device, g, dy.data(), w.data(), dx.data());
  } else if constexpr (is_small_float<T>) {
    const Tensor<float> sum = cast<float>(dx);
    conv3d_input_grad(cast<float>(dy), cast<float>(w), sum, spec);
    for_each(device, dx.size(), detail::Cast<float, T>{sum.data(), dx.data()});
  } else {
    detail::conv3d_host_input_grad(g, dy.data(), w.data(), dx.data());
  }
}

/// dw += gradient of a convolution with respect to its weight; shapes as in conv3d_forward.
template <class T>
void conv3d_weight_grad(const Tensor<T>& x, const Tensor<T>& dy, const Tensor<T>& dw, const Conv3dSpec& spec) {
  const Conv3dGeometry g =
      detail::conv3d_grad_geometry("conv3d weight gradient", x.shape(), dy.shape(), dw.shape(), spec);
  const Device device = dw.device();
  if (dw.size() == 0 || dy.size() == 0) return;
  if (device.kind != Device::Kind::cpu) {
    if (!detail::conv3d_cudnn_weight_grad(device, g, x.data(), dy.data(), dw.data()))
      detail::conv3d_implicit_weight_grad(device, g, x.data(), dy.data(), dw.data());
  } else if constexpr (is_small_float<T>) {
    const Tensor<float> sum = cast<float>(dw);
    conv3d_weight_grad(cast<float>(x), cast<float>(dy), sum, spec);
    for_each(device, dw.size(), detail::Cast<float, T>{sum.data(), dw.data()});
  } else {
    detail::conv3d_host_weight_grad(g, x.data(), dy.data(), dw.data());
  }
}

}  // namespace M3I_ABI
}  // namespace m3i

#if !M3I_COMPILED
#include "m3i/kernels/conv3d_host.hpp"
#endif
