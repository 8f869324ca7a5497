#pragma once
/// Segmentation scores as JSON and CSV: every figure of every case and structure, with the conventions behind them.

#include <string>

#include "m3i/train/group_chart.hpp"
#include "m3i/train/segmentation_scores.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
/// JSON has no infinity: the string "inf" stands for it. NaN becomes null.
inline OrderedJson score_json(double v) {
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  return std::isnan(v) ? OrderedJson(nullptr) : OrderedJson(v);
}
inline const char* empty_word(const StructureScore& s) {
  return s.absent() ? "both" : s.missed() ? "prediction" : s.spurious() ? "reference" : "";
}

inline OrderedJson scores_conventions(const SegmentationScores& scores) {
  const std::string unit = scores.unit();
  OrderedJson columns;
  for (const ScoreMetric& metric : score_metrics)
    columns[scores.column(metric)] = text(metric.words, metric.distance ? text(", in ", unit) : std::string());
  columns["voxels_reference"] = "voxels of the structure in the reference";
  columns["voxels_prediction"] = "voxels of the structure in the prediction";
  columns["empty"] = "prediction (missed), reference (spurious) or both (absent): the mask without a voxel";
  return {{"dice", scores.dice_text()},
          {"hd95", scores.hd95_text()},
          {"empty_overlaps", scores.overlap_policy().text()},
          {"empty_distances", scores.distance_policy().text()},
          {"empty_order", "one policy for all, or three for: both masks, the prediction, the reference"},
          {"undefined",
           "null here and nothing in CSV: skipped by mean, sd and median, counted as skipped; infinite is inf"},
          {"sd", "sample standard deviation over cases (n - 1)"},
          {"means", "over cases for each structure, then over structures"},
          {"spacing", "of the reference's grid"},
          {"columns", columns}};
}
}  // namespace detail

/// The scores as JSON: dice_mean, hd95_mean_mm (or _voxels), ..., conventions, each structure, each case.
inline OrderedJson scores_json(const SegmentationScores& scores) {
  const ScoreSummary all = summarise(scores);
  OrderedJson out{{"count", scores.cases.size()}};
  for (std::size_t m = 0; m < score_metrics.size(); ++m)
    out[scores.column(score_metrics[m], "mean")] = detail::score_json(all.means[m]);
  out["missed"] = all.missed, out["spurious"] = all.spurious, out["absent"] = all.absent;
  out["conventions"] = detail::scores_conventions(scores);
  out["structures"] = OrderedJson::array();
  for (std::size_t c = 0; c < all.structures.size(); ++c) {
    const StructureSummary& s = all.structures[c];
    OrderedJson item{{"name", scores.names[c + 1]}, {"label", scores.values[c + 1]}, {"present", s.present},
                     {"missed", s.missed},          {"spurious", s.spurious},        {"absent", s.absent}};
    for (std::size_t m = 0; m < score_metrics.size(); ++m) {
      const Summary v = summary_of(s.values[m]);
      const ScoreMetric& metric = score_metrics[m];
      item[scores.column(metric, "mean")] = detail::score_json(v.mean);
      item[scores.column(metric, "sd")] = detail::score_json(v.deviation);
      item[scores.column(metric, "median")] = detail::score_json(v.median);
      item[text(metric.key, "_count")] = v.counted;
      item[text(metric.key, "_skipped")] = v.skipped;
    }
    out["structures"].push_back(item);
  }
  out["cases"] = OrderedJson::array();
  for (const SegmentationCase& one : scores.cases) {
    OrderedJson item{
        {"subject", one.subject}, {"image", one.image}, {"labels", one.labels}, {"spacing_mm", one.spacing_mm}};
    OrderedJson structures = OrderedJson::array();
    for (std::size_t c = 0; c < one.structures.size(); ++c) {
      const StructureScore& s = one.structures[c];
      OrderedJson row{{"name", scores.names[c + 1]}};
      for (const ScoreMetric& metric : score_metrics) row[scores.column(metric)] = detail::score_json(s.*metric.value);
      row["voxels_reference"] = s.voxels.reference, row["voxels_prediction"] = s.voxels.prediction;
      if (*detail::empty_word(s)) row["empty"] = detail::empty_word(s);
      structures.push_back(row);
    }
    for (const ScoreMetric& metric : score_metrics) {
      std::vector<double> over;
      for (const StructureScore& s : one.structures) over.push_back(s.*metric.value);
      item[scores.column(metric, "mean")] = detail::score_json(summary_of(over).mean);
    }
    item["structures"] = structures;
    out["cases"].push_back(item);
  }
  return out;
}

/// One line a case and structure. Undefined values are nothing, infinite ones are inf; metrics.json says what the
/// columns mean.
inline std::string scores_csv(const SegmentationScores& scores) {
  const auto number = [](double v) {
    char digits[32] = "";
    if (!std::isnan(v)) std::snprintf(digits, sizeof digits, "%.9g", v);
    return std::string(digits);
  };
  std::string out = "subject,image,structure,label";
  for (const ScoreMetric& metric : score_metrics) out += "," + scores.column(metric);
  out += ",voxels_reference,voxels_prediction,empty\n";
  for (const SegmentationCase& one : scores.cases)
    for (std::size_t c = 0; c < one.structures.size(); ++c) {
      const StructureScore& s = one.structures[c];
      out += text(detail::csv_field(one.subject), ',', detail::csv_field(one.image), ',',
                  detail::csv_field(scores.names[c + 1]), ',', scores.values[c + 1]);
      for (const ScoreMetric& metric : score_metrics) out += "," + number(s.*metric.value);
      out += text(',', s.voxels.reference, ',', s.voxels.prediction, ',', detail::empty_word(s), '\n');
    }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
