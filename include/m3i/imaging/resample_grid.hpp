#pragma once
/// Volumes, labels and scores on any other grid, by the two affines: how predictions go back to the grid of their
/// input.

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/resample.hpp"

namespace m3i {
inline namespace M3I_ABI {
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

/// Calls f(output position, input coordinate) for every voxel of a target of m voxels; map: target -> input voxel.
template <class F>
void for_each_target(const Affine& map, const Size3& m, const F& f) {
  check_extent("resample_to_grid", {double(m[0]), double(m[1]), double(m[2])});
  parallel_for(m[0], [&](Index i) {
    for (Index j = 0; j < m[1]; ++j)
      for (Index k = 0; k < m[2]; ++k) f((i * m[1] + j) * m[2] + k, map({double(i), double(j), double(k)}));
  });
}

/// voxels [I, J, K] at map(target voxel) for each of m target voxels.
template <class T>
Tensor<T> sample_at(const Tensor<T>& voxels, const Affine& map, const Size3& m, Sampling sampling, T outside) {
  require_volume("resample_to_grid", voxels);
  const Size3 n = size3(voxels.shape());
  Tensor<T> out(shape_of(m));
  const T* in = voxels.data();
  T* to = out.data();
  if (sampling == Sampling::nearest) {
    for_each_target(map, m, [=](Index at, const Point3& x) {
      const Index from = nearest_at(x, n);
      to[at] = from < 0 ? outside : in[from];
    });
    return out;
  }
  if constexpr (std::is_floating_point_v<T>) {
    require(sampling == Sampling::linear, "resample_to_grid: samples floating-point volumes linear or nearest");
    for_each_target(map, m, [=](Index at, const Point3& x) {
      const Corners c = corners_at(x, n);
      double sum = 0;
      for (std::size_t b = 0; b < 8; ++b)
        if (c.weight[b] > 0) sum += c.weight[b] * double(in[c.offset[b]]);
      to[at] = c.inside ? T(sum) : outside;
    });
  } else {
    require(sampling == Sampling::label_linear,
            "resample_to_grid: linear sampling needs float or double voxels; use Sampling::nearest for labels");
    for_each_target(map, m, [=](Index at, const Point3& x) {
      const Corners c = corners_at(x, n);
      std::array<T, 8> label;
      for (std::size_t b = 0; b < 8; ++b) label[b] = in[c.offset[b]];
      to[at] = c.inside ? winner(label, c.weight) : outside;
    });
  }
  return out;
}

/// The most likely class at map(target voxel): scores [I, J, K, C] interpolated, then compared.
template <class T>
Tensor<std::int32_t> argmax_at(const Tensor<T>& scores, const Affine& map, const Size3& m) {
  require(scores.rank() == 4 && scores.size() > 0, "labels_on_grid: needs scores [I, J, K, C], got ", scores.shape());
  const Size3 n = size3(scores.shape());
  const Index classes = scores.shape()[3];
  Tensor<std::int32_t> out(shape_of(m));
  const T* in = scores.span().data();
  std::int32_t* to = out.data();
  for_each_target(map, m, [=](Index at, const Point3& x) {
    const Corners c = corners_at(x, n);
    std::int32_t best = 0;
    double most = -HUGE_VAL;
    for (Index k = 0; c.inside && k < classes; ++k) {
      double sum = 0;
      for (std::size_t b = 0; b < 8; ++b)
        if (c.weight[b] > 0) sum += c.weight[b] * double(in[c.offset[b] * classes + k]);
      if (sum > most) {
        most = sum;
        best = std::int32_t(k);
      }
    }
    to[at] = best;
  });
  return out;
}

}  // namespace detail

/// The volume on another grid, by the two affines: any rotation, spacing and extent. Outside the volume: `outside`.
/// Throws ShapeError, or NumericError for a flat affine.
template <class T>
Volume<T> resample_to_grid(const Volume<T>& volume, const Grid& target, Sampling sampling, T outside = T(0)) {
  const Affine map = inverse(volume.affine) * target.affine;
  return {detail::sample_at(volume.voxels, map, target.size, sampling, outside), target.affine, volume.header};
}

/// The most likely class of each target voxel: scores [I, J, K, C] on `source`, interpolated class by class and then
/// compared, so that borders are smoother than those of nearest labels. Ties go to the lower class, outside is 0.
template <class T>
Tensor<std::int32_t> labels_on_grid(const Tensor<T>& scores, const Affine& source, const Grid& target) {
  return detail::argmax_at(scores, inverse(source) * target.affine, target.size);
}

}  // namespace M3I_ABI
}  // namespace m3i
