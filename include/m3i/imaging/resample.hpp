#pragma once
/// Resampling, padding and cropping of volumes, with the affine that keeps every voxel where it is in space.
///
/// Voxel i covers [i - 1/2, i + 1/2]; input and output share the outer edge at the low end of each axis. With
/// step = output voxel size / input voxel size, output voxel j lies at input coordinate x = (j + 0.5) step - 0.5.
/// Linear clamps x to [0, n - 1] and does not smooth before shrinking; nearest takes floor(x + 0.5 + 1e-6), so that
/// ties, and what rounding makes of ties, go to the higher index.

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How to read between voxels: linear for intensities, nearest for labels.
enum class Sampling { linear, nearest };

namespace detail {

inline constexpr double tie = 1e-6;  // in input voxels

/// For each output position along one axis: two input positions and their weights. A weight of 0 stands for a value of
/// 0 outside the input, or for a position that does not matter.
struct AxisTable {
  std::vector<Index> low, high;
  std::vector<double> weight_low, weight_high;
  Index size() const { return Index(low.size()); }
};

/// m output positions over n input voxels that lie behind `before` voxels of zeros in a padded axis of `padded`.
inline AxisTable axis_table(Sampling sampling, Index n, Index m, double step, Index before, Index padded) {
  AxisTable t;
  const auto count = std::size_t(m);
  t.low.resize(count), t.high.resize(count), t.weight_low.resize(count), t.weight_high.resize(count);
  for (std::size_t j = 0; j < count; ++j) {
    const double x = (double(j) + 0.5) * step - 0.5, last = double(padded - 1);
    double low, weight = 0;
    if (sampling == Sampling::nearest) {
      low = std::clamp(std::floor(x + 0.5 + tie), 0.0, last);
    } else {
      low = std::floor(std::clamp(x, 0.0, last));
      weight = std::clamp(x, 0.0, last) - low;
    }
    const Index a = Index(low) - before, b = weight > 0 ? a + 1 : a;
    t.low[j] = std::clamp<Index>(a, 0, n - 1);
    t.high[j] = std::clamp<Index>(b, 0, n - 1);
    t.weight_low[j] = a == t.low[j] ? 1 - weight : 0;
    t.weight_high[j] = b == t.high[j] ? weight : 0;
  }
  return t;
}

inline void check_extent(const char* operation, const std::array<double, 3>& extent) {
  constexpr double most = double(Index(1) << 30);
  require(extent[0] >= 1 && extent[1] >= 1 && extent[2] >= 1 && extent[0] * extent[1] * extent[2] <= most, operation,
          ": would make ", extent[0], " x ", extent[1], " x ", extent[2], " voxels, expected 1 to ", most,
          " in all; is the voxel size in the header right?");
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

/// Reads the volume, padded with zeros to `padded` voxels of which `before` come first, at m positions of each axis.
template <class T>
Volume<T> resample_axes(const char* operation,
                        const Volume<T>& volume,
                        const Size3& m,
                        const Point3& step,
                        const Size3& before,
                        const Size3& padded,
                        Sampling sampling) {
  require_volume(operation, volume.voxels);
  check_extent(operation, {double(m[0]), double(m[1]), double(m[2])});
  const Size3 n = size3(volume.shape());
  std::array<AxisTable, 3> tables;
  Point3 shift;
  for (std::size_t a = 0; a < 3; ++a) {
    tables[a] = axis_table(sampling, n[a], m[a], step[a], before[a], padded[a]);
    shift[a] = 0.5 * step[a] - 0.5 - double(before[a]);
  }
  const Affine affine = volume.affine * Affine::scaling(step, shift);
  if (sampling == Sampling::nearest) return {resample_nearest(volume.voxels, tables), affine, volume.header};
  if constexpr (std::is_floating_point_v<T>) return {resample_linear(volume.voxels, tables), affine, volume.header};
  else fail(operation, ": linear sampling needs float or double voxels; use Sampling::nearest for labels");
}

}  // namespace detail

/// Voxels of the given size: extents max(1, floor(n * have / want + 0.5 + 1e-6)). The spacing comes out as asked; the
/// far edge may be off by half an output voxel. Throws ShapeError for a spacing that is not positive or makes too many
/// voxels.
template <class T>
Volume<T> resample_to_spacing(const Volume<T>& volume, const Point3& want_mm, Sampling sampling) {
  detail::require_volume("resample_to_spacing", volume.voxels);
  const Point3 have_mm = spacing_mm(volume.affine);
  const Size3 n = size3(volume.shape());
  Point3 step, extent;
  for (std::size_t a = 0; a < 3; ++a) {
    require(std::isfinite(want_mm[a]) && want_mm[a] > 0 && std::isfinite(have_mm[a]) && have_mm[a] > 0,
            "resample_to_spacing: from ", have_mm[a], " to ", want_mm[a], " mm on axis ", a,
            ", expected positive voxel sizes");
    step[a] = want_mm[a] / have_mm[a];
    extent[a] = std::max(1.0, std::floor(double(n[a]) * have_mm[a] / want_mm[a] + 0.5 + detail::tie));
  }
  detail::check_extent("resample_to_spacing", extent);
  return detail::resample_axes("resample_to_spacing", volume, {Index(extent[0]), Index(extent[1]), Index(extent[2])},
                               step, {0, 0, 0}, n, sampling);
}

/// The given extents over the same box: step = n / m. Linear is PyTorch's interpolate(trilinear, align_corners=False).
template <class T>
Volume<T> resample_to_size(const Volume<T>& volume, const Size3& size, Sampling sampling) {
  const Size3 n = size3(volume.shape());
  Point3 step;
  for (std::size_t a = 0; a < 3; ++a) {
    require(size[a] > 0, "resample_to_size: extent ", size[a], " on axis ", a, ", expected 1 or more");
    step[a] = double(n[a]) / double(size[a]);
  }
  return detail::resample_axes("resample_to_size", volume, size, step, {0, 0, 0}, n, sampling);
}

/// The volume in the middle of a cube of zeros: side = largest extent, (side - n) div 2 voxels before, the rest after;
/// the cube resampled to size^3. Same as pad_to_cube and resample_to_size, without ever making the cube.
template <class T>
Volume<T> resample_to_cube(const Volume<T>& volume, Index size, Sampling sampling) {
  require(size > 0, "resample_to_cube: size ", size, ", expected 1 or more");
  const Size3 n = size3(volume.shape());
  const Index side = *std::max_element(n.begin(), n.end());
  const double step = double(side) / double(size);
  return detail::resample_axes("resample_to_cube", volume, {size, size, size}, {step, step, step},
                               {(side - n[0]) / 2, (side - n[1]) / 2, (side - n[2]) / 2}, {side, side, side}, sampling);
}

/// More voxels around the volume, of one value.
template <class T>
Volume<T> pad(const Volume<T>& volume, const Size3& before, const Size3& after, T value = T(0)) {
  detail::require_volume("pad", volume.voxels);
  const Size3 n = size3(volume.shape());
  Size3 m;
  for (std::size_t a = 0; a < 3; ++a) {
    require(before[a] >= 0 && after[a] >= 0, "pad: ", before[a], " before and ", after[a], " after on axis ", a,
            ", expected 0 or more");
    m[a] = n[a] + before[a] + after[a];
  }
  detail::check_extent("pad", {double(m[0]), double(m[1]), double(m[2])});
  Tensor<T> out = Tensor<T>::full(shape_of(m), value);
  const T* in = volume.voxels.data();
  T* to = out.data();
  parallel_for(n[0], [=](Index i) {
    for (Index j = 0; j < n[1]; ++j)
      std::copy_n(in + (i * n[1] + j) * n[2], n[2], to + ((i + before[0]) * m[1] + j + before[1]) * m[2] + before[2]);
  });
  return {out, volume.affine * Affine::translation({-double(before[0]), -double(before[1]), -double(before[2])}),
          volume.header};
}

/// The box of `size` voxels that starts at voxel `begin`. Undoes pad with begin = before and the old size.
template <class T>
Volume<T> crop(const Volume<T>& volume, const Size3& begin, const Size3& size) {
  detail::require_volume("crop", volume.voxels);
  const Size3 n = size3(volume.shape());
  for (std::size_t a = 0; a < 3; ++a)
    require(begin[a] >= 0 && size[a] > 0 && begin[a] <= n[a] - size[a], "crop: [", begin[a], ", ", begin[a] + size[a],
            ") on axis ", a, " of ", volume.shape());
  Tensor<T> out(shape_of(size));
  const T* in = volume.voxels.data();
  T* to = out.data();
  parallel_for(size[0], [=](Index i) {
    for (Index j = 0; j < size[1]; ++j)
      std::copy_n(in + ((i + begin[0]) * n[1] + j + begin[1]) * n[2] + begin[2], size[2],
                  to + (i * size[1] + j) * size[2]);
  });
  return {out, volume.affine * Affine::translation({double(begin[0]), double(begin[1]), double(begin[2])}),
          volume.header};
}

template <class T>
Volume<T> pad_to_cube(const Volume<T>& volume, T value = T(0)) {
  const Size3 n = size3(volume.shape());
  const Index side = *std::max_element(n.begin(), n.end());
  Size3 before, after;
  for (std::size_t a = 0; a < 3; ++a) {
    before[a] = (side - n[a]) / 2;
    after[a] = side - n[a] - before[a];
  }
  return pad(volume, before, after, value);
}

namespace detail {

/// The eight voxels around a point, with weights: the offsets of a trilinear look-up. `inside` is false where the point
/// lies outside every voxel's box.
struct Corners {
  std::array<Index, 8> offset;
  std::array<double, 8> weight;
  bool inside;
};

inline Corners corners_at(const Point3& x, const Size3& n) {
  Corners c;
  c.inside = true;
  Size3 low, high;
  Point3 w;
  for (std::size_t a = 0; a < 3; ++a) {
    c.inside = c.inside && x[a] >= -0.5 - tie && x[a] <= double(n[a]) - 0.5 + tie;
    const double y = std::clamp(x[a], 0.0, double(n[a] - 1));
    low[a] = Index(y);
    high[a] = std::min(low[a] + 1, n[a] - 1);
    w[a] = y - double(low[a]);
  }
  for (std::size_t b = 0; b < 8; ++b) {
    const Index i = b & 4 ? high[0] : low[0], j = b & 2 ? high[1] : low[1], k = b & 1 ? high[2] : low[2];
    c.offset[b] = (i * n[1] + j) * n[2] + k;
    c.weight[b] = (b & 4 ? w[0] : 1 - w[0]) * (b & 2 ? w[1] : 1 - w[1]) * (b & 1 ? w[2] : 1 - w[2]);
  }
  return c;
}
/// Position of the nearest voxel, or -1 outside.
inline Index nearest_at(const Point3& x, const Size3& n) {
  Size3 at;
  for (std::size_t a = 0; a < 3; ++a) {
    const double y = std::floor(x[a] + 0.5 + tie);
    if (!(y >= 0 && y <= double(n[a]))) return -1;
    if (y == double(n[a]) && x[a] > double(n[a]) - 0.5 + tie) return -1;  // exactly the far edge still counts
    at[a] = std::min(Index(y), n[a] - 1);
  }
  return (at[0] * n[1] + at[1]) * n[2] + at[2];
}

/// Calls f(output position, input coordinate) for every voxel of the target grid.
template <class F>
void for_each_target(const Affine& source, const Grid& target, const F& f) {
  check_extent("resample_to_grid", {double(target.size[0]), double(target.size[1]), double(target.size[2])});
  const Affine map = inverse(source) * target.affine;
  const Size3 m = target.size;
  parallel_for(m[0], [&](Index i) {
    for (Index j = 0; j < m[1]; ++j)
      for (Index k = 0; k < m[2]; ++k) f((i * m[1] + j) * m[2] + k, map({double(i), double(j), double(k)}));
  });
}

}  // namespace detail

/// The volume on another grid, by the two affines: any rotation, spacing and extent. Outside the volume: `outside`.
/// This is how predictions go back to the grid of their input. Throws ShapeError, or NumericError for a flat affine.
template <class T>
Volume<T> resample_to_grid(const Volume<T>& volume, const Grid& target, Sampling sampling, T outside = T(0)) {
  detail::require_volume("resample_to_grid", volume.voxels);
  const Size3 n = size3(volume.shape());
  Tensor<T> out(shape_of(target.size));
  const T* in = volume.voxels.data();
  T* to = out.data();
  if (sampling == Sampling::nearest) {
    detail::for_each_target(volume.affine, target, [=](Index at, const Point3& x) {
      const Index from = detail::nearest_at(x, n);
      to[at] = from < 0 ? outside : in[from];
    });
  } else if constexpr (std::is_floating_point_v<T>) {
    detail::for_each_target(volume.affine, target, [=](Index at, const Point3& x) {
      const detail::Corners c = detail::corners_at(x, n);
      double sum = 0;
      for (std::size_t b = 0; b < 8; ++b)
        if (c.weight[b] > 0) sum += c.weight[b] * double(in[c.offset[b]]);
      to[at] = c.inside ? T(sum) : outside;
    });
  } else {
    fail("resample_to_grid: linear sampling needs float or double voxels; use Sampling::nearest for labels");
  }
  return {out, target.affine, volume.header};
}

/// The most likely class of each target voxel: scores [I, J, K, C] on `source`, interpolated class by class and then
/// compared, so that borders are smoother than those of nearest labels. Ties go to the lower class, outside is 0.
template <class T>
Tensor<std::int32_t> labels_on_grid(const Tensor<T>& scores, const Affine& source, const Grid& target) {
  require(scores.rank() == 4 && scores.size() > 0, "labels_on_grid: needs scores [I, J, K, C], got ", scores.shape());
  const Size3 n = size3(scores.shape());
  const Index classes = scores.shape()[3];
  Tensor<std::int32_t> out(shape_of(target.size));
  const T* in = scores.span().data();
  std::int32_t* to = out.data();
  detail::for_each_target(source, target, [=](Index at, const Point3& x) {
    const detail::Corners c = detail::corners_at(x, n);
    std::int32_t best = 0;
    double most = -HUGE_VAL;
    for (Index k = 0; c.inside && k < classes; ++k) {
      double sum = 0;
      for (std::size_t b = 0; b < 8; ++b) sum += c.weight[b] * double(in[c.offset[b] * classes + k]);
      if (sum > most) {
        most = sum;
        best = std::int32_t(k);
      }
    }
    to[at] = best;
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
