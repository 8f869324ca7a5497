#pragma once
/// Distances between the surfaces of two masks: Hausdorff, its 95th percentile in the three conventions in use, and the
/// average symmetric surface distance.
///
/// Figures of different conventions are not comparable, so the convention and the spacing are arguments without a
/// default, and a report must name them.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/metrics/distance_transform.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How the two directions become one number.
enum class Hausdorff95 {
  monai,     ///< mm; the percentile of each direction, then the larger (MONAI's HausdorffDistanceMetric)
  medpy,     ///< mm; one percentile of both directions' distances put together (medpy, nnU-Net 1)
  nnformer,  ///< voxels, not mm: as medpy, with spacing 1 (nnFormer's evaluation scripts)
};
inline const char* name(Hausdorff95 convention) {
  switch (convention) {
    case Hausdorff95::monai: return "HD95 (MONAI, mm)";
    case Hausdorff95::medpy: return "HD95 (medpy, mm)";
    case Hausdorff95::nnformer: break;
  }
  return "HD95 (nnFormer, voxels)";
}

/// What a surface distance is when the prediction or the reference is empty.
enum class EmptySurface {
  nan,    ///< NaN; means skip it (MONAI)
  zero,   ///< 0 (nnFormer's scripts; flatters a method that finds nothing)
  error,  ///< ShapeError (medpy)
};
/// What the named software does.
inline EmptySurface usual_empty(Hausdorff95 convention) {
  switch (convention) {
    case Hausdorff95::monai: return EmptySurface::nan;
    case Hausdorff95::medpy: return EmptySurface::error;
    case Hausdorff95::nnformer: break;
  }
  return EmptySurface::zero;
}

/// From each surface voxel of one mask, the distance to the nearest surface voxel of the other, between voxel centres.
/// Both lists are empty when either mask is.
struct SurfaceDistances {
  std::vector<double> prediction_to_reference, reference_to_prediction;
  Index prediction_surface = 0, reference_surface = 0;  ///< surface voxels

  bool empty() const { return prediction_surface == 0 || reference_surface == 0; }
};

namespace detail {

/// A box of voxels, end excluded.
struct VoxelBox {
  std::array<Index, 3> begin{}, end{};

  bool empty() const { return end[0] <= begin[0]; }
  void include(Index i, Index j, Index k) {
    const std::array<Index, 3> at{i, j, k};
    const bool first = empty();
    for (std::size_t a = 0; a < 3; ++a) {
      begin[a] = first ? at[a] : std::min(begin[a], at[a]);
      end[a] = first ? at[a] + 1 : std::max(end[a], at[a] + 1);
    }
  }
};

template <class L>
void include_label(VoxelBox& box, const Tensor<L>& labels, L label) {
  const Index I = labels.shape()[0], J = labels.shape()[1], K = labels.shape()[2];
  const L* row = labels.data();
  for (Index i = 0; i < I; ++i)
    for (Index j = 0; j < J; ++j, row += K) {
      const L* first = std::find(row, row + K, label);
      if (first == row + K) continue;
      Index last = K - 1;
      while (row[last] != label) --last;
      box.include(i, j, Index(first - row));
      box.include(i, j, last);
    }
}

/// The surface of the voxels that hold a label, cut out of `box`: those with one of six neighbours that does not.
/// Outside the grid counts as background.
template <class L>
Tensor<std::uint8_t> surface_in_box(const Tensor<L>& labels, L label, const VoxelBox& box) {
  const Index I = labels.shape()[0], J = labels.shape()[1], K = labels.shape()[2];
  const L* v = labels.data();
  const auto inside = [&](Index i, Index j, Index k) {
    return i >= 0 && j >= 0 && k >= 0 && i < I && j < J && k < K && v[(i * J + j) * K + k] == label;
  };
  Tensor<std::uint8_t> out({box.end[0] - box.begin[0], box.end[1] - box.begin[1], box.end[2] - box.begin[2]});
  std::uint8_t* o = out.data();
  for (Index i = box.begin[0]; i < box.end[0]; ++i)
    for (Index j = box.begin[1]; j < box.end[1]; ++j)
      for (Index k = box.begin[2]; k < box.end[2]; ++k)
        *o++ = inside(i, j, k) && !(inside(i - 1, j, k) && inside(i + 1, j, k) && inside(i, j - 1, k) &&
                                    inside(i, j + 1, k) && inside(i, j, k - 1) && inside(i, j, k + 1));
  return out;
}

inline Index count_set(const Tensor<std::uint8_t>& mask) {
  const auto values = mask.span();
  return Index(std::count(values.begin(), values.end(), std::uint8_t(1)));
}

inline std::vector<double> distances_from(const Tensor<std::uint8_t>& surface, const Tensor<double>& squared_mm) {
  std::vector<double> out;
  for (Index i = 0; i < surface.size(); ++i)
    if (surface.data()[i]) out.push_back(std::sqrt(squared_mm.data()[i]));
  return out;
}

}  // namespace detail

