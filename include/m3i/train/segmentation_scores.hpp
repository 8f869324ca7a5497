#pragma once
/// Scores of predicted label volumes: per case and structure, their means, and a table. As files: scores_report.hpp.

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "m3i/metrics/dice.hpp"
#include "m3i/metrics/hausdorff.hpp"
#include "m3i/metrics/summary.hpp"
#include "m3i/train/plot.hpp"
#include "m3i/train/report.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Reads "monai", "medpy" or "nnformer".
inline Hausdorff95 parse_convention(const std::string& name) {
  if (name == "monai") return Hausdorff95::monai;
  if (name == "medpy") return Hausdorff95::medpy;
  if (name == "nnformer") return Hausdorff95::nnformer;
  fail<ConfigError>("convention: \"", name, "\" is none of monai, medpy, nnformer");
}

/// One structure in one case. A figure is NaN where it is undefined, and then left out of means.
struct StructureScore {
  OverlapCounts voxels;
  double dice = 0, iou = 0;
  double hd95 = 0, hd = 0, assd = 0;  ///< in mm (nnformer: voxels)
  double nsd = 0;                     ///< normalised surface distance at the tolerance

  bool missed() const { return voxels.reference > 0 && voxels.prediction == 0; }
  bool spurious() const { return voxels.reference == 0 && voxels.prediction > 0; }
  bool absent() const { return voxels.reference == 0 && voxels.prediction == 0; }
};

struct SegmentationCase {
  std::string subject, image, labels;
  std::array<double, 3> spacing_mm{1, 1, 1};
  std::vector<StructureScore> structures;  ///< of classes 1, 2, ...
};

/// A column of the reports.
struct ScoreMetric {
  using Value = double StructureScore::*;  // a name of its own: nvcc warns of the type's declarator
  const char *key, *words;
  Value value;
  bool distance;  ///< in mm (nnformer: voxels), else without unit
};
inline constexpr std::array<ScoreMetric, 6> score_metrics{{
    {"dice", "Dice coefficient, 2 |P and R| / (|P| + |R|)", &StructureScore::dice, false},
    {"hd95", "95th percentile Hausdorff distance, by the convention", &StructureScore::hd95, true},
    {"iou", "intersection over union, |P and R| / |P or R|", &StructureScore::iou, false},
    {"nsd", "normalised surface distance: share of surface voxels within the tolerance (counted as MONAI)",
     &StructureScore::nsd, false},
    {"assd", "average symmetric surface distance: mean of both directions' distances together", &StructureScore::assd,
     true},
    {"hd", "Hausdorff distance: the largest surface distance", &StructureScore::hd, true},
}};

/// Everything that was scored, with the conventions that make the figures comparable.
struct SegmentationScores {
  Hausdorff95 convention = Hausdorff95::monai;
  std::vector<std::string> names;    ///< of classes; entry 0 is the background
  std::vector<std::int32_t> values;  ///< of the classes in label files
  std::vector<SegmentationCase> cases;
  double nsd_tolerance = 1;                         ///< mm (nnformer: voxels)
  std::optional<EmptyPolicy> empty = std::nullopt;  ///< none: what the named software does

  bool in_voxels() const { return convention == Hausdorff95::nnformer; }
  const char* unit() const { return in_voxels() ? "voxels" : "mm"; }
  EmptyPolicy overlap_policy() const {
    if (empty) return *empty;
    if (in_voxels()) return {EmptySurface::perfect, EmptySurface::zero, EmptySurface::zero};
    return EmptySurface::nan;
  }
  EmptyPolicy distance_policy() const { return empty.value_or(in_voxels() ? EmptySurface::zero : EmptySurface::nan); }
  std::string dice_text() const {
    if (empty) return text("Dice; empty masks: ", empty->text());
    return in_voxels() ? "Dice; an absent structure counts 1 if not predicted, else 0 (nnFormer)"
                       : "Dice; structures absent from the reference are left out (MONAI)";
  }
  std::string hd95_text() const {
    if (empty) return text(name(convention), "; empty masks: ", empty->text());
    return text(name(convention),
                in_voxels() ? "; 0 when prediction or reference is empty"
                            : "; left out when prediction or reference is empty, and counted as missed or spurious");
  }
  /// "dice", "hd95_mm", "nsd_at_1_mm"; with a statistic "dice_mean", "hd95_mean_mm", "nsd_mean_at_1_mm".
  std::string column(const ScoreMetric& metric, const std::string& statistic = "") const {
    const std::string unit_part = metric.distance                        ? text('_', unit())
                                  : metric.value == &StructureScore::nsd ? text("_at_", nsd_tolerance, '_', unit())
                                                                         : std::string();
    return metric.key + (statistic.empty() ? "" : "_" + statistic) + unit_part;
  }
};

