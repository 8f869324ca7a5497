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

/// Elements that one team adds; it depends on the size alone, so that the tree does.
inline Index reduce_chunk(Index n) { return std::max<Index>(4096, (n + 4095) / 4096); }
}  // namespace detail

/// Sum of f(i) over [0, n) in double. Waits for the device.
template <class F>
double reduce_sum(Device device, Index n, const F& f) {
  if (n <= 0) return 0;
  const Index chunk = detail::reduce_chunk(n), rows = (n + chunk - 1) / chunk;
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
template <class T>
struct SquaresOfPiece {  // one piece of one tensor a row
  struct Piece {
    const T* x;
    Index n;
  };
  const Piece* pieces;
  double* partial;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Piece piece = pieces[row];
    ChunkSum<SumSquares<T>>{{piece.x}, partial + row, piece.n, piece.n}(team, 0);
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

/// Sum of the squares of all elements of many tensors on one device, in double: what sum_of_squares of each adds up to,
/// bit for bit, in one launch.
template <class T>
double sum_of_squares(const std::vector<Tensor<T>>& tensors) {
  using Work = detail::SquaresOfPiece<T>;
  std::vector<typename Work::Piece> pieces;
  std::vector<std::size_t> last;  // one past the last piece of each tensor
  for (const Tensor<T>& x : tensors) {
    require<DeviceError>(x.device() == tensors.front().device(), "sum_of_squares: tensors on ",
                         tensors.front().device(), " and on ", x.device());
    const Index chunk = detail::reduce_chunk(x.size());
    for (Index i = 0; i < x.size(); i += chunk) pieces.push_back({x.data() + i, std::min(chunk, x.size() - i)});
    last.push_back(pieces.size());
  }
  if (pieces.empty()) return 0;
  const Device device = tensors.front().device();
  const Index rows = Index(pieces.size());
  const Tensor<double> partial({rows}, device);
  const auto there = Tensor<typename Work::Piece>::from(std::span<const typename Work::Piece>(pieces), {rows}, device);
  for_rows(device, rows, Work{there.data(), partial.data()}, 4096);
  const std::vector<double> parts = partial.to_vector();
  double total = 0;
  std::size_t i = 0;
  for (const std::size_t end : last) {
    double own = 0;
    for (; i < end; ++i) own += parts[i];
    total += own;
  }
  return total;
}

}  // namespace M3I_ABI
}  // namespace m3i
