#pragma once
/// What one image of a data set is like: size, orientation, intensities, labels.

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/subject_list.hpp"
#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/intensity.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Numbers of one entry; what could not be read keeps its zero.
struct CaseFacts {
  bool image_read = false, labels_read = false;
  Size3 size{};
  Point3 spacing_mm{};
  std::string orientation;                        ///< "RAS", ...
  double low = 0, high = 0, mean = 0;             ///< intensities
  double foreground = 0;                          ///< mean intensity where labels are; without labels, above `mean`
  std::vector<std::pair<Index, Index>> labels{};  ///< (value, voxels) of the values that occur, 0 included
  std::uint64_t image_hash = 0, labels_hash = 0;  ///< of the voxels

  double voxel_ml() const { return spacing_mm[0] * spacing_mm[1] * spacing_mm[2] / 1000; }
  /// Voxels whose label is not 0.
  Index labelled() const {
    Index n = 0;
    for (const auto& [value, voxels] : labels) n += value != 0 ? voxels : 0;
    return n;
  }
};

namespace detail {

inline void add_image_facts(CaseFacts& facts, const Volume<float>& image) {
  const IntensityStats stats = intensity_stats(image.voxels);
  facts.image_read = true;
  facts.size = size3(image.shape());
  facts.spacing_mm = spacing_mm(image.affine);
  facts.orientation = orientation(image.affine);
  facts.low = stats.min, facts.high = stats.max, facts.mean = stats.mean;
  double sum = 0;
  Index count = 0;
  for (const float v : image.voxels.span())
    if (double(v) > stats.mean) sum += double(v), ++count;
  facts.foreground = count > 0 ? sum / double(count) : stats.mean;
}

/// `image` may be null: it could not be read, or lies on another grid.
inline void add_label_facts(CaseFacts& facts, const Tensor<std::int32_t>& labels, const Volume<float>* image) {
  facts.labels_read = true;
  std::map<Index, Index> counts;
  std::int32_t last = -1;
  Index run = 0;
  for (const std::int32_t v : labels.span()) {  // labels come in runs: the map is asked once a run
    if (v != last) {
      if (run > 0) counts[last] += run;
      last = v, run = 0;
    }
    ++run;
  }
  if (run > 0) counts[last] += run;
  facts.labels.assign(counts.begin(), counts.end());
  if (!image || facts.labelled() == 0) return;
  double sum = 0;
  for (Index i = 0; i < labels.size(); ++i)
    if (labels.data()[i] != 0) sum += double(image->voxels.data()[i]);
  facts.foreground = sum / double(facts.labelled());
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
