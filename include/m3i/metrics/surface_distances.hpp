#pragma once
/// Distances between the surfaces of two masks: from each surface voxel of one to the nearest of the other.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "m3i/metrics/distance_transform.hpp"
#include "m3i/metrics/mask_bits.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// From each surface voxel of one mask, the distance to the nearest surface voxel of the other, between voxel centres,
/// in row-major order. Both lists are empty when either mask is.
struct SurfaceDistances {
  std::vector<double> prediction_to_reference, reference_to_prediction;
  Index prediction_surface = 0, reference_surface = 0;  ///< surface voxels
  double diagonal_mm = 0;                               ///< of the whole grid, from corner to corner

  bool empty() const { return prediction_surface == 0 || reference_surface == 0; }
};

namespace detail {

/// The set voxels of a mask, plane by plane in row-major order, with the best squared distance known so far.
struct SurfaceSearch {
  std::vector<Index> plane_begin;   // I + 1 entries
  std::vector<std::uint16_t> j, k;  // of each voxel
  std::vector<double> best;         // mm^2, of each voxel
  std::vector<double> worst;        // the largest `best` of each plane; negative where it has no voxel

  explicit SurfaceSearch(const MaskBits& surface) {
    constexpr double infinite = std::numeric_limits<double>::infinity();
    const auto n = std::size_t(surface.count());
    j.reserve(n), k.reserve(n);
    for (Index i = 0; i < surface.I; ++i) {
      plane_begin.push_back(Index(j.size()));
      for (Index row = 0; row < surface.J; ++row)
        surface.for_each_in_row(i, row, [&](Index at) {
          j.push_back(std::uint16_t(row));
          k.push_back(std::uint16_t(at));
        });
      worst.push_back(Index(j.size()) > plane_begin.back() ? infinite : -1);
    }
    plane_begin.push_back(Index(j.size()));
    best.assign(n, infinite);
  }
};

/// For every point (j, k) of one plane, the nearest set voxel in that plane: it lies in row `row`, `along` voxels away
/// along k. Sixteen bits each, so that some planes fit the cache of a core.
struct NearestInPlane {
  static constexpr std::uint16_t none = 0xffff;
  Index J = 0, K = 0;
  std::vector<std::uint16_t> along;  // [J, K]: from (j, k) to the nearest set voxel of row j; undefined in empty rows
  std::vector<std::uint16_t> row;    // [K, J]; none if no set voxel of the plane is near enough to matter

  NearestInPlane(Index J_, Index K_) : J(J_), K(K_), along(std::size_t(J * K)), row(std::size_t(J * K)) {}

  /// Leaves out what is further away than limit_mm2 along k alone.
  void compute(const MaskBits& set, Index i, const std::array<double, 3>& spacing_mm, double limit_mm2) {
    std::vector<std::uint16_t> rows;  // that hold a set voxel
    for (Index j = 0; j < J; ++j)
      if (fill_row(set, i, j)) rows.push_back(std::uint16_t(j));
    const double ratio = spacing_mm[2] / spacing_mm[1], scale = ratio * ratio;
    const auto reach = std::uint16_t(std::min(std::sqrt(limit_mm2) / spacing_mm[2] + 1, 65534.0));
    LowerEnvelope envelope(J);
    for (Index k = 0; k < K; ++k) {
      envelope.clear();
      for (const std::uint16_t j : rows) {
        const std::uint16_t distance = along[std::size_t(j * K + k)];
        if (distance <= reach) envelope.add(j, scale * double(distance) * double(distance));
      }
      std::uint16_t* column = row.data() + k * J;
      if (envelope.empty()) std::fill(column, column + J, none);
      envelope.for_each_piece(
          [&](Index root, Index begin, Index end) { std::fill(column + begin, column + end, std::uint16_t(root)); });
    }
  }

