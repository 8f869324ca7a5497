#pragma once
/// for_columns: sums over rows in a fixed tree (gradients of biases and gains), the same bits for any thread count.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Rows of one leaf of the tree, at least 32, from the sizes alone: 256 leaves, or one for each thread of a large GPU.
inline Index column_chunk(Device device, Index rows, Index cols) {
  const Index leaves = device.kind == Device::Kind::cpu ? 256 : std::max<Index>(1, (Index(1) << 18) / cols);
  return std::max<Index>(32, (rows + leaves - 1) / leaves);
}

template <class A, class F>
struct ColumnPartials {
  F f;
  A* partial;
  Index rows, cols, chunk;
  M3I_HD void operator()(Index i) const {
    const Index c = i % cols, first = i / cols * chunk, last = first + chunk < rows ? first + chunk : rows;
    A total = 0;
    for (Index r = first; r < last; ++r) total += A(f(r, c));
    partial[i] = total;
  }
};

// The same sums with the loops exchanged, so that the inner one runs along contiguous columns.
template <class A, class F>
[[gnu::flatten]] void host_column_partial(F f, A* M3I_RESTRICT total, Index first, Index last, Index cols) {
  for (Index c = 0; c < cols; ++c) total[c] = 0;
  for (Index r = first; r < last; ++r) {
    M3I_SIMD
    for (Index c = 0; c < cols; ++c) total[c] += A(f(r, c));
  }
}

template <class A, class T>
struct ColumnTotals {
  const A* partial;
  T* out;
  Index cols, leaves;
  M3I_HD void operator()(Index c) const {
    A total = 0;
    for (Index leaf = 0; leaf < leaves; ++leaf) total += partial[leaf * cols + c];
    out[c] = T(A(out[c]) + total);
  }
};

}  // namespace detail

/// Element (r, c) of a row-major matrix: the term of plain column sums.
template <class T>
struct MatrixCell {
  const T* x;
  Index cols;
  M3I_HD accumulate_t<T> operator()(Index r, Index c) const { return accumulate_t<T>(x[r * cols + c]); }
};

/// out[c] += sum over rows of f(row, c), for c in [0, cols); summed in accumulate_t<T>.
template <class T, class F>
void for_columns(Device device, Index rows, Index cols, const F& f, T* out) {
  using A = accumulate_t<T>;
  if (rows <= 0 || cols <= 0) return;
  const Index chunk = detail::column_chunk(device, rows, cols), leaves = (rows + chunk - 1) / chunk;
  const Tensor<A> partial({leaves, cols}, device);
  if (device.kind == Device::Kind::cpu) {
    parallel_for(leaves, [&](Index leaf) {
      detail::host_column_partial(f, partial.data() + leaf * cols, leaf * chunk, std::min(rows, (leaf + 1) * chunk),
                                  cols);
    });
  } else {
    for_each(device, leaves * cols, detail::ColumnPartials<A, F>{f, partial.data(), rows, cols, chunk});
    if (leaves > 32) return for_columns(device, leaves, cols, MatrixCell<A>{partial.data(), cols}, out);
  }
  for_each(device, cols, detail::ColumnTotals<A, T>{partial.data(), out, cols, leaves});
}

/// out[c] += sum over all rows of x [..., C]: the gradient of a bias.
template <class T>
void add_column_sums(const Tensor<T>& x, const Tensor<T>& out) {
  const Index cols = out.size(), rows = cols ? x.size() / cols : 0;
  for_columns(x.device(), rows, cols, MatrixCell<T>{x.data(), cols}, out.data());
}

}  // namespace M3I_ABI
}  // namespace m3i
