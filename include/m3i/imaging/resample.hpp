#pragma once
/// Resampling of volumes along their axes, with the affine that keeps every voxel where it is in space.
///
/// Voxel i covers [i - 1/2, i + 1/2]; input and output share the outer edge at the low end of each axis. With
/// step = output voxel size / input voxel size, output voxel j lies at input coordinate x = (j + 0.5) step - 0.5.
/// Linear and cubic clamp x to [0, n - 1]; they smooth before shrinking only if asked (antialias). Nearest takes
/// floor(x + 0.5 + 1e-6), so that ties, and what rounding makes of ties, go to the higher index.

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/pad.hpp"
#include "m3i/imaging/resample_kernel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// For each output position along one axis: two input positions and their weights. A weight of 0 stands for a value of
/// 0 outside the input, or for a position that does not matter.
struct AxisTable {
  std::vector<Index> low, high;
  std::vector<double> weight_low, weight_high;
  Index size() const { return Index(low.size()); }
};

inline AxisTable axis_table(const AxisGeometry& axis, bool nearest) {
  AxisTable t;
  const auto count = std::size_t(axis.m);
  t.low.resize(count), t.high.resize(count), t.weight_low.resize(count), t.weight_high.resize(count);
  for (std::size_t j = 0; j < count; ++j) {
    const double x = axis.at(Index(j)), last = double(axis.padded - 1);
    double low, weight = 0;
    if (nearest) {
      low = std::clamp(std::floor(x + 0.5 + tie), 0.0, last);
    } else {
      low = std::floor(std::clamp(x, 0.0, last));
      weight = std::clamp(x, 0.0, last) - low;
    }
    const Index a = Index(low) - axis.before, b = weight > 0 ? a + 1 : a;
    t.low[j] = std::clamp<Index>(a, 0, axis.n - 1);
    t.high[j] = std::clamp<Index>(b, 0, axis.n - 1);
    t.weight_low[j] = a == t.low[j] ? 1 - weight : 0;
    t.weight_high[j] = b == t.high[j] ? weight : 0;
  }
  return t;
}

/// Along the three axes at once: a row of the input is blended from four, then read between its voxels. Sums are in
/// double: in float the weights would not add up to 1, and a constant volume would not stay constant.
template <class T>
Tensor<T> resample_linear(const Tensor<T>& voxels, const std::array<AxisTable, 3>& t) {
  const Index n1 = voxels.shape()[1], n2 = voxels.shape()[2];
  Tensor<T> out({t[0].size(), t[1].size(), t[2].size()});
  const T* in = voxels.data();
  parallel_for(t[0].size(), [&](Index i) {
    std::vector<double> row(static_cast<std::size_t>(n2));
    const auto ii = std::size_t(i);
    for (std::size_t j = 0; j < std::size_t(t[1].size()); ++j) {
      const T* a = in + (t[0].low[ii] * n1 + t[1].low[j]) * n2;
      const T* b = in + (t[0].low[ii] * n1 + t[1].high[j]) * n2;
      const T* c = in + (t[0].high[ii] * n1 + t[1].low[j]) * n2;
      const T* d = in + (t[0].high[ii] * n1 + t[1].high[j]) * n2;
      const double wa = t[0].weight_low[ii] * t[1].weight_low[j], wb = t[0].weight_low[ii] * t[1].weight_high[j];
      const double wc = t[0].weight_high[ii] * t[1].weight_low[j], wd = t[0].weight_high[ii] * t[1].weight_high[j];
      double* r = row.data();
      M3I_SIMD for (Index k = 0; k < n2; ++k) r[k] =
          wa * double(a[k]) + wb * double(b[k]) + wc * double(c[k]) + wd * double(d[k]);
      T* to = out.data() + (i * t[1].size() + Index(j)) * t[2].size();
      for (std::size_t k = 0; k < std::size_t(t[2].size()); ++k)
        to[k] = T(t[2].weight_low[k] * r[t[2].low[k]] + t[2].weight_high[k] * r[t[2].high[k]]);
    }
  });
  return out;
}

template <class T>
Tensor<T> resample_nearest(const Tensor<T>& voxels, const std::array<AxisTable, 3>& t) {
  const Index n1 = voxels.shape()[1], n2 = voxels.shape()[2];
  Tensor<T> out({t[0].size(), t[1].size(), t[2].size()});
  const T* in = voxels.data();
  parallel_for(t[0].size(), [&](Index i) {
    for (std::size_t j = 0; j < std::size_t(t[1].size()); ++j) {
      const T* from = in + (t[0].low[std::size_t(i)] * n1 + t[1].low[j]) * n2;
      T* to = out.data() + (i * t[1].size() + Index(j)) * t[2].size();
      const bool inside = t[0].weight_low[std::size_t(i)] > 0 && t[1].weight_low[j] > 0;
      for (std::size_t k = 0; k < std::size_t(t[2].size()); ++k)
        to[k] = inside && t[2].weight_low[k] > 0 ? from[t[2].low[k]] : T(0);
    }
  });
  return out;
}

