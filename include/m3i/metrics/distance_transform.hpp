#pragma once
/// Exact Euclidean distance transform on a grid with any spacing.

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The lower envelope of parabolas h(p) + (q - p)^2 over the points q = 0 .. n-1 of a line: one step of a separable
/// distance transform. Memory is kept between lines.
/// Felzenszwalb and Huttenlocher 2012, "Distance transforms of sampled functions".
class LowerEnvelope {
 public:
  explicit LowerEnvelope(Index n) : n_(n), half_inverse_(std::size_t(n) + 1), pieces_(std::size_t(n) + 1) {
    for (std::size_t i = 1; i < half_inverse_.size(); ++i) half_inverse_[i] = 0.5 / double(i);
  }
  LowerEnvelope(const LowerEnvelope&) = delete;
  LowerEnvelope& operator=(const LowerEnvelope&) = delete;

  void clear() { top_ = pieces_.data(); }
  bool empty() const { return top_ == pieces_.data(); }

  /// Adds the parabola rooted at p, further right than all before, of height h in voxels^2.
  void add(Index p, double h) {
    const double lift = h + double(p) * double(p);
    double from = 0;
    for (; top_ != pieces_.data(); --top_) {
      const Piece& last = top_[-1];
      from = (lift - last.lift) * half_inverse_[std::size_t(p - last.root)];  // where the two cross
      if (from > last.from) break;
      from = 0;
    }
    if (from > 0 && from >= double(n_ - 1)) return;  // lowest nowhere on the line
    *top_++ = {lift, from, p};
  }

  /// f(root, begin, end) for each stretch of points, left to right; not called if nothing was added.
  template <class F>
  void for_each_piece(const F& f) const {
    Index begin = 0;
    for (const Piece* piece = pieces_.data(); piece != top_; ++piece) {
      const Index end = piece + 1 == top_ ? n_ : Index(piece[1].from) + 1;
      if (end > begin) f(piece->root, begin, end);
      begin = end;
    }
  }

 private:
  struct Piece {
    double lift;  ///< h + root^2
    double from;  ///< where it begins to be the lowest
    Index root;
  };
  Index n_;
  std::vector<double> half_inverse_;
  std::vector<Piece> pieces_;
  Piece* top_ = pieces_.data();
};

namespace detail {

/// min over p of line[p] + (step (q - p))^2 for every q, in place. Infinite values are no root.
inline void transform_line(LowerEnvelope& envelope, double* line, double* before, Index n, double step) {
  const double scale = step * step, inverse = 1 / scale;
  envelope.clear();
  for (Index p = 0; p < n; ++p) {
    before[p] = line[p];
    if (line[p] < std::numeric_limits<double>::infinity()) envelope.add(p, line[p] * inverse);
  }
  envelope.for_each_piece([&](Index root, Index begin, Index end) {
    for (Index q = begin; q < end; ++q) line[q] = before[root] + scale * double((q - root) * (q - root));
  });
}

/// Transforms `count` lines of n values that lie side by side, value q of line c at data[q * stride + c]. Eight at a
/// time, so that whole cache lines are read.
inline void transform_lines(double* data, Index count, Index n, Index stride, double step) {
  constexpr Index tile = 8;
  LowerEnvelope envelope(n);
  std::vector<double> lines(std::size_t(tile * n)), before(std::size_t(n), 0);
  for (Index first = 0; first < count; first += tile) {
    const Index width = std::min(tile, count - first);
    for (Index q = 0; q < n; ++q)
      for (Index c = 0; c < width; ++c) lines[std::size_t(c * n + q)] = data[q * stride + first + c];
    for (Index c = 0; c < width; ++c) transform_line(envelope, lines.data() + c * n, before.data(), n, step);
    for (Index q = 0; q < n; ++q)
      for (Index c = 0; c < width; ++c) data[q * stride + first + c] = lines[std::size_t(c * n + q)];
  }
}

inline void check_spacing(const char* operation, const std::array<double, 3>& spacing_mm) {
  for (const double s : spacing_mm)
    require(std::isfinite(s) && s > 0, operation, ": spacing ", s, " mm must be positive and finite");
}

}  // namespace detail

/// Squared distance in mm^2 from every voxel centre to the nearest voxel that is set; infinity if none is.
///
///   set         [I, J, K]   non-zero = set
///   spacing_mm  voxel size along i, j, k
///   ->          [I, J, K]
///
/// Exact but for rounding, O(voxels), one line at a time over all threads. For distances at few voxels, such as a
/// surface, nearest_distances in surface_distances.hpp needs less of both time and memory.
inline Tensor<double> squared_distance_transform(const Tensor<std::uint8_t>& set, std::array<double, 3> spacing_mm) {
  require(set.rank() == 3, "distance transform: needs [I, J, K], got ", set.shape());
  detail::check_spacing("distance transform", spacing_mm);
  const Index I = set.shape()[0], J = set.shape()[1], K = set.shape()[2];
  Tensor<double> out(set.shape());
  const std::uint8_t* in = set.data();
  double* d = out.data();
  parallel_for(I, [&](Index i) {
    double* plane = d + i * J * K;
    for (Index n = 0; n < J * K; ++n) plane[n] = in[i * J * K + n] ? 0 : std::numeric_limits<double>::infinity();
    LowerEnvelope envelope(K);
    std::vector<double> before(static_cast<std::size_t>(K));
    for (Index j = 0; j < J; ++j) detail::transform_line(envelope, plane + j * K, before.data(), K, spacing_mm[2]);
    detail::transform_lines(plane, K, J, K, spacing_mm[1]);
  });
  parallel_for(J, [&](Index j) { detail::transform_lines(d + j * K, K, I, J * K, spacing_mm[0]); });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
