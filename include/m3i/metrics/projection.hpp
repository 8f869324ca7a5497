#pragma once
/// What maps of embeddings share: checks, distances, nearest neighbours, and principal components as the first layout.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/core/random.hpp"
#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// x [n, d], finite, in host memory, with at least `least` rows.
inline void require_points(const char* operation, const Tensor<float>& x, Index least) {
  require(x.rank() == 2 && x.shape()[1] > 0, operation, ": needs points [n, d], got ", x.shape());
  require(x.device().on_host(), operation, ": the points are on ", x.device(), "; use to(Device::cpu()) first");
  require<ConfigError>(x.shape()[0] >= least, operation, ": ", x.shape()[0], " points are too few; these options need ",
                       least, " or more");
  for (Index i = 0; i < x.size(); ++i)
    require<NumericError>(std::isfinite(x.data()[i]), operation, ": value ", i % x.shape()[1], " of point ",
                          i / x.shape()[1], " is ", x.data()[i], "; all must be finite");
}

inline float squared_distance(const float* M3I_RESTRICT a, const float* M3I_RESTRICT b, Index d) {
  float total = 0;
  M3I_SIMD_REDUCE(+, total)
  for (Index k = 0; k < d; ++k) total += (a[k] - b[k]) * (a[k] - b[k]);
  return total;
}

/// The points less their mean, over the largest distance of a point from it: distances then have a known size.
inline Tensor<float> centred_points(const Tensor<float>& x) {
  const Index n = x.shape()[0], d = x.shape()[1];
  std::vector<double> mean(static_cast<std::size_t>(d));
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < d; ++k) mean[std::size_t(k)] += double(x.data()[i * d + k]) / double(n);
  const Tensor<float> out(x.shape());
  double largest = 0;
  for (Index i = 0; i < n; ++i) {
    double squares = 0;
    for (Index k = 0; k < d; ++k) {
      const double v = double(x.data()[i * d + k]) - mean[std::size_t(k)];
      out.data()[i * d + k] = float(v);
      squares += v * v;
    }
    largest = std::max(largest, squares);
  }
  if (largest > 0)
    for (float& v : out.span()) v = float(double(v) / std::sqrt(largest));
  return out;
}

}  // namespace detail

/// Coordinates of points along their principal components, the widest first.
///
///   x     [n, d]
///   ->    [n, dimensions]; signs are chosen so that the largest coordinate of each component is positive
///
/// Orthogonal iteration on the covariance, which is never formed; a seed is not needed, the same points give the same
/// bits. Points in fewer dimensions than asked for get zeros.
inline Tensor<float> principal_components(const Tensor<float>& x, Index dimensions = 2) {
  detail::require_points("principal components", x, 1);
  const Index n = x.shape()[0], d = x.shape()[1];
  require<ConfigError>(dimensions >= 1 && dimensions <= 64, "principal components: ", dimensions,
                       " dimensions, expected 1 to 64");
  const Tensor<float> points = detail::centred_points(x);
  const Index k = std::min(dimensions, d);
  const auto at = [k](Index row, Index c) { return std::size_t(row * k + c); };
  std::vector<double> axes(std::size_t(d * k)), scores(std::size_t(n * k));
  Random random(0x706361);
  for (double& v : axes) v = random.normal();
  const auto orthonormalise = [&] {
    for (Index c = 0; c < k; ++c) {
      for (int pass = 0; pass < 2; ++pass)  // twice is enough against rounding
        for (Index b = 0; b < c; ++b) {
          double dot = 0;
          for (Index r = 0; r < d; ++r) dot += axes[at(r, c)] * axes[at(r, b)];
          for (Index r = 0; r < d; ++r) axes[at(r, c)] -= dot * axes[at(r, b)];
        }
      double squares = 0;
      for (Index r = 0; r < d; ++r) squares += axes[at(r, c)] * axes[at(r, c)];
      const double scale = squares > 1e-30 ? 1 / std::sqrt(squares) : 0;
      for (Index r = 0; r < d; ++r) axes[at(r, c)] *= scale;
    }
  };
  const auto project = [&] {
    parallel_chunks(n, 64, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index c = 0; c < k; ++c) {
          double dot = 0;
          for (Index r = 0; r < d; ++r) dot += double(points.data()[i * d + r]) * axes[at(r, c)];
          scores[at(i, c)] = dot;
        }
    });
  };
  orthonormalise();
  for (int iteration = 0; iteration < 50; ++iteration) {
    project();
    parallel_chunks(d, 16, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r)
        for (Index c = 0; c < k; ++c) {
          double total = 0;
          for (Index i = 0; i < n; ++i) total += double(points.data()[i * d + r]) * scores[at(i, c)];
          axes[at(r, c)] = total;
        }
    });
    orthonormalise();
  }
  project();
  const Tensor<float> out = Tensor<float>::zeros({n, dimensions});
  for (Index c = 0; c < k; ++c) {
    double extreme = 0;
    for (Index i = 0; i < n; ++i)
      if (std::abs(scores[at(i, c)]) > std::abs(extreme)) extreme = scores[at(i, c)];
    for (Index i = 0; i < n; ++i)
      out.data()[i * dimensions + c] = float(extreme < 0 ? -scores[at(i, c)] : scores[at(i, c)]);
  }
  return out;
}

/// The nearest other points of each point.
struct NearestNeighbours {
  Index k = 0;
  std::vector<Index> index;     ///< [n, k], nearest first; equal distances in the order of the points
  std::vector<float> distance;  ///< [n, k], Euclidean
};

/// Exact, O(n^2 d), over all threads. x [n > k, d].
inline NearestNeighbours nearest_neighbours(const Tensor<float>& x, Index k) {
  require<ConfigError>(k >= 1, "nearest neighbours: k = ", k, ", expected 1 or more");
  detail::require_points("nearest neighbours", x, k + 1);
  const Index n = x.shape()[0], d = x.shape()[1];
  NearestNeighbours out{k, std::vector<Index>(std::size_t(n * k)), std::vector<float>(std::size_t(n * k))};
  parallel_chunks(n, 8, [&](Index begin, Index end) {
    std::vector<std::pair<float, Index>> all(static_cast<std::size_t>(n));
    for (Index i = begin; i < end; ++i) {
      for (Index j = 0; j < n; ++j)
        all[std::size_t(j)] = {j == i ? HUGE_VALF : detail::squared_distance(x.data() + i * d, x.data() + j * d, d), j};
      std::partial_sort(all.begin(), all.begin() + k, all.end());
      for (Index m = 0; m < k; ++m) {
        out.index[std::size_t(i * k + m)] = all[std::size_t(m)].second;
        out.distance[std::size_t(i * k + m)] = std::sqrt(all[std::size_t(m)].first);
      }
    }
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