/// Scores one case: classes [I, J, K] of both on the same grid, numbered as in `scores.names`. One structure after the
/// other, each on all threads and in the box around it: memory is that of the largest structure alone.
template <class L>
SegmentationCase score_case(const SegmentationScores& scores,
                            const Tensor<L>& prediction,
                            const Tensor<L>& reference,
                            std::array<double, 3> spacing_mm) {
  SegmentationCase out;
  out.spacing_mm = spacing_mm;
  const Index classes = Index(scores.names.size());
  const auto counts = overlap_counts(prediction, reference, classes);
  const auto predicted = label_boxes(prediction, classes), labelled = label_boxes(reference, classes);
  if (scores.in_voxels()) spacing_mm = {1, 1, 1};
  const EmptyPolicy overlap = scores.overlap_policy(), distance = scores.distance_policy();
  for (std::size_t c = 1; c < counts.size(); ++c) {
    const SurfaceDistances d =
        surface_distances(prediction, reference, L(c), spacing_mm, predicted[c].joined(labelled[c]));
    StructureScore s{.voxels = counts[c]};
    s.dice = dice(s.voxels, overlap);
    s.iou = iou(s.voxels, overlap);
    s.hd95 = hd95(d, scores.convention, distance);
    s.hd = hausdorff(d, distance);
    s.assd = assd(d, distance);
    s.nsd = s.missed() && overlap.prediction == EmptySurface::nan
                ? 0  // as Dice
                : normalised_surface_distance(d, scores.nsd_tolerance, overlap);
    out.structures.push_back(s);
  }
  return out;
}

/// One structure over all cases.
struct StructureSummary {
  std::array<std::vector<double>, score_metrics.size()> values;  ///< by metric, one a case; NaN where undefined
  Index missed = 0, spurious = 0, absent = 0, present = 0;
};

/// Over cases for each structure, and the mean of those over structures.
struct ScoreSummary {
  std::vector<StructureSummary> structures;          ///< of classes 1, 2, ...
  std::array<double, score_metrics.size()> means{};  ///< NaN if nothing is defined
  Index missed = 0, spurious = 0, absent = 0;
};

inline ScoreSummary summarise(const SegmentationScores& scores) {
  ScoreSummary out;
  out.structures.resize(scores.names.size() - 1);
  std::array<std::vector<double>, score_metrics.size()> means;
  for (std::size_t c = 0; c < out.structures.size(); ++c) {
    StructureSummary& s = out.structures[c];
    for (const SegmentationCase& one : scores.cases) {
      const StructureScore& score = one.structures[c];
      for (std::size_t m = 0; m < score_metrics.size(); ++m) s.values[m].push_back(score.*score_metrics[m].value);
      s.missed += score.missed();
      s.spurious += score.spurious();
      s.absent += score.absent();
      s.present += score.voxels.reference > 0;
    }
    for (std::size_t m = 0; m < score_metrics.size(); ++m) means[m].push_back(summary_of(s.values[m]).mean);
    out.missed += s.missed;
    out.spurious += s.spurious;
    out.absent += s.absent;
  }
  for (std::size_t m = 0; m < score_metrics.size(); ++m) out.means[m] = summary_of(means[m]).mean;
  return out;
}

/// Structures as rows, with mean and deviation over cases.
inline Table scores_table(const SegmentationScores& scores) {
  const ScoreSummary all = summarise(scores);
  const std::string unit = text(" (", scores.unit(), ')');
  // Dice and NSD are shares, the others distances; the order is that of the columns.
  constexpr std::array<std::size_t, 4> shown{0, 3, 1, 4};
  Table table({"structure", "Dice", text("NSD at ", scores.nsd_tolerance, ' ', scores.unit()), "HD95" + unit,
               "ASSD" + unit, "cases", "missed", "spurious"});
  const auto number = [](std::size_t m, double v) {
    return std::isnan(v)   ? std::string("n/a")
           : std::isinf(v) ? std::string("inf")
                           : fixed_text(v, m == 0 || m == 3 ? 3 : 2);
  };
  for (std::size_t c = 0; c < all.structures.size(); ++c) {
    const StructureSummary& s = all.structures[c];
    std::vector<std::string> row{scores.names[c + 1]};
    for (const std::size_t m : shown) {
      const Summary v = summary_of(s.values[m]);
      row.push_back(number(m, v.mean) +
                    (v.counted > 1 && !std::isnan(v.deviation) ? " ± " + number(m, v.deviation) : ""));
    }
    row.insert(row.end(), {text(s.present), text(s.missed), text(s.spurious)});
    table.add(row);
  }
  std::vector<std::string> last{"mean"};
  for (const std::size_t m : shown) last.push_back(number(m, all.means[m]));
  last.insert(last.end(), {text(scores.cases.size()), text(all.missed), text(all.spurious)});
  table.add(last);
  return table;
}

}  // namespace M3I_ABI
}  // namespace m3i
