#pragma once
/// Summaries of the distances between the surfaces of two masks: Hausdorff, its 95th percentile in the three
/// conventions in use, and the average symmetric surface distance, and the share
/// within a tolerance.
///
/// Figures of different conventions are not comparable, so the convention and the spacing are arguments without a
/// default, and a report must name them.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "m3i/metrics/empty.hpp"
#include "m3i/metrics/surface_distances.hpp"

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

/// What the named software does.
inline EmptySurface usual_empty(Hausdorff95 convention) {
  switch (convention) {
    case Hausdorff95::monai: return EmptySurface::nan;
    case Hausdorff95::medpy: return EmptySurface::error;
    case Hausdorff95::nnformer: break;
  }
  return EmptySurface::zero;
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
inline double distance_of_empty(const char* metric, const SurfaceDistances& d, const EmptyPolicy& policy) {
  return empty_distance(metric, policy, d.prediction_surface == 0, d.reference_surface == 0, d.diagonal_mm);
}
inline std::vector<double> pooled(const SurfaceDistances& d) {
  std::vector<double> all = d.prediction_to_reference;
  all.insert(all.end(), d.reference_to_prediction.begin(), d.reference_to_prediction.end());
  return all;
}
}  // namespace detail

/// The 95th percentile of surface distances that were computed with the spacing that the convention asks for
/// (nnformer: 1, 1, 1).
inline double hd95(const SurfaceDistances& d, Hausdorff95 convention, const EmptyPolicy& empty) {
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
            const EmptyPolicy& empty) {
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

/// The largest distance. By default NaN when both masks are empty, infinity when one is (as MONAI).
inline double hausdorff(const SurfaceDistances& d,
                        const EmptyPolicy& empty = {EmptySurface::nan, EmptySurface::infinite,
                                                    EmptySurface::infinite}) {
  if (d.empty()) return detail::distance_of_empty("hausdorff", d, empty);
  return std::max(*std::max_element(d.prediction_to_reference.begin(), d.prediction_to_reference.end()),
                  *std::max_element(d.reference_to_prediction.begin(), d.reference_to_prediction.end()));
}

/// Average symmetric surface distance: the mean of both directions' distances put together.
inline double assd(const SurfaceDistances& d, const EmptyPolicy& empty = EmptySurface::nan) {
  if (d.empty()) return detail::distance_of_empty("assd", d, empty);
  double sum = 0;
  for (const double v : d.prediction_to_reference) sum += v;
  for (const double v : d.reference_to_prediction) sum += v;
  return sum / double(d.prediction_surface + d.reference_surface);
}

/// Normalised surface distance (surface Dice): the share of both surfaces' voxels that lie within the tolerance of the
/// other surface, in [0, 1]. Surface voxels count one each, whatever the spacing, as in MONAI's compute_surface_dice;
/// counting by surface area, as DeepMind's surface-distance does, gives other figures. By default NaN when both masks
/// are empty, 0 when one is. Nikolov et al. 2018, "Deep learning to achieve clinically applicable segmentation of head
/// and neck anatomy".
inline double normalised_surface_distance(const SurfaceDistances& d,
                                          double tolerance_mm,
                                          const EmptyPolicy& empty = {EmptySurface::nan, EmptySurface::zero,
                                                                      EmptySurface::zero}) {
  require(std::isfinite(tolerance_mm) && tolerance_mm >= 0, "normalised surface distance: tolerance ", tolerance_mm,
          " mm must be finite and not negative");
  if (d.empty())
    return detail::empty_overlap("normalised surface distance", empty, d.prediction_surface == 0,
                                 d.reference_surface == 0);
  const auto within = [&](const std::vector<double>& distances) {
    return std::count_if(distances.begin(), distances.end(), [&](double v) { return v <= tolerance_mm; });
  };
  return double(within(d.prediction_to_reference) + within(d.reference_to_prediction)) /
         double(d.prediction_surface + d.reference_surface);
}

}  // namespace M3I_ABI
}  // namespace m3i
