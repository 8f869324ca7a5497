#pragma once
/// Overlap of label maps: counts and the Dice coefficient, for each class.

#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/metrics/empty.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Voxels of one class in the prediction, in the reference, and in both.
struct OverlapCounts {
  Index prediction = 0, reference = 0, both = 0;
};

/// What Dice means for a class that is absent. The two agree whenever the reference holds the class.
enum class EmptyDice {
  nan,  ///< NaN when the reference is empty, whatever the prediction; means skip it (MONAI's default, ignore_empty)
  one,  ///< 1 when both are empty, 0 when one is (MONAI with ignore_empty=False; nnFormer's evaluation scripts)
};

/// Dice = 2 |P and R| / (|P| + |R|), in [0, 1] or NaN.
/// Dice 1945, "Measures of the amount of ecologic association between species".
inline double dice(const OverlapCounts& counts, EmptyDice empty) {
  if (counts.reference == 0 && empty == EmptyDice::nan) return std::numeric_limits<double>::quiet_NaN();
  const Index total = counts.prediction + counts.reference;
  return total == 0 ? 1.0 : 2.0 * double(counts.both) / double(total);
}

namespace detail {
/// Twice the overlap over `total`, or what the policy says where a mask is empty. An overlap with a reference that was
/// missed is 0 by its definition, so EmptySurface::nan skips only what has no reference.
inline double overlap(
    const char* metric, const OverlapCounts& counts, double total, double shared, const EmptyPolicy& empty) {
  if (counts.prediction > 0 && counts.reference > 0) return shared / total;
  if (counts.reference > 0 && empty.prediction == EmptySurface::nan) return 0;
  return empty_overlap(metric, empty, counts.prediction == 0, counts.reference == 0);
}
}  // namespace detail

/// Dice under a policy of its own for each way of being empty.
inline double dice(const OverlapCounts& counts, const EmptyPolicy& empty) {
  return detail::overlap("dice", counts, double(counts.prediction + counts.reference), 2 * double(counts.both), empty);
}

/// Intersection over union, |P and R| / |P or R|; also called the Jaccard index. It is dice / (2 - dice).
inline double iou(const OverlapCounts& counts, const EmptyPolicy& empty) {
  const Index joined = counts.prediction + counts.reference - counts.both;
  return detail::overlap("iou", counts, double(joined), double(counts.both), empty);
}

/// The mean of the values that are not NaN; NaN if there are none.
inline double mean_skipping_nan(const std::vector<double>& values) {
  double sum = 0;
  Index n = 0;
  for (const double v : values)
    if (!std::isnan(v)) sum += v, ++n;
  return n == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / double(n);
}

/// Counts of classes 0 .. classes-1 in one pass over two label maps of the same shape (any rank).
///
///   prediction, reference   integer labels in [0, classes)
///   ->                      one entry for each class, background included
///
/// Throws ShapeError when the shapes differ or a label lies outside [0, classes).
template <class L>
std::vector<OverlapCounts> overlap_counts(const Tensor<L>& prediction, const Tensor<L>& reference, Index classes) {
  require(classes > 0, "dice: ", classes, " classes");
  require(prediction.shape() == reference.shape(), "dice: prediction ", prediction.shape(), " and reference ",
          reference.shape(), " differ; bring the prediction back to the reference's grid first");
  const std::span<const L> p = prediction.span(), r = reference.span();
  std::vector<OverlapCounts> total(static_cast<std::size_t>(classes));
  std::mutex mutex;
  parallel_chunks(Index(p.size()), Index(1) << 18, [&](Index begin, Index end) {
    std::vector<OverlapCounts> mine(total.size());
    for (std::size_t i = std::size_t(begin); i < std::size_t(end); ++i) {
      const Index a = Index(p[i]), b = Index(r[i]);
      require(a >= 0 && a < classes && b >= 0 && b < classes, "dice: voxel ", i, " holds label ", a,
              " in the prediction and ", b, " in the reference, expected labels in [0, ", classes, ")");
      ++mine[std::size_t(a)].prediction;
      ++mine[std::size_t(b)].reference;
      if (a == b) ++mine[std::size_t(a)].both;
    }
    const std::scoped_lock lock(mutex);  // integers: the order of adding does not matter
    for (std::size_t c = 0; c < total.size(); ++c) {
      total[c].prediction += mine[c].prediction;
      total[c].reference += mine[c].reference;
      total[c].both += mine[c].both;
    }
  });
  return total;
}

/// Counts of one label value; for sparse codes such as 26, 41, 100.
template <class L>
OverlapCounts overlap_of_label(const Tensor<L>& prediction, const Tensor<L>& reference, L label) {
  require(prediction.shape() == reference.shape(), "dice: prediction ", prediction.shape(), " and reference ",
          reference.shape(), " differ; bring the prediction back to the reference's grid first");
  OverlapCounts counts;
  const std::span<const L> p = prediction.span(), r = reference.span();
  for (std::size_t i = 0; i < p.size(); ++i) {
    counts.prediction += p[i] == label;
    counts.reference += r[i] == label;
    counts.both += p[i] == label && r[i] == label;
  }
  return counts;
}

/// Dice of every class but the background, their mean over the classes that are not NaN, and the counts behind them.
struct DiceScores {
  std::vector<double> per_class;      ///< of classes 1 .. classes-1
  std::vector<OverlapCounts> counts;  ///< of classes 0 .. classes-1
  double mean = 0;
};

template <class L>
DiceScores dice_scores(const Tensor<L>& prediction, const Tensor<L>& reference, Index classes, EmptyDice empty) {
  require(classes > 1, "dice: ", classes, " classes leave none beside the background");
  DiceScores scores;
  scores.counts = overlap_counts(prediction, reference, classes);
  for (std::size_t c = 1; c < scores.counts.size(); ++c) scores.per_class.push_back(dice(scores.counts[c], empty));
  scores.mean = mean_skipping_nan(scores.per_class);
  return scores;
}

}  // namespace M3I_ABI
}  // namespace m3i
