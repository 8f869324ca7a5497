#pragma once
/// Accuracy, confusion, ROC and AUC of a classifier.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/metrics/bootstrap.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
/// Checks the label list against the number of cases and of classes.
inline void check_labels(const char* operation, std::span<const std::int64_t> labels, Index cases, Index classes) {
  require(cases > 0, operation, ": no cases");
  require(Index(labels.size()) == cases, operation, ": ", labels.size(), " labels for ", cases, " cases");
  for (std::size_t i = 0; i < labels.size(); ++i)
    require(labels[i] >= 0 && labels[i] < classes, operation, ": label ", labels[i], " of case ", i,
            " lies outside [0, ", classes, ")");
}
inline void check_scores(const char* operation, std::span<const double> scores) {
  for (std::size_t i = 0; i < scores.size(); ++i)
    require<NumericError>(!std::isnan(scores[i]), operation, ": the score of case ", i, " is NaN");
}
/// The cases from the highest score to the lowest.
inline std::vector<std::size_t> by_falling_score(std::span<const double> scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}
}  // namespace detail

/// The class of the largest score in each row of [N, classes]; ties go to the lowest class.
template <class T>
std::vector<std::int64_t> argmax_rows(const Tensor<T>& scores) {
  require(scores.rank() == 2 && scores.shape()[1] > 0, "argmax: needs [N, classes], got ", scores.shape());
  const Index n = scores.shape()[0], classes = scores.shape()[1];
  std::vector<std::int64_t> out;
  for (Index i = 0; i < n; ++i) {
    const auto row = scores.span().subspan(std::size_t(i * classes), std::size_t(classes));
    for (const T v : row) require<NumericError>(!std::isnan(double(v)), "argmax: a score of case ", i, " is NaN");
    out.push_back(std::max_element(row.begin(), row.end()) - row.begin());
  }
  return out;
}

/// Share of cases whose predicted class is the label. Throws ShapeError without cases.
inline double accuracy(std::span<const std::int64_t> predicted, std::span<const std::int64_t> labels) {
  require(!labels.empty(), "accuracy: no cases");
  require(predicted.size() == labels.size(), "accuracy: ", predicted.size(), " predictions for ", labels.size(),
          " labels");
  Index right = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) right += predicted[i] == labels[i];
  return double(right) / double(labels.size());
}

/// counts [classes, classes]: rows are labels, columns are predictions.
inline Tensor<std::int64_t> confusion_matrix(std::span<const std::int64_t> predicted,
                                             std::span<const std::int64_t> labels,
                                             Index classes) {
  require(classes > 0, "confusion matrix: ", classes, " classes");
  detail::check_labels("confusion matrix", labels, Index(labels.size()), classes);
  detail::check_labels("confusion matrix", predicted, Index(labels.size()), classes);
  auto out = Tensor<std::int64_t>::zeros({classes, classes});
  for (std::size_t i = 0; i < labels.size(); ++i) ++out.data()[labels[i] * classes + predicted[i]];
  return out;
}

/// The receiver operating characteristic: one point for each distinct score, from (0, 0) to (1, 1).
struct RocCurve {
  std::vector<double> false_positive_rate, true_positive_rate;
};

/// Throws ShapeError unless both classes (0 and 1) occur, NumericError for a NaN score.
inline RocCurve roc_curve(std::span<const double> scores, std::span<const std::int64_t> labels) {
  detail::check_labels("roc", labels, Index(scores.size()), 2);
  detail::check_scores("roc", scores);
  const Index positives = std::count(labels.begin(), labels.end(), 1), negatives = Index(labels.size()) - positives;
  require(positives > 0 && negatives > 0, "roc: ", positives, " positive and ", negatives,
          " negative cases; both classes are needed");
  RocCurve curve{{0}, {0}};
  const auto order = detail::by_falling_score(scores);
  Index hits = 0, alarms = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    (labels[order[i]] == 1 ? hits : alarms) += 1;
    if (i + 1 < order.size() && scores[order[i + 1]] == scores[order[i]]) continue;  // one threshold, one point
    curve.false_positive_rate.push_back(double(alarms) / double(negatives));
    curve.true_positive_rate.push_back(double(hits) / double(positives));
  }
  return curve;
}