 private:
  bool fill_row(const MaskBits& set, Index i, Index j) {
    std::uint16_t* out = along.data() + j * K;
    Index last = -1;  // set voxel before, if any
    const auto between = [&](Index begin, Index end, Index from, Index sign) {
      for (Index k = begin; k < end; ++k) out[k] = std::uint16_t(sign * (k - from));
    };
    set.for_each_in_row(i, j, [&](Index at) {
      const Index middle = last < 0 ? 0 : (last + at + 1) / 2;
      if (last >= 0) between(last, middle, last, 1);
      between(middle, at, at, -1);
      last = at;
    });
    if (last >= 0) between(last, K, last, 1);
    return last >= 0;
  }
};

/// Lowers search.best[..] of the voxels in plane `at` by what plane `i` holds, which lies step_mm2 away.
inline void search_plane(SurfaceSearch& search,
                         Index at,
                         const NearestInPlane& plane,
                         double step_mm2,
                         const std::array<double, 3>& spacing_mm) {
  const double scale_j = spacing_mm[1] * spacing_mm[1], scale_k = spacing_mm[2] * spacing_mm[2];
  const auto end = std::size_t(search.plane_begin[std::size_t(at) + 1]);
  for (auto n = std::size_t(search.plane_begin[std::size_t(at)]); n < end; ++n) {
    if (search.best[n] <= step_mm2) continue;
    const Index j = search.j[n], k = search.k[n], row = plane.row[std::size_t(k * plane.J + j)];
    if (row == NearestInPlane::none) continue;
    const double dj = double(j - row), dk = double(plane.along[std::size_t(row * plane.K + k)]);
    search.best[n] = std::min(search.best[n], step_mm2 + scale_j * dj * dj + scale_k * dk * dk);
  }
}

/// The planes that hold a set voxel: first some spread evenly, whose distances bound the rest, then the others.
inline std::vector<Index> search_order(const MaskBits& set, Index first) {
  std::vector<Index> planes, order, rest;
  for (Index i = 0; i < set.I; ++i)
    if (std::any_of(set.row(i, 0), set.row(i, 0) + set.J * set.words, [](std::uint64_t w) { return w != 0; }))
      planes.push_back(i);
  const Index step = (Index(planes.size()) + first - 1) / first;
  for (Index n = 0; n < Index(planes.size()); ++n)
    (n % step == step / 2 ? order : rest).push_back(planes[std::size_t(n)]);
  order.insert(order.end(), rest.begin(), rest.end());
  return order;
}

}  // namespace detail

/// Distance in mm from each voxel set in `from` to the nearest voxel set in `to`, in row-major order.
///
/// The separable transform, but its last axis is searched only where `from` has voxels, and only as far as the best
/// distance so far. Exact but for rounding. Time O(box) for the first two axes; memory that of `from`'s set voxels and
/// of sixteen planes.
inline std::vector<double> nearest_distances(const MaskBits& from,
                                             const MaskBits& to,
                                             const std::array<double, 3>& spacing_mm) {
  constexpr Index batch = 16;
  detail::SurfaceSearch search(from);
  const auto step_mm2 = [&](Index a, Index b) { return double((a - b) * (a - b)) * spacing_mm[0] * spacing_mm[0]; };
  const std::vector<Index> order = detail::search_order(to, batch);
  std::vector<detail::NearestInPlane> planes(std::size_t(std::min(batch, Index(order.size()))), {from.J, from.K});
  for (Index first = 0; first < Index(order.size()); first += batch) {
    const Index count = std::min(batch, Index(order.size()) - first);
    const auto plane_of = [&](Index p) { return order[std::size_t(first + p)]; };
    std::array<double, batch> limit;  // mm^2 within the plane that can still lower a distance; negative: none
    for (Index p = 0; p < count; ++p) {
      limit[std::size_t(p)] = -1;
      for (Index i = 0; i < from.I; ++i)
        limit[std::size_t(p)] =
            std::max(limit[std::size_t(p)], search.worst[std::size_t(i)] - step_mm2(i, plane_of(p)));
    }
    parallel_for(count, [&](Index p) {
      if (limit[std::size_t(p)] > 0) planes[std::size_t(p)].compute(to, plane_of(p), spacing_mm, limit[std::size_t(p)]);
    });
    parallel_for(from.I, [&](Index i) {
      double& worst = search.worst[std::size_t(i)];
      for (Index p = 0; p < count; ++p)
        if (worst > step_mm2(i, plane_of(p)))
          detail::search_plane(search, i, planes[std::size_t(p)], step_mm2(i, plane_of(p)), spacing_mm);
      if (worst < 0) return;
      const auto begin = search.best.begin() + search.plane_begin[std::size_t(i)],
                 end = search.best.begin() + search.plane_begin[std::size_t(i) + 1];
      worst = *std::max_element(begin, end);
    });
  }
  for (double& d : search.best) d = std::sqrt(d);
  return std::move(search.best);
}

