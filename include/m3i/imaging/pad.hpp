#pragma once
/// Padding and cropping of volumes; voxels stay where they are in space.

#include <algorithm>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

inline void check_extent(const char* operation, const Point3& extent) {
  constexpr double most = double(Index(1) << 30);
  require(extent[0] >= 1 && extent[1] >= 1 && extent[2] >= 1 && extent[0] * extent[1] * extent[2] <= most, operation,
          ": would make ", extent[0], " x ", extent[1], " x ", extent[2], " voxels, expected 1 to ", most,
          " in all; is the voxel size in the header right?");
}

/// New voxel -> old voxel, where the new grid starts at old voxel `begin`.
inline Affine shift_map(const Size3& begin) {
  return Affine::translation({double(begin[0]), double(begin[1]), double(begin[2])});
}

}  // namespace detail

/// Voxels to add before and after each axis.
struct Padding {
  Size3 before{0, 0, 0}, after{0, 0, 0};

  /// New voxel -> old voxel.
  Affine map() const { return Affine::translation({-double(before[0]), -double(before[1]), -double(before[2])}); }
  /// What brings n voxels to at least m: half of what is missing before (rounded down), the rest after.
  static Padding to_at_least(const Size3& n, const Size3& m) {
    Padding p;
    for (std::size_t a = 0; a < 3; ++a) {
      const Index missing = std::max<Index>(0, m[a] - n[a]);
      p.before[a] = missing / 2;
      p.after[a] = missing - p.before[a];
    }
    return p;
  }
  friend bool operator==(const Padding&, const Padding&) = default;
};

/// Some of the voxels of a grid: `size` of them from `begin` on.
struct CropBox {
  Size3 begin{0, 0, 0}, size{0, 0, 0};

  /// New voxel -> old voxel.
  Affine map() const { return detail::shift_map(begin); }
  friend bool operator==(const CropBox&, const CropBox&) = default;
};

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
  return {out, volume.affine * Padding{before, after}.map(), volume.header};
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
  return {out, volume.affine * detail::shift_map(begin), volume.header};
}

/// The volume in the middle of a cube: side = largest extent, (side - n) div 2 voxels before, the rest after.
template <class T>
Volume<T> pad_to_cube(const Volume<T>& volume, T value = T(0)) {
  const Size3 n = size3(volume.shape());
  const Index side = *std::max_element(n.begin(), n.end());
  const Padding p = Padding::to_at_least(n, {side, side, side});
  return pad(volume, p.before, p.after, value);
}

/// The smallest box that holds all voxels above the threshold, `margin_mm` wider on each side as far as the volume
/// goes. All of the volume if no voxel is above it: an empty crop would be of no use to anyone.
template <class T>
CropBox foreground_box(const Volume<T>& volume, double threshold, double margin_mm = 0) {
  detail::require_volume("foreground_box", volume.voxels);
  require(margin_mm >= 0, "foreground_box: margin ", margin_mm, " mm, expected 0 or more");
  const Size3 n = size3(volume.shape());
  const T* in = volume.voxels.data();
  struct Extremes {
    Size3 low, high;
  };
  const Extremes nothing{n, {-1, -1, -1}};
  std::vector<Extremes> planes(static_cast<std::size_t>(n[0]), nothing);  // one a plane, so that threads share nothing
  parallel_for(n[0], [&](Index i) {
    Extremes& r = planes[std::size_t(i)];
    for (Index j = 0; j < n[1]; ++j) {
      const T* row = in + (i * n[1] + j) * n[2];
      Index first = 0, last = n[2] - 1;
      while (first < n[2] && !(double(row[first]) > threshold)) ++first;
      if (first == n[2]) continue;
      while (!(double(row[last]) > threshold)) --last;
      r.low = {i, std::min(r.low[1], j), std::min(r.low[2], first)};
      r.high = {i, std::max(r.high[1], j), std::max(r.high[2], last)};
    }
  });
  Extremes all = nothing;
  for (const Extremes& r : planes)
    for (std::size_t a = 0; a < 3; ++a) {
      all.low[a] = std::min(all.low[a], r.low[a]);
      all.high[a] = std::max(all.high[a], r.high[a]);
    }
  if (all.high[0] < 0) return {{0, 0, 0}, n};
  CropBox box;
  const Point3 spacing = spacing_mm(volume.affine);
  for (std::size_t a = 0; a < 3; ++a) {
    const Index margin = Index(std::min(std::ceil(margin_mm / spacing[a] - 1e-6), double(n[a])));
    box.begin[a] = std::max<Index>(0, all.low[a] - margin);
    box.size[a] = std::min(n[a], all.high[a] + 1 + margin) - box.begin[a];
  }
  return box;
}

}  // namespace M3I_ABI
}  // namespace m3i