/// The label with the largest weight among eight neighbours; the lowest of equal ones. Weights that are missing to 1
/// are the padding's, which is label 0.
template <class T>
T winner(const std::array<T, 8>& label, const std::array<double, 8>& weight) {
  if (label[0] == 0 || std::accumulate(weight.begin(), weight.end(), 0.0) > 1 - 1e-9) {
    bool all_equal = true;
    for (std::size_t b = 1; b < 8; ++b) all_equal = all_equal && label[b] == label[0];
    if (all_equal) return label[0];
  }
  double most = 1 - std::accumulate(weight.begin(), weight.end(), 0.0);
  T best = 0;
  for (std::size_t b = 0; b < 8; ++b)
    if (label[b] == 0) most += weight[b];
  for (std::size_t b = 0; b < 8; ++b) {
    double sum = 0;
    for (std::size_t c = 0; c < 8; ++c) sum += label[c] == label[b] ? weight[c] : 0;
    // Equal but for rounding counts as equal: which of two labels wins must not hang on the order of a sum.
    if (label[b] != 0 && (sum > most + 1e-12 || (sum > most - 1e-12 && label[b] < best))) most = sum, best = label[b];
  }
  return best;
}

/// Labels by masks that are interpolated and compared. Only the labels of the eight voxels around a point can win, so
/// no mask is ever made.
template <class T>
Tensor<T> resample_label_linear(const Tensor<T>& voxels, const std::array<AxisTable, 3>& t) {
  const Index n1 = voxels.shape()[1], n2 = voxels.shape()[2];
  Tensor<T> out({t[0].size(), t[1].size(), t[2].size()});
  const T* in = voxels.data();
  T* to = out.data();
  parallel_for(t[0].size(), [&, in, to](Index i) {
    const auto ii = std::size_t(i);
    for (std::size_t j = 0; j < std::size_t(t[1].size()); ++j)
      for (std::size_t k = 0; k < std::size_t(t[2].size()); ++k) {
        std::array<T, 8> label;
        std::array<double, 8> weight;
        for (std::size_t b = 0; b < 8; ++b) {
          const Index x = b & 4 ? t[0].high[ii] : t[0].low[ii], y = b & 2 ? t[1].high[j] : t[1].low[j];
          label[b] = in[(x * n1 + y) * n2 + (b & 1 ? t[2].high[k] : t[2].low[k])];
          weight[b] = (b & 4 ? t[0].weight_high[ii] : t[0].weight_low[ii]) *
                      (b & 2 ? t[1].weight_high[j] : t[1].weight_low[j]) *
                      (b & 1 ? t[2].weight_high[k] : t[2].weight_low[k]);
        }
        to[(i * t[1].size() + Index(j)) * t[2].size() + Index(k)] = winner(label, weight);
      }
  });
  return out;
}

}  // namespace detail

/// New positions along the three axes of a grid: output voxel j lies at (j + 0.5) step - 0.5 of the input, which stands
/// behind `before` voxels of zeros in a padded grid of `padded`.
struct Resampling {
  Size3 size{1, 1, 1};
  Point3 step{1, 1, 1};
  Size3 before{0, 0, 0}, padded{1, 1, 1};

  /// New voxel -> old voxel.
  Affine map() const {
    Point3 shift;
    for (std::size_t a = 0; a < 3; ++a) shift[a] = 0.5 * step[a] - 0.5 - double(before[a]);
    return Affine::scaling(step, shift);
  }
  /// Every voxel of a grid of n voxels stays what it is.
  bool is_identity(const Size3& n) const {
    return size == n && padded == n && step == Point3{1, 1, 1} && before == Size3{0, 0, 0};
  }
  friend bool operator==(const Resampling&, const Resampling&) = default;

