#pragma once
/// Scores of predicted label volumes: per case and structure, their means, and the tables that show them.

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "m3i/metrics/dice.hpp"
#include "m3i/metrics/hausdorff.hpp"
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

/// One structure in one case.
struct StructureScore {
  OverlapCounts voxels;
  double dice = 0, hd95 = 0;  ///< NaN: undefined, left out of means

  bool missed() const { return voxels.reference > 0 && voxels.prediction == 0; }
  bool spurious() const { return voxels.reference == 0 && voxels.prediction > 0; }
};

struct SegmentationCase {
  std::string subject, image, labels;
  std::array<double, 3> spacing_mm{1, 1, 1};
  std::vector<StructureScore> structures;  ///< of classes 1, 2, ...
};

/// Everything that was scored, with the conventions that make the figures comparable.
struct SegmentationScores {
  Hausdorff95 convention = Hausdorff95::monai;
  std::vector<std::string> names;    ///< of classes; entry 0 is the background
  std::vector<std::int32_t> values;  ///< of the classes in label files
  std::vector<SegmentationCase> cases;

  bool zero_when_empty() const { return convention == Hausdorff95::nnformer; }
  const char* unit() const { return convention == Hausdorff95::nnformer ? "voxels" : "mm"; }
  std::string dice_text() const {
    return zero_when_empty() ? "Dice; an absent structure counts 1 if not predicted, else 0 (nnFormer)"
                             : "Dice; structures absent from the reference are left out (MONAI)";
  }
  std::string hd95_text() const {
    return text(name(convention),
                zero_when_empty()
                    ? "; 0 when prediction or reference is empty"
                    : "; left out when prediction or reference is empty, and counted as missed or spurious");
  }
};

/// Scores one case: classes [I, J, K] of both on the same grid, numbered as in `scores.names`.
template <class L>
SegmentationCase score_case(const SegmentationScores& scores,
                            const Tensor<L>& prediction,
                            const Tensor<L>& reference,
                            std::array<double, 3> spacing_mm) {
  SegmentationCase out;
  out.spacing_mm = spacing_mm;
  const bool zero = scores.zero_when_empty();
  const auto counts = overlap_counts(prediction, reference, Index(scores.names.size()));
  out.structures.resize(counts.size() - 1);
  parallel_for(Index(out.structures.size()), [&](Index i) {
    StructureScore& s = out.structures[std::size_t(i)];
    s.voxels = counts[std::size_t(i) + 1];
    s.dice = dice(s.voxels, zero ? EmptyDice::one : EmptyDice::nan);
    s.hd95 = hd95(prediction, reference, L(i + 1), spacing_mm, scores.convention,
                  zero ? EmptySurface::zero : EmptySurface::nan);
  });
  return out;
}

/// Means over cases of one structure.
struct StructureSummary {
  std::vector<double> dice, hd95;  ///< the defined values
  Index missed = 0, spurious = 0, present = 0;
};

/// Means: over cases for each structure, and the mean of those over structures.
struct ScoreSummary {
  std::vector<StructureSummary> structures;  ///< of classes 1, 2, ...
  double dice = 0, hd95 = 0;                 ///< NaN if nothing is defined
  Index missed = 0, spurious = 0;
};

inline ScoreSummary summarise(const SegmentationScores& scores) {
  ScoreSummary out;
  out.structures.resize(scores.names.size() - 1);
  std::vector<double> dice, hd95;
  for (std::size_t c = 0; c < out.structures.size(); ++c) {
    StructureSummary& s = out.structures[c];
    for (const SegmentationCase& one : scores.cases) {
      const StructureScore& score = one.structures[c];
      if (!std::isnan(score.dice)) s.dice.push_back(score.dice);
      if (!std::isnan(score.hd95)) s.hd95.push_back(score.hd95);
      s.missed += score.missed();
      s.spurious += score.spurious();
      s.present += score.voxels.reference > 0;
    }
    dice.push_back(mean_sd(s.dice).mean);
    hd95.push_back(mean_sd(s.hd95).mean);
    out.missed += s.missed;
    out.spurious += s.spurious;
  }
  out.dice = mean_sd(dice).mean;
  out.hd95 = mean_sd(hd95).mean;
  return out;
}

