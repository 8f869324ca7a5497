#pragma once
/// Kernels of resampling: for each output position of an axis, which input voxels count how much.

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How to read between voxels.
///
///   linear        intensities
///   cubic         intensities, sharper; may leave the input's range near edges. Keys' kernel (a = -1/2), which meets
///                 the values at the sample points and reproduces quadratic functions. Chosen over the cubic B-spline
///                 because it needs no prefilter over the whole axis: four voxels a value, the same for a crop.
///                 Keys 1981, doi:10.1109/TASSP.1981.1163711.
///   nearest       labels
///   label_linear  labels: each label as a mask of 0 and 1, resampled linearly; the largest wins, ties go to the lower
///                 label. Smoother borders than nearest.
enum class Sampling { linear, nearest, cubic, label_linear };

namespace detail {

inline constexpr double tie = 1e-6;  // in input voxels

/// How m output positions lie over an axis of `padded` voxels, in which n of the input come after `before` zeros.
struct AxisGeometry {
  Index n = 1, m = 1;
  double step = 1;
  Index before = 0, padded = 1;

  /// Output position j in the padded axis, not clamped.
  double at(Index j) const { return (double(j) + 0.5) * step - 0.5; }
};

/// Keys' weights of the voxels at -1, 0, 1, 2 for a point at 0 <= f < 1.
inline std::array<double, 4> cubic_weights(double f) {
  const double g = 1 - f;
  return {-0.5 * f * g * g, 1 + f * f * (1.5 * f - 2.5), 1 + g * g * (1.5 * g - 2.5), -0.5 * g * f * f};
}

/// A Gaussian over -radius ... radius that adds up to 1; {1} for sigma 0. Cut at four sigma, as SciPy does.
inline std::vector<double> gaussian_taps(double sigma) {
  const auto radius = Index(4 * sigma + 0.5);
  std::vector<double> w(std::size_t(2 * radius + 1), 1.0);
  double sum = 0;
  for (Index d = -radius; radius > 0 && d <= radius; ++d)
    sum += w[std::size_t(d + radius)] = std::exp(-0.5 * double(d * d) / (sigma * sigma));
  if (radius > 0)
    for (double& x : w) x /= sum;
  return w;
}

/// Weights of each output position over the input's voxels: `begin` has m + 1 entries into `position` and `weight`.
struct Taps {
  std::vector<std::size_t> begin{0};
  std::vector<Index> position;
  std::vector<double> weight;
  Index size() const { return Index(begin.size()) - 1; }
};

/// The interpolation kernel blurred by a Gaussian of (step - 1) / 2 voxels where the axis shrinks and that is asked for
/// (the rule of scikit-image and MONAI): blurring first and reading afterwards in one set of weights. Voxels beyond
/// the padded axis repeat its border.
inline Taps make_taps(const AxisGeometry& axis, Sampling sampling, bool antialias) {
  const double sigma = antialias && axis.step > 1 ? (axis.step - 1) / 2 : 0;
  const std::vector<double> blur = gaussian_taps(sigma);
  const auto radius = Index(blur.size() / 2);
  Taps taps;
  std::vector<double> row(std::size_t(axis.n), 0.0);
  for (Index j = 0; j < axis.m; ++j) {
    const double x = std::clamp(axis.at(j), 0.0, double(axis.padded - 1)), base = std::floor(x), f = x - base;
    const std::array<double, 4> kernel =
        sampling == Sampling::cubic ? cubic_weights(f) : std::array<double, 4>{0, 1 - f, f, 0};
    Index low = axis.n, high = -1;
    for (Index p = 0; p < 4; ++p)
      for (Index d = -radius; d <= radius; ++d) {
        const double w = kernel[std::size_t(p)] * blur[std::size_t(d + radius)];
        const Index at = std::clamp<Index>(Index(base) + p - 1 + d, 0, axis.padded - 1) - axis.before;
        if (w == 0 || at < 0 || at >= axis.n) continue;  // the padding is 0
        row[std::size_t(at)] += w;
        low = std::min(low, at);
        high = std::max(high, at);
      }
    for (Index at = low; at <= high; ++at) {
      if (row[std::size_t(at)] == 0) continue;
      taps.position.push_back(at);
      taps.weight.push_back(row[std::size_t(at)]);
      row[std::size_t(at)] = 0;
    }
    taps.begin.push_back(taps.position.size());
  }
  return taps;
}

/// Weighted sums along one axis of [I, J, K], in double.
template <class T>
Tensor<T> apply_taps(const Tensor<T>& voxels, int axis, const Taps& taps) {
  Shape shape = voxels.shape();
  const Index n = shape[axis], m = taps.size();
  Index outer = 1, inner = 1;
  for (int a = 0; a < axis; ++a) outer *= shape[a];
  for (int a = axis + 1; a < 3; ++a) inner *= shape[a];
  shape[axis] = m;
  Tensor<T> out(shape);
  const T* in = voxels.data();
  T* to = out.data();
  if (inner == 1) {
    parallel_for(outer, [&, in, to](Index o) {
      for (Index j = 0; j < m; ++j) {
        double sum = 0;
        for (std::size_t t = taps.begin[std::size_t(j)]; t < taps.begin[std::size_t(j) + 1]; ++t)
          sum += taps.weight[t] * double(in[o * n + taps.position[t]]);
        to[o * m + j] = T(sum);
      }
    });
    return out;
  }
  parallel_for(outer * m, [&, in, to](Index row) {
    const Index o = row / m;
    const auto j = std::size_t(row % m);
    std::vector<double> sums(std::size_t(inner), 0.0);
    double* s = sums.data();
    for (std::size_t t = taps.begin[j]; t < taps.begin[j + 1]; ++t) {
      const T* from = in + (o * n + taps.position[t]) * inner;
      const double w = taps.weight[t];
      M3I_SIMD for (Index k = 0; k < inner; ++k) s[k] += w * double(from[k]);
    }
    for (Index k = 0; k < inner; ++k) to[row * inner + k] = T(s[k]);
  });
  return out;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