  /// Voxels of the given size: extents max(1, floor(n * have / want + 0.5 + 1e-6)). The spacing comes out as asked; the
  /// far edge may be off by half an output voxel. Throws ShapeError for a spacing that is not positive or makes too
  /// many voxels.
  static Resampling to_spacing(const Grid& grid, const Point3& want_mm) {
    const Point3 have_mm = spacing_mm(grid.affine);
    Resampling r;
    Point3 extent;
    for (std::size_t a = 0; a < 3; ++a) {
      require(std::isfinite(want_mm[a]) && want_mm[a] > 0 && std::isfinite(have_mm[a]) && have_mm[a] > 0,
              "resample_to_spacing: from ", have_mm[a], " to ", want_mm[a], " mm on axis ", a,
              ", expected positive voxel sizes");
      r.step[a] = want_mm[a] / have_mm[a];
      extent[a] = std::max(1.0, std::floor(double(grid.size[a]) * have_mm[a] / want_mm[a] + 0.5 + detail::tie));
    }
    detail::check_extent("resample_to_spacing", extent);
    for (std::size_t a = 0; a < 3; ++a) r.size[a] = Index(extent[a]);
    r.padded = grid.size;
    return r;
  }
  /// The given extents over the same box: step = n / m.
  static Resampling to_size(const Grid& grid, const Size3& size) {
    Resampling r;
    for (std::size_t a = 0; a < 3; ++a) {
      require(size[a] > 0, "resample_to_size: extent ", size[a], " on axis ", a, ", expected 1 or more");
      r.step[a] = double(grid.size[a]) / double(size[a]);
    }
    r.size = size;
    r.padded = grid.size;
    return r;
  }
  /// size^3 over the cube of zeros in whose middle the grid lies: side = largest extent, (side - n) div 2 voxels
  /// before.
  static Resampling to_cube(const Grid& grid, Index size) {
    require(size > 0, "resample_to_cube: size ", size, ", expected 1 or more");
    Resampling r;
    const Index side = *std::max_element(grid.size.begin(), grid.size.end());
    const double step = double(side) / double(size);
    r.size = {size, size, size};
    r.step = {step, step, step};
    r.padded = {side, side, side};
    for (std::size_t a = 0; a < 3; ++a) r.before[a] = (side - grid.size[a]) / 2;
    return r;
  }
};

/// The volume at new positions. antialias: blurred by a Gaussian of (step - 1) / 2 voxels along the axes that shrink,
/// for linear and cubic. Throws ShapeError for too many voxels, and for linear or cubic sampling of whole numbers.
template <class T>
Volume<T> resample(const Volume<T>& volume, const Resampling& r, Sampling sampling, bool antialias = false) {
  detail::require_volume("resample", volume.voxels);
  detail::check_extent("resample", {double(r.size[0]), double(r.size[1]), double(r.size[2])});
  const Size3 n = size3(volume.shape());
  const Affine affine = volume.affine * r.map();
  if (r.is_identity(n)) return {volume.voxels, affine, volume.header};
  const bool intensities = sampling == Sampling::linear || sampling == Sampling::cubic;
  std::array<detail::AxisGeometry, 3> axes;
  bool shrinks = false;
  for (std::size_t a = 0; a < 3; ++a) {
    axes[a] = {n[a], r.size[a], r.step[a], r.before[a], r.padded[a]};
    shrinks = shrinks || r.step[a] > 1;
  }
  const bool kernel = sampling == Sampling::cubic || (sampling == Sampling::linear && antialias && shrinks);
  std::array<detail::AxisTable, 3> tables;
  for (std::size_t a = 0; a < 3 && !kernel; ++a) tables[a] = detail::axis_table(axes[a], sampling == Sampling::nearest);
  if (sampling == Sampling::nearest) return {detail::resample_nearest(volume.voxels, tables), affine, volume.header};
  if constexpr (std::is_floating_point_v<T>) {
    require(intensities, "resample: label_linear sampling is for whole numbers; use linear or cubic");
    if (!kernel) return {detail::resample_linear(volume.voxels, tables), affine, volume.header};
    Tensor<T> voxels = volume.voxels;
    for (int a = 0; a < 3; ++a)
      voxels = detail::apply_taps(voxels, a, detail::make_taps(axes[std::size_t(a)], sampling, antialias));
    return {voxels, affine, volume.header};
  } else {
    require(!intensities,
            "resample: linear and cubic sampling need float or double voxels; use Sampling::nearest or "
            "Sampling::label_linear for labels");
    return {detail::resample_label_linear(volume.voxels, tables), affine, volume.header};
  }
}

/// Voxels of the given size; see Resampling::to_spacing.
template <class T>
Volume<T> resample_to_spacing(const Volume<T>& volume,
                              const Point3& want_mm,
                              Sampling sampling,
                              bool antialias = false) {
  return resample(volume, Resampling::to_spacing(volume.grid(), want_mm), sampling, antialias);
}

/// The given extents over the same box. Linear is PyTorch's interpolate(trilinear, align_corners=False).
template <class T>
Volume<T> resample_to_size(const Volume<T>& volume, const Size3& size, Sampling sampling, bool antialias = false) {
  return resample(volume, Resampling::to_size(volume.grid(), size), sampling, antialias);
}

/// The volume in the middle of a cube of zeros, resampled to size^3. Same as pad_to_cube and resample_to_size, without
/// ever making the cube.
template <class T>
Volume<T> resample_to_cube(const Volume<T>& volume, Index size, Sampling sampling, bool antialias = false) {
  return resample(volume, Resampling::to_cube(volume.grid(), size), sampling, antialias);
}

}  // namespace M3I_ABI
}  // namespace m3i