/// Surface distances between the voxels that hold `label` in two label maps.
///
///   prediction, reference   [I, J, K]
///   spacing_mm              voxel size along i, j, k; 1, 1, 1 gives distances in voxels
///
/// Work and memory are those of the box around both masks. Throws ShapeError when the shapes differ or are not 3-D, or
/// the spacing is not positive.
template <class L>
SurfaceDistances surface_distances(const Tensor<L>& prediction,
                                   const Tensor<L>& reference,
                                   L label,
                                   std::array<double, 3> spacing_mm) {
  require(prediction.rank() == 3 && prediction.shape() == reference.shape(), "hausdorff: prediction ",
          prediction.shape(), " and reference ", reference.shape(), " must be equal and [I, J, K]");
  for (const double s : spacing_mm)
    require(std::isfinite(s) && s > 0, "hausdorff: spacing ", s, " mm must be positive and finite");
  detail::VoxelBox box;
  detail::include_label(box, prediction, label);
  detail::include_label(box, reference, label);
  SurfaceDistances out;
  if (box.empty()) return out;
  const auto p = detail::surface_in_box(prediction, label, box), r = detail::surface_in_box(reference, label, box);
  out.prediction_surface = detail::count_set(p);
  out.reference_surface = detail::count_set(r);
  if (out.empty()) return out;
  out.prediction_to_reference = detail::distances_from(p, squared_distance_transform(r, spacing_mm));
  out.reference_to_prediction = detail::distances_from(r, squared_distance_transform(p, spacing_mm));
  return out;
}

/// The percentile of some values, linear between order statistics at position percent/100 (n - 1), as NumPy's default.
inline double percentile_of(std::vector<double> values, double percent) {
  require(!values.empty(), "percentile: no values");
  require(percent >= 0 && percent <= 100, "percentile: ", percent, " must lie in [0, 100]");
  const double position = percent / 100 * double(values.size() - 1);
  const auto low = values.begin() + Index(position);
  std::nth_element(values.begin(), low, values.end());
  const double below = *low, part = position - std::floor(position);
  if (part == 0) return below;
  return below + part * (*std::min_element(low + 1, values.end()) - below);
}

namespace detail {
inline double distance_of_empty(const char* metric, const SurfaceDistances& d, EmptySurface policy) {
  if (policy == EmptySurface::zero) return 0;
  if (policy == EmptySurface::nan) return std::numeric_limits<double>::quiet_NaN();
  const char* which = d.prediction_surface == 0 ? (d.reference_surface == 0 ? "both masks are" : "the prediction is")
                                                : "the reference is";
  fail(metric, ": ", which, " empty, so no distance exists; choose EmptySurface::nan or zero to go on");
}
inline std::vector<double> pooled(const SurfaceDistances& d) {
  std::vector<double> all = d.prediction_to_reference;
  all.insert(all.end(), d.reference_to_prediction.begin(), d.reference_to_prediction.end());
  return all;
}
}  // namespace detail

/// The 95th percentile of surface distances that were computed with the spacing that the convention asks for
/// (nnformer: 1, 1, 1).
inline double hd95(const SurfaceDistances& d, Hausdorff95 convention, EmptySurface empty) {
  if (d.empty()) return detail::distance_of_empty("hd95", d, empty);
  if (convention == Hausdorff95::monai)
    return std::max(percentile_of(d.prediction_to_reference, 95), percentile_of(d.reference_to_prediction, 95));
  return percentile_of(detail::pooled(d), 95);
}

/// The 95th percentile Hausdorff distance of one label, in mm (nnformer: in voxels).
template <class L>
double hd95(const Tensor<L>& prediction,
            const Tensor<L>& reference,
            L label,
            std::array<double, 3> spacing_mm,
            Hausdorff95 convention,
            EmptySurface empty) {
  if (convention == Hausdorff95::nnformer) spacing_mm = {1, 1, 1};
  return hd95(surface_distances(prediction, reference, label, spacing_mm), convention, empty);
}
template <class L>
double hd95(const Tensor<L>& prediction,
            const Tensor<L>& reference,
            L label,
            std::array<double, 3> spacing_mm,
            Hausdorff95 convention) {
  return hd95(prediction, reference, label, spacing_mm, convention, usual_empty(convention));
}

/// The largest distance. NaN when both masks are empty, infinity when one is (as MONAI).
inline double hausdorff(const SurfaceDistances& d) {
  if (d.prediction_surface == 0 && d.reference_surface == 0) return std::numeric_limits<double>::quiet_NaN();
  if (d.empty()) return std::numeric_limits<double>::infinity();
  return std::max(*std::max_element(d.prediction_to_reference.begin(), d.prediction_to_reference.end()),
                  *std::max_element(d.reference_to_prediction.begin(), d.reference_to_prediction.end()));
}

/// Average symmetric surface distance: the mean of both directions' distances put together.
inline double assd(const SurfaceDistances& d, EmptySurface empty = EmptySurface::nan) {
  if (d.empty()) return detail::distance_of_empty("assd", d, empty);
  double sum = 0;
  for (const double v : d.prediction_to_reference) sum += v;
  for (const double v : d.reference_to_prediction) sum += v;
  return sum / double(d.prediction_surface + d.reference_surface);
}

}  // namespace M3I_ABI
}  // namespace m3i