/// Surface distances between two masks of the same size, cut out of a grid with the given diagonal.
inline SurfaceDistances surface_distances(const MaskBits& prediction,
                                          const MaskBits& reference,
                                          const std::array<double, 3>& spacing_mm,
                                          double diagonal_mm) {
  const MaskBits p = surface_bits(prediction), r = surface_bits(reference);
  SurfaceDistances out{{}, {}, p.count(), r.count(), diagonal_mm};
  if (out.empty()) return out;
  out.prediction_to_reference = nearest_distances(p, r, spacing_mm);
  out.reference_to_prediction = nearest_distances(r, p, spacing_mm);
  return out;
}

namespace detail {
template <class L>
void check_surfaces(const Tensor<L>& prediction, const Tensor<L>& reference, const std::array<double, 3>& spacing_mm) {
  require(prediction.rank() == 3 && prediction.shape() == reference.shape(), "surface distances: prediction ",
          prediction.shape(), " and reference ", reference.shape(), " must be equal and [I, J, K]");
  require(prediction.shape()[1] < 65535 && prediction.shape()[2] < 65535, "surface distances: volume ",
          prediction.shape(), " is too large; at most 65534 voxels along j and k are possible");
  check_spacing("surface distances", spacing_mm);
}
inline double diagonal_mm(const Shape& shape, const std::array<double, 3>& spacing_mm) {
  double squares = 0;
  for (int a = 0; a < 3; ++a) {
    const double length = double(shape[a]) * spacing_mm[std::size_t(a)];
    squares += length * length;
  }
  return std::sqrt(squares);
}
}  // namespace detail

/// Surface distances between the voxels that hold `label` in two label maps. The surface of a mask is its voxels with
/// one of six neighbours outside; the outside of the grid counts as outside.
///
///   prediction, reference   [I, J, K]
///   spacing_mm              voxel size along i, j, k; 1, 1, 1 gives distances in voxels
///   box                     holds all voxels of the label in both, as joined label_boxes give it
///
/// Work and memory are those of the box; of the box, memory is some bits a voxel. Throws ShapeError when the shapes
/// differ or are not 3-D, or the spacing is not positive.
template <class L>
SurfaceDistances surface_distances(const Tensor<L>& prediction,
                                   const Tensor<L>& reference,
                                   L label,
                                   std::array<double, 3> spacing_mm,
                                   const VoxelBox& box) {
  detail::check_surfaces(prediction, reference, spacing_mm);
  return surface_distances(mask_bits(prediction, label, box), mask_bits(reference, label, box), spacing_mm,
                           detail::diagonal_mm(prediction.shape(), spacing_mm));
}

/// The same when the box is not known: finds it first.
template <class L>
SurfaceDistances surface_distances(const Tensor<L>& prediction,
                                   const Tensor<L>& reference,
                                   L label,
                                   std::array<double, 3> spacing_mm) {
  detail::check_surfaces(prediction, reference, spacing_mm);
  const Shape& s = prediction.shape();
  const MaskBits p = mask_bits(prediction, label, {{}, {s[0], s[1], s[2]}}),
                 r = mask_bits(reference, label, {{}, {s[0], s[1], s[2]}});
  const VoxelBox box = bounding_box(p).joined(bounding_box(r));
  return surface_distances(cropped(p, box), cropped(r, box), spacing_mm, detail::diagonal_mm(s, spacing_mm));
}

}  // namespace M3I_ABI
}  // namespace m3i
