#pragma once
/// Convolutions of channels-last volumes, forwards and transposed. Pooling is in ops/pool.hpp.

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/conv3d.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/ops/linear.hpp"
#include "m3i/ops/pool.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Convolution (cross-correlation, as usual in learning).
///
///   x   [N, D, H, W, Ci]
///   w   [Co, kD, kH, kW, Ci / groups]
///   b   [Co], or not defined
///   ->  [N, oD, oH, oW, Co], o = (in + 2 padding - dilation (k - 1) - 1) / stride + 1, rounded down
///
/// Gradients: x, w, b. Throws ShapeError for extents or settings that do not fit, DeviceError for inputs on different
/// devices.
template <class T>
Var<T> conv3d(const Var<T>& x, const Var<T>& w, const Var<T>& b = {}, const Conv3dSpec& spec = {}) {
  const Operation operation("conv3d", x, w, b);
  require(spec.output_padding == Index3{0, 0, 0}, "conv3d: output_padding is for conv_transpose3d");
  require_one_device("conv3d", {x, w, b});
  const Tensor<T> y = conv3d_forward(x.value(), w.value(), b.defined() ? b.value() : Tensor<T>(), spec);
  std::vector<Var<T>> inputs{x, w};
  if (b.defined()) inputs.push_back(b);
  return record<T>("conv3d", y, inputs, [=, x = x.kept()](const Tensor<T>& dy) {
    if (x.needs_grad()) conv3d_input_grad(dy, w.value(), x.grad(), spec);
    if (w.needs_grad()) conv3d_weight_grad(x.value(), dy, w.grad(), spec);
    if (b.needs_grad()) add_column_sums(dy, b.grad());
  });
}

namespace detail {

template <class T>
struct FillRows {  // y [..., C] = bias
  const T* bias;
  T* y;
  Index channels;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const T* from = bias;
    T* to = y + row * channels;
    team.each(channels, [=](Index c) { to[c] = from[c]; });
  }
};

/// [N, D, H, W, O] of a transposed convolution: the input shape of the convolution that it transposes.
inline Shape conv_transpose3d_shape(const Shape& x, const Shape& w, const Conv3dSpec& spec) {
  require(x.rank() == 5 && w.rank() == 5 && x[4] == w[0],
          "conv_transpose3d: needs an input [N, D, H, W, I] and a weight ", "[I, kD, kH, kW, O / groups], got ", x,
          " and ", w);
  Shape y{x[0]};
  for (int a = 0; a < 3; ++a) {
    const auto i = std::size_t(a);
    require(spec.output_padding[i] >= 0 && spec.output_padding[i] < spec.stride[i], "conv_transpose3d: output_padding ",
            spec.output_padding[i], " of axis ", a, " must be below the stride ", spec.stride[i]);
    const Index extent = (x[a + 1] - 1) * spec.stride[i] - 2 * spec.padding[i] + spec.dilation[i] * (w[a + 1] - 1) +
                         spec.output_padding[i] + 1;
    require(x[a + 1] >= 1 && extent >= 1, "conv_transpose3d: input ", x, " and weight ", w, " give an extent of ",
            extent, " along axis ", a, "; use less padding");
    y.push_back(extent);
  }
  y.push_back(w[4] * spec.groups);
  return y;
}

}  // namespace detail

/// Transposed convolution: the map whose matrix is the transpose of conv3d's with the same weight and settings, used to
/// enlarge volumes.
///
///   x   [N, D, H, W, I]
///   w   [I, kD, kH, kW, O / groups]
///   b   [O], or not defined
///   ->  [N, oD, oH, oW, O], o = (in - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1
///
/// Gradients: x, w, b. Throws ShapeError for extents or settings that do not fit, DeviceError for inputs on different
/// devices. Dumoulin and Visin 2016, arXiv:1603.07285.
template <class T>
Var<T> conv_transpose3d(const Var<T>& x, const Var<T>& w, const Var<T>& b = {}, const Conv3dSpec& spec = {}) {
  const Operation operation("conv_transpose3d", x, w, b);
  require_one_device("conv_transpose3d", {x, w, b});
  const Shape shape = detail::conv_transpose3d_shape(x.shape(), w.shape(), spec);
  const Tensor<T> y = b.defined() ? Tensor<T>(shape, x.device()) : Tensor<T>::zeros(shape, x.device());
  require(!b.defined() || b.shape() == Shape{y.shape()[4]}, "conv_transpose3d: weight ", w.shape(), " expects a bias [",
          y.shape()[4], "], got ", b.defined() ? b.shape() : Shape{});
  if (b.defined())
    for_rows(y.device(), y.size() / shape[4], detail::FillRows<T>{b.data(), y.data(), shape[4]}, shape[4]);
  conv3d_input_grad(x.value(), w.value(), y, spec);
  std::vector<Var<T>> inputs{x, w};
  if (b.defined()) inputs.push_back(b);
  return record<T>("conv_transpose3d", y, inputs, [=, x = x.kept()](const Tensor<T>& dy) {
    if (x.needs_grad()) gather_add(conv3d_forward(dy, w.value(), Tensor<T>(), spec), x.grad(), SameIndex{});
    if (w.needs_grad()) conv3d_weight_grad(dy, x.value(), w.grad(), spec);
    if (b.needs_grad()) add_column_sums(dy, b.grad());
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
