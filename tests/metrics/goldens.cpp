// Reference results under M3I_GOLDENS: imaging/metrics and imaging/classification. Cases are discovered from the
// manifests; real label maps lie in the folder `data` beside the root.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "catch.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/io/safetensors.hpp"
#include "m3i/metrics/classification.hpp"
#include "m3i/metrics/dice.hpp"
#include "m3i/metrics/hausdorff.hpp"

using namespace m3i;
using nlohmann::json;

static std::string root() {
  if (const char* given = std::getenv("M3I_GOLDENS"); given && *given) return given;
#ifdef M3I_GOLDENS_DEFAULT
  return M3I_GOLDENS_DEFAULT;
#else
  return "";
#endif
}
static json manifest(const std::string& folder) {
  const std::string path = root() + "/imaging/" + folder + "/manifest.json";
  if (root().empty() || !std::filesystem::exists(path)) {
    WARN("skipped: no " << path << "; set M3I_GOLDENS");
    return nullptr;
  }
  return json::parse(std::ifstream(path));
}
/// JSON has no NaN or infinity: strings stand for them.
static double number(const json& j) {
  if (!j.is_string()) return j.get<double>();
  const std::string s = j;
  return s == "nan" ? NAN : s == "inf" ? INFINITY : s == "-inf" ? -INFINITY : throw std::runtime_error("number " + s);
}
static void same(const json& object, const char* key, double value) {
  CAPTURE(key);
  REQUIRE(object.contains(key));
  const double expected = number(object[key]);
  if (std::isnan(expected)) CHECK(std::isnan(value));
  else if (std::isinf(expected)) CHECK(value == expected);
  else CHECK(value == Approx(expected).epsilon(1e-9).margin(1e-12));
}

template <class L>
static void check_label(
    const json& expected, const Tensor<L>& p, const Tensor<L>& r, L label, const std::array<double, 3>& mm) {
  CAPTURE(label);
  const OverlapCounts counts = overlap_of_label(p, r, label);
  CHECK(counts.prediction == expected["voxels_pred"].get<Index>());
  CHECK(counts.reference == expected["voxels_ref"].get<Index>());
  CHECK(counts.both == expected["voxels_both"].get<Index>());
  same(expected, "dice_empty_is_nan", dice(counts, EmptyDice::nan));
  same(expected, "dice_empty_is_one", dice(counts, EmptyDice::one));
  const SurfaceDistances d = surface_distances(p, r, label, mm);
  CHECK(d.prediction_surface == expected["surface_pred"].get<Index>());
  CHECK(d.reference_surface == expected["surface_ref"].get<Index>());
  same(expected, "hd95_max_of_directed", hd95(d, Hausdorff95::monai, EmptySurface::nan));
  same(expected, "hd95_pooled", hd95(d, Hausdorff95::medpy, EmptySurface::nan));
  same(expected, "hd100", hausdorff(d));
  if (expected.contains("assd")) same(expected, "assd", assd(d));
  if (expected.contains("hd95_pred_to_ref"))
    same(expected, "hd95_pred_to_ref", percentile_of(d.prediction_to_reference, 95));
  if (expected.contains("hd95_ref_to_pred"))
    same(expected, "hd95_ref_to_pred", percentile_of(d.reference_to_prediction, 95));
}

template <class L>
static void check_labels(const json& expected, const Tensor<L>& p, const Tensor<L>& r) {
  CAPTURE(expected["name"].get<std::string>());
  const std::array<double, 3> mm = expected["spacing"];
  REQUIRE(p.shape() == r.shape());
  if (!expected.contains("per_class")) return check_label(expected, p, r, L(1), mm);
  std::vector<double> dice_nan, dice_one, monai, medpy;
  for (const json& c : expected["per_class"]) {
    const auto label = L(c["label"].get<int>());
    check_label(c, p, r, label, mm);
    const auto counts = overlap_of_label(p, r, label);
    dice_nan.push_back(dice(counts, EmptyDice::nan));
    dice_one.push_back(dice(counts, EmptyDice::one));
    monai.push_back(hd95(p, r, label, mm, Hausdorff95::monai));
    medpy.push_back(hd95(p, r, label, mm, Hausdorff95::medpy, EmptySurface::nan));
  }
  same(expected["mean_skipping_nan"], "dice_empty_is_nan", mean_skipping_nan(dice_nan));
  same(expected["mean_skipping_nan"], "hd95_max_of_directed", mean_skipping_nan(monai));
  same(expected["mean_skipping_nan"], "hd95_pooled", mean_skipping_nan(medpy));
  same(expected, "mean_dice_empty_is_one", mean_skipping_nan(dice_one));
  if (expected.contains("classes")) {
    const auto scores = dice_scores(p, r, expected["classes"].get<Index>(), EmptyDice::nan);
    same(expected["mean_skipping_nan"], "dice_empty_is_nan", scores.mean);
  }
}