/// Area under the ROC curve: the share of (positive, negative) pairs in which the positive scores higher, ties counting
/// one half. Scores need not be probabilities; labels are 0 and 1.
/// Throws ShapeError unless both classes occur: with one class the area is undefined, not 1/2.
/// Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic curve".
inline double auc(std::span<const double> scores, std::span<const std::int64_t> labels) {
  detail::check_labels("auc", labels, Index(scores.size()), 2);
  detail::check_scores("auc", scores);
  const Index positives = std::count(labels.begin(), labels.end(), 1), negatives = Index(labels.size()) - positives;
  require(positives > 0 && negatives > 0, "auc: ", positives, " positive and ", negatives,
          " negative cases; both classes are needed");
  const auto order = detail::by_falling_score(scores);
  Index twice_won = 0, positives_above = 0;  // twice, so that ties stay integers
  for (std::size_t i = 0; i < order.size();) {
    Index tied_positives = 0, tied_negatives = 0;
    const double score = scores[order[i]];
    for (; i < order.size() && scores[order[i]] == score; ++i)
      (labels[order[i]] == 1 ? tied_positives : tied_negatives) += 1;
    twice_won += tied_negatives * (2 * positives_above + tied_positives);
    positives_above += tied_positives;
  }
  return double(twice_won) / (2 * double(positives) * double(negatives));
}

namespace detail {
/// AUC of column c among the cases that `use` accepts, with `positive` as class 1.
template <class T, class Use>
double column_auc(
    const Tensor<T>& scores, std::span<const std::int64_t> labels, Index c, Index positive, const Use& use) {
  std::vector<double> column;
  std::vector<std::int64_t> binary;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (!use(labels[i])) continue;
    column.push_back(double(scores.data()[Index(i) * scores.shape()[1] + c]));
    binary.push_back(labels[i] == positive);
  }
  return auc(column, binary);
}
template <class T>
void check_table(const char* operation, const Tensor<T>& scores, std::span<const std::int64_t> labels) {
  require(scores.rank() == 2 && scores.shape()[1] > 1, operation, ": needs [N, classes >= 2], got ", scores.shape());
  check_labels(operation, labels, scores.shape()[0], scores.shape()[1]);
  for (Index c = 0; c < scores.shape()[1]; ++c)
    require(std::count(labels.begin(), labels.end(), c) > 0, operation, ": class ", c, " of ", scores.shape()[1],
            " has no case, so its area is undefined");
}
}  // namespace detail

/// AUC of each class against all others; scores [N, classes]. The usual summary is the plain mean.
template <class T>
std::vector<double> auc_one_vs_rest(const Tensor<T>& scores, std::span<const std::int64_t> labels) {
  detail::check_table("auc (one against the rest)", scores, labels);
  std::vector<double> out;
  for (Index c = 0; c < scores.shape()[1]; ++c)
    out.push_back(detail::column_auc(scores, labels, c, c, [](std::int64_t) { return true; }));
  return out;
}

/// Mean over class pairs of the mean of the two directions' AUC; scores [N, classes].
/// Hand and Till 2001, "A simple generalisation of the area under the ROC curve for multiple class problems".
template <class T>
double auc_one_vs_one(const Tensor<T>& scores, std::span<const std::int64_t> labels) {
  detail::check_table("auc (one against one)", scores, labels);
  const Index classes = scores.shape()[1];
  double sum = 0;
  for (Index a = 0; a < classes; ++a)
    for (Index b = 0; b < classes; ++b) {
      if (a == b) continue;
      sum += detail::column_auc(scores, labels, a, a, [=](std::int64_t l) { return l == a || l == b; });
    }
  return sum / double(classes * (classes - 1));
}

/// The AUC with its bootstrap interval.
inline Interval auc_interval(std::span<const double> scores,
                             std::span<const std::int64_t> labels,
                             std::uint64_t seed,
                             double level = 0.95,
                             Index resamples = 1000) {
  require(scores.size() == labels.size(), "auc: ", scores.size(), " scores for ", labels.size(), " labels");
  return bootstrap_interval(
      Index(labels.size()),
      [&](std::span<const Index> cases) {
        std::vector<double> s;
        std::vector<std::int64_t> l;
        for (const Index c : cases) s.push_back(scores[std::size_t(c)]), l.push_back(labels[std::size_t(c)]);
        return auc(s, l);
      },
      seed, level, resamples);
}

/// Mean and sample standard deviation (n - 1) of repeated runs; the deviation of one run is 0.
struct MeanDeviation {
  double mean = 0, deviation = 0;
};
inline MeanDeviation mean_deviation(std::span<const double> values) {
  require(!values.empty(), "mean: no values");
  const double n = double(values.size()), mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, values.size() > 1 ? std::sqrt(squares / (n - 1)) : 0.0};
}

}  // namespace M3I_ABI
}  // namespace m3i
