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

namespace detail {

/// One line of the separable transform: out[q] = min over p of f[p] + (step (q - p))^2, by the lower envelope of the
/// parabolas rooted at the finite f[p]. Scratch is kept between lines.
struct ParabolaEnvelope {
  std::vector<Index> root;   // the parabolas of the envelope, left to right
  std::vector<double> from;  // where each begins to be the lowest, in voxels
  std::vector<double> f;     // the line

  explicit ParabolaEnvelope(Index n) : root(std::size_t(n)), from(std::size_t(n) + 1), f(std::size_t(n)) {}

  /// Transforms n values at data[0], data[stride], ... in place.
  void line(double* data, Index n, Index stride, double step) {
    constexpr double infinite = std::numeric_limits<double>::infinity();
    const double scale = step * step;
    Index top = -1;
    for (Index q = 0; q < n; ++q) {
      const double value = f[std::size_t(q)] = data[q * stride];
      if (value == infinite) continue;
      double start = -infinite;
      for (; top >= 0; --top) {
        const Index p = root[std::size_t(top)];
        start = ((value - f[std::size_t(p)]) / scale + double(q * q - p * p)) / (2 * double(q - p));
        if (start > from[std::size_t(top)]) break;
        start = -infinite;
      }
      ++top;
      root[std::size_t(top)] = q;
      from[std::size_t(top)] = start;
    }
    if (top < 0) return;  // no root on this line: it stays infinite
    Index at = 0;
    for (Index q = 0; q < n; ++q) {
      while (at < top && from[std::size_t(at + 1)] < double(q)) ++at;
      const Index p = root[std::size_t(at)];
      data[q * stride] = f[std::size_t(p)] + scale * double((q - p) * (q - p));
    }
  }
};

}  // namespace detail

/// Squared distance in mm^2 from every voxel centre to the nearest voxel that is set; infinity if none is.
///
///   set         [I, J, K]   non-zero = set
///   spacing_mm  voxel size along i, j, k
///   ->          [I, J, K]
///
/// Exact but for rounding, O(voxels), one line at a time over all threads.
/// Felzenszwalb and Huttenlocher 2012, "Distance transforms of sampled functions".
inline Tensor<double> squared_distance_transform(const Tensor<std::uint8_t>& set, std::array<double, 3> spacing_mm) {
  require(set.rank() == 3, "distance transform: needs [I, J, K], got ", set.shape());
  for (const double s : spacing_mm)
    require(std::isfinite(s) && s > 0, "distance transform: spacing ", s, " mm must be positive and finite");
  const Index I = set.shape()[0], J = set.shape()[1], K = set.shape()[2];
  Tensor<double> out(set.shape());
  const std::uint8_t* in = set.data();
  double* d = out.data();
  for (Index i = 0; i < out.size(); ++i) d[i] = in[i] ? 0 : std::numeric_limits<double>::infinity();
  parallel_for(I, [&](Index i) {
    detail::ParabolaEnvelope along_k(K), along_j(J);
    for (Index j = 0; j < J; ++j) along_k.line(d + (i * J + j) * K, K, 1, spacing_mm[2]);
    for (Index k = 0; k < K; ++k) along_j.line(d + i * J * K + k, J, K, spacing_mm[1]);
  });
  parallel_for(J, [&](Index j) {
    detail::ParabolaEnvelope along_i(I);
    for (Index k = 0; k < K; ++k) along_i.line(d + j * K + k, I, J * K, spacing_mm[0]);
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
