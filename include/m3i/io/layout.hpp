#pragma once
/// Other libraries keep channels second, m3i keeps them last; weights and volumes are re-laid once, at loading and
/// saving.

#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How an array in a file relates to the one in memory.
enum class Layout {
  same,            ///< as in memory
  channels_second  ///< [a, b, spatial...] in the file, [a, spatial..., b] in memory
};

/// [a, b, spatial...] -> [a, spatial..., b]
inline Shape second_axis_to_last(const Shape& shape) {
  Shape out;
  for (int i = 0; i < shape.rank(); ++i)
    if (i != 1) out.push_back(shape[i]);
  if (shape.rank() > 1) out.push_back(shape[1]);
  return out;
}
/// [a, spatial..., b] -> [a, b, spatial...]
inline Shape last_axis_to_second(const Shape& shape) {
  Shape out;
  for (int i = 0; i < shape.rank(); ++i) {
    if (i == 1) out.push_back(shape[-1]);
    if (i != shape.rank() - 1 || i == 0) out.push_back(shape[i]);
  }
  return out;
}

namespace detail {
/// Transposes each of `count` row-major matrices [rows, columns].
template <class T>
void transpose_matrices(const T* in, T* out, Index count, Index rows, Index columns) {
  for (Index m = 0; m < count; ++m, in += rows * columns, out += rows * columns)
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c) out[c * rows + r] = in[r * columns + c];
}
}  // namespace detail

/// A copy with the second axis moved to the end; tensors of rank 2 or less are returned as they are. Conv weights
/// O I kD kH kW become [O, kD, kH, kW, I], transposed-conv weights I O kD kH kW become [I, kD, kH, kW, O], and volumes
/// N C D H W become [N, D, H, W, C].
template <class T>
Tensor<T> second_axis_to_last(const Tensor<T>& t) {
  if (t.rank() <= 2) return t;
  const Tensor<T> in = t.to(Device::cpu());
  Tensor<T> out(second_axis_to_last(in.shape()));
  const Index a = in.shape()[0], b = in.shape()[1], rest = in.shape().slice(2, in.rank()).size();
  detail::transpose_matrices(in.data(), out.data(), a, b, rest);
  return out.to(t.device());
}
/// The inverse of second_axis_to_last.
template <class T>
Tensor<T> last_axis_to_second(const Tensor<T>& t) {
  if (t.rank() <= 2) return t;
  const Tensor<T> in = t.to(Device::cpu());
  Tensor<T> out(last_axis_to_second(in.shape()));
  const Index a = in.shape()[0], b = in.shape()[-1], rest = in.shape().slice(1, in.rank() - 1).size();
  detail::transpose_matrices(in.data(), out.data(), a, rest, b);
  return out.to(t.device());
}

/// The same axis move under the names that readers look for.
template <class T>
Tensor<T> oidhw_to_odhwi(const Tensor<T>& w) {
  return second_axis_to_last(w);
}
template <class T>
Tensor<T> odhwi_to_oidhw(const Tensor<T>& w) {
  return last_axis_to_second(w);
}
template <class T>
Tensor<T> iodhw_to_idhwo(const Tensor<T>& w) {
  return second_axis_to_last(w);
}
template <class T>
Tensor<T> idhwo_to_iodhw(const Tensor<T>& w) {
  return last_axis_to_second(w);
}
template <class T>
Tensor<T> ncdhw_to_ndhwc(const Tensor<T>& x) {
  return second_axis_to_last(x);
}
template <class T>
Tensor<T> ndhwc_to_ncdhw(const Tensor<T>& x) {
  return last_axis_to_second(x);
}

}  // namespace M3I_ABI
}  // namespace m3i