TEST_CASE("goldens: overlap and surface distances of made-up masks", "[golden]") {
  const json all = manifest("metrics");
  if (all.is_null()) return;
  const SafeTensors masks(root() + "/imaging/metrics/masks.safetensors");
  Index cases = 0;
  for (const char* kind : {"binary", "multi_class"})
    for (const json& c : all[kind]) {
      const std::string name = c["name"];
      check_labels(c, masks.tensor<std::uint8_t>(name + ".pred"), masks.tensor<std::uint8_t>(name + ".ref"));
      ++cases;
    }
  REQUIRE(cases > 0);
}

TEST_CASE("goldens: overlap and surface distances of real label maps", "[golden]") {
  const json all = manifest("metrics");
  if (all.is_null()) return;
  for (const json& c : all["real_label_maps"]) {
    const auto path = [&](const char* key) { return root() + "/../data/" + c[key].get<std::string>(); };
    if (!std::filesystem::exists(path("pred"))) {
      WARN("skipped " << c["name"].get<std::string>() << ": no " << path("pred"));
      continue;
    }
    check_labels(c, read_labels(path("pred")).voxels, read_labels(path("ref")).voxels);
  }
}

static std::vector<double> numbers(const json& list) {
  std::vector<double> out;
  for (const json& v : list) out.push_back(number(v));
  return out;
}
/// Softmax of the logits, in double.
static Tensor<double> probabilities(const json& logits) {
  const Index n = Index(logits.size()), k = Index(logits[0].size());
  Tensor<double> out({n, k});
  for (Index i = 0; i < n; ++i) {
    const auto row = numbers(logits[std::size_t(i)]);
    const double top = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const double v : row) sum += std::exp(v - top);
    for (Index c = 0; c < k; ++c) out.data()[i * k + c] = std::exp(row[std::size_t(c)] - top) / sum;
  }
  return out;
}

TEST_CASE("goldens: accuracy and areas under the curve", "[golden]") {
  const json all = manifest("classification");
  if (all.is_null()) return;
  for (const json& c : all["binary"]) {
    CAPTURE(c["name"].get<std::string>());
    const auto scores = numbers(c["scores"]);
    const std::vector<std::int64_t> labels = c["labels"];
    same(c, "auc", auc(scores, labels));
    std::vector<std::int64_t> predicted;
    for (const double s : scores) predicted.push_back(s > 0.5);
    same(c, "accuracy_score_above_half", accuracy(predicted, labels));
    if (!c.contains("fpr")) continue;
    const auto curve = roc_curve(scores, labels);
    REQUIRE(curve.false_positive_rate.size() == c["fpr"].size());
    for (std::size_t i = 0; i < c["fpr"].size(); ++i) {
      CHECK(curve.false_positive_rate[i] == Approx(c["fpr"][i].get<double>()));
      CHECK(curve.true_positive_rate[i] == Approx(c["tpr"][i].get<double>()));
    }
  }
  for (const json& c : all["multi_class"]) {
    const auto scores = probabilities(c["logits"]);
    const std::vector<std::int64_t> labels = c["labels"];
    const Index classes = c["classes"];
    CAPTURE(classes);
    CHECK(argmax_rows(scores) == c["predicted"].get<std::vector<std::int64_t>>());
    same(c, "accuracy", accuracy(argmax_rows(scores), labels));
    const auto confusion = confusion_matrix(argmax_rows(scores), labels, classes);
    for (Index i = 0; i < classes * classes; ++i)
      CHECK(confusion.data()[i] ==
            c["confusion_rows_are_labels"][std::size_t(i / classes)][std::size_t(i % classes)].get<Index>());
    const auto areas = auc_one_vs_rest(scores, labels);
    for (std::size_t i = 0; i < areas.size(); ++i) CHECK(areas[i] == Approx(c["auc_one_vs_rest"][i].get<double>()));
    same(c, "auc_one_vs_rest_mean", mean_deviation(areas).mean);
    same(c, "auc_one_vs_one_mean", auc_one_vs_one(scores, labels));
  }
  const json& ties = all["argmax_ties"];
  const auto rows = ties["logits"].get<std::vector<std::vector<double>>>();
  Tensor<double> logits({Index(rows.size()), Index(rows[0].size())});
  for (std::size_t i = 0; i < rows.size(); ++i) std::copy(rows[i].begin(), rows[i].end(), logits[Index(i)].data());
  CHECK(argmax_rows(logits) == ties["predicted"].get<std::vector<std::int64_t>>());
  for (const json& c : all["errors"]) {
    CAPTURE(c["why"].get<std::string>());
    CHECK_THROWS_AS(auc(numbers(c["scores"]), c["labels"].get<std::vector<std::int64_t>>()), Error);
  }
}