/// The scores as JSON: dice_mean, hd95_mean_mm (or _voxels), conventions, each structure, each case. NaN becomes null.
inline OrderedJson scores_json(const SegmentationScores& scores) {
  const ScoreSummary all = summarise(scores);
  const std::string distance = text("hd95_", scores.unit()), mean_distance = text("hd95_mean_", scores.unit());
  OrderedJson out{{"count", scores.cases.size()},
                  {"dice_mean", all.dice},
                  {mean_distance, all.hd95},
                  {"missed", all.missed},
                  {"spurious", all.spurious}};
  out["conventions"] = {{"dice", scores.dice_text()},
                        {"hd95", scores.hd95_text()},
                        {"means", "over cases for each structure, then over structures"}};
  out["structures"] = OrderedJson::array();
  for (std::size_t c = 0; c < all.structures.size(); ++c) {
    const StructureSummary& s = all.structures[c];
    const MeanSd dice = mean_sd(s.dice), hd = mean_sd(s.hd95);
    out["structures"].push_back({{"name", scores.names[c + 1]},
                                 {"label", scores.values[c + 1]},
                                 {"present", s.present},
                                 {"dice_mean", dice.mean},
                                 {"dice_sd", dice.sd},
                                 {"dice_count", dice.count},
                                 {mean_distance, hd.mean},
                                 {text("hd95_sd_", scores.unit()), hd.sd},
                                 {"hd95_count", hd.count},
                                 {"missed", s.missed},
                                 {"spurious", s.spurious}});
  }
  out["cases"] = OrderedJson::array();
  for (const SegmentationCase& one : scores.cases) {
    OrderedJson item{
        {"subject", one.subject}, {"image", one.image}, {"labels", one.labels}, {"spacing_mm", one.spacing_mm}};
    std::vector<double> dice, hd;
    OrderedJson structures = OrderedJson::array();
    for (std::size_t c = 0; c < one.structures.size(); ++c) {
      const StructureScore& s = one.structures[c];
      dice.push_back(s.dice), hd.push_back(s.hd95);
      structures.push_back({{"name", scores.names[c + 1]},
                            {"dice", s.dice},
                            {distance, s.hd95},
                            {"voxels_reference", s.voxels.reference},
                            {"voxels_prediction", s.voxels.prediction}});
    }
    item["dice_mean"] = mean_sd(dice).mean;
    item[mean_distance] = mean_sd(hd).mean;
    item["structures"] = structures;
    out["cases"].push_back(item);
  }
  return out;
}

/// One line a case and structure: case, structure, label, dice, hd95, voxels. Undefined values are empty.
inline std::string scores_csv(const SegmentationScores& scores) {
  const auto quoted = [](const std::string& words) {
    std::string out = "\"";
    for (const char c : words) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
  };
  const auto number = [](double v) {
    char digits[32] = "";
    if (!std::isnan(v)) std::snprintf(digits, sizeof digits, "%.6g", v);
    return std::string(digits);
  };
  std::string out =
      text("subject,image,structure,label,dice,hd95_", scores.unit(), ",voxels_reference,voxels_prediction\n");
  for (const SegmentationCase& one : scores.cases)
    for (std::size_t c = 0; c < one.structures.size(); ++c) {
      const StructureScore& s = one.structures[c];
      out +=
          text(quoted(one.subject), ',', quoted(one.image), ',', quoted(scores.names[c + 1]), ',', scores.values[c + 1],
               ',', number(s.dice), ',', number(s.hd95), ',', s.voxels.reference, ',', s.voxels.prediction, '\n');
    }
  return out;
}

/// Structures as rows, with mean and deviation over cases.
inline Table scores_table(const SegmentationScores& scores) {
  const ScoreSummary all = summarise(scores);
  Table table({"structure", "Dice", text("HD95 (", scores.unit(), ")"), "cases", "missed", "spurious"});
  for (std::size_t c = 0; c < all.structures.size(); ++c) {
    const StructureSummary& s = all.structures[c];
    table.add({scores.names[c + 1], mean_sd_text(s.dice, 3), mean_sd_text(s.hd95, 2), text(s.present), text(s.missed),
               text(s.spurious)});
  }
  const auto shown = [](double v, int decimals) {
    return std::isnan(v) ? std::string("n/a") : fixed_text(v, decimals);
  };
  table.add({"mean", shown(all.dice, 3), shown(all.hd95, 2), text(scores.cases.size()), text(all.missed),
             text(all.spurious)});
  return table;
}

}  // namespace M3I_ABI
}  // namespace m3i
