#pragma once
/// Sums over all elements in a fixed tree.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_rows.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
template <class F>
struct ChunkSum {
  F f;
  double* partial;
  Index n, chunk;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index first = row * chunk, count = n - first < chunk ? n - first : chunk;
    const F g = f;
    const double total = team.sum(count, [=](Index i) { return double(g(first + i)); });
    double* out = partial + row;
    team.each(1, [=](Index) { *out = total; });
  }
};
}  // namespace detail

/// Sum of f(i) over [0, n) in double. Waits for the device.
template <class F>
double reduce_sum(Device device, Index n, const F& f) {
  if (n <= 0) return 0;
  const Index chunk = std::max<Index>(4096, (n + 4095) / 4096), rows = (n + chunk - 1) / chunk;
  const Tensor<double> partial({rows}, device);
  for_rows(device, rows, detail::ChunkSum<F>{f, partial.data(), n, chunk}, chunk);
  double total = 0;
  for (const double part : partial.to_vector()) total += part;
  return total;
}

namespace detail {
template <class T>
struct CountNonFinite {
  const T* x;
  M3I_HD double operator()(Index i) const {
    const double v = double(accumulate_t<T>(x[i]));
    return v - v == 0 ? 0 : 1;
  }
};
template <class T>
struct SumSquares {
  const T* x;
  M3I_HD double operator()(Index i) const {
    const double v = double(accumulate_t<T>(x[i]));
    return v * v;
  }
};
}  // namespace detail

/// How many elements are NaN or infinite.
template <class T>
Index count_non_finite(const Tensor<T>& x) {
  return Index(reduce_sum(x.device(), x.size(), detail::CountNonFinite<T>{x.data()}));
}
/// Sum of squares, in double.
template <class T>
double sum_of_squares(const Tensor<T>& x) {
  return reduce_sum(x.device(), x.size(), detail::SumSquares<T>{x.data()});
}

}  // namespace M3I_ABI
}  // namespace m3i
