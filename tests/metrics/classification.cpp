#include "m3i/metrics/classification.hpp"

#include "catch.hpp"

using namespace m3i;
using Numbers = std::vector<double>;
using Classes = std::vector<std::int64_t>;

TEST_CASE("auc: equals the share of rightly ranked pairs, ties one half", "[fast]") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    Numbers scores{0, 1};
    Classes labels{0, 1};
    for (Index i = random.below(60); i > 0; --i) {
      scores.push_back(double(random.below(8)));
      labels.push_back(random.below(2));
    }
    double won = 0, pairs = 0;
    for (std::size_t a = 0; a < labels.size(); ++a)
      for (std::size_t b = 0; b < labels.size(); ++b)
        if (labels[a] == 1 && labels[b] == 0) {
          pairs += 1;
          won += scores[a] > scores[b] ? 1 : scores[a] == scores[b] ? 0.5 : 0;
        }
    CHECK(auc(scores, labels) == Approx(won / pairs).epsilon(1e-14));
    Numbers negated = scores, shifted = scores;
    for (double& s : negated) s = -s;
    for (double& s : shifted) s = std::exp(s) + 3;
    CHECK(auc(negated, labels) == Approx(1 - auc(scores, labels)));
    CHECK(auc(shifted, labels) == auc(scores, labels));  // only the order matters
    // The area under the curve by the trapezium rule is the same number.
    const auto curve = roc_curve(scores, labels);
    double area = 0;
    for (std::size_t i = 1; i < curve.true_positive_rate.size(); ++i)
      area += (curve.false_positive_rate[i] - curve.false_positive_rate[i - 1]) *
              (curve.true_positive_rate[i] + curve.true_positive_rate[i - 1]) / 2;
    CHECK(area == Approx(auc(scores, labels)));
    CHECK(curve.true_positive_rate.back() == 1);
    CHECK(curve.false_positive_rate.back() == 1);
  }
}

TEST_CASE("auc: one class only, no cases and NaN are errors", "[fast]") {
  CHECK_THROWS_WITH(auc(Numbers{1, 2}, Classes{1, 1}), Catch::Contains("2 positive and 0 negative"));
  CHECK_THROWS_WITH(auc(Numbers{1, 2}, Classes{0, 0}), Catch::Contains("0 positive"));
  CHECK_THROWS_WITH(auc(Numbers{}, Classes{}), Catch::Contains("no cases"));
  CHECK_THROWS_WITH(auc(Numbers{1, 2}, Classes{0, 2}), Catch::Contains("label 2 of case 1"));
  CHECK_THROWS_WITH(auc(Numbers{1, 2}, Classes{0}), Catch::Contains("1 labels for 2"));
  CHECK_THROWS_AS(auc(Numbers{1, std::nan("")}, Classes{0, 1}), NumericError);
  CHECK_THROWS_AS(roc_curve(Numbers{1, 2}, Classes{1, 1}), ShapeError);
  CHECK_THROWS_WITH(auc_one_vs_rest(Tensor<float>::zeros({2, 3}), Classes{0, 1}), Catch::Contains("class 2 of 3"));
  CHECK_THROWS_AS(auc_one_vs_rest(Tensor<float>::zeros({2}), Classes{0, 1}), ShapeError);
}

TEST_CASE("auc: two classes, one against the rest, agree with the binary form", "[fast]") {
  const auto scores = Tensor<double>::from({0.2, 0.8, 0.6, 0.4, 0.1, 0.9, 0.3, 0.7}, {4, 2});
  const Classes labels{0, 1, 1, 0};
  const double binary = auc(Numbers{0.8, 0.4, 0.9, 0.7}, labels);
  CHECK(auc_one_vs_rest(scores, labels) == Numbers{binary, binary});
  CHECK(auc_one_vs_one(scores, labels) == binary);
}

TEST_CASE("accuracy and confusion: the diagonal is what is right", "[fast]") {
  const Classes predicted{0, 1, 2, 1, 0}, labels{0, 1, 1, 1, 2};
  CHECK(accuracy(predicted, labels) == Approx(0.6));
  const auto m = confusion_matrix(predicted, labels, 3);
  CHECK(m.to_vector() == Classes{1, 0, 0, 0, 2, 1, 1, 0, 0});
  CHECK(argmax_rows(Tensor<float>::from({1, 1, 0, 0, 2, 2}, {2, 3})) == Classes{0, 1});
  CHECK_THROWS_WITH(accuracy(Classes{}, Classes{}), Catch::Contains("no cases"));
  CHECK_THROWS_AS(accuracy(Classes{1}, Classes{1, 2}), ShapeError);
  CHECK_THROWS_WITH(confusion_matrix(predicted, labels, 2), Catch::Contains("label 2"));
  CHECK_THROWS_AS(argmax_rows(Tensor<float>::full({1, 2}, std::nanf(""))), NumericError);
  CHECK_THROWS_AS(argmax_rows(Tensor<float>::zeros({2})), ShapeError);
}

TEST_CASE("bootstrap: the interval holds the value, shrinks with cases, and is reproducible", "[fast]") {
  const auto sample = [](Index n) {
    Random random(7);
    std::pair<Numbers, Classes> out;
    for (Index i = 0; i < n; ++i) {
      out.second.push_back(i % 2);
      out.first.push_back(random.normal() + double(i % 2));
    }
    return out;
  };
  const auto [small_scores, small_labels] = sample(40);
  const auto [scores, labels] = sample(400);
  const auto wide = auc_interval(small_scores, small_labels, 3), narrow = auc_interval(scores, labels, 3);
  CHECK(wide.low < wide.value);
  CHECK(wide.value < wide.high);
  CHECK(narrow.high - narrow.low < 0.5 * (wide.high - wide.low));
  CHECK(auc_interval(scores, labels, 3).low == narrow.low);
  // For two unit normals one deviation apart the area is Phi(1 / sqrt 2).
  CHECK(narrow.low < 0.7602);
  CHECK(narrow.high > 0.7602);
  CHECK_THROWS_WITH(auc_interval(Numbers{1, 2}, Classes{1, 1}, 1), Catch::Contains("negative"));
  CHECK_THROWS_AS(auc_interval(Numbers{1}, Classes{1, 0}, 1), ShapeError);
  CHECK_THROWS_AS(bootstrap_interval(
                      0, [](auto) { return 0.0; }, 1),
                  ShapeError);
  CHECK_THROWS_AS(bootstrap_interval(
                      5, [](auto) { return 0.0; }, 1, 1.5),
                  ShapeError);
  CHECK(auc_interval(Numbers{1, 2, 3, 4, 5}, Classes{0, 0, 0, 0, 1}, 1).undefined > 0);
}

TEST_CASE("mean and deviation over seeds", "[fast]") {
  CHECK(mean_deviation(Numbers{2, 4, 6}).mean == 4);
  CHECK(mean_deviation(Numbers{2, 4, 6}).deviation == 2);
  CHECK(mean_deviation(Numbers{3}).deviation == 0);
  CHECK_THROWS_AS(mean_deviation(Numbers{}), ShapeError);
}
