#include <limits>

#include "../catch.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
void good(const testing::OpReport& report, double single = 2e-6) {
  INFO(report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.single < single);
  CHECK(report.emulated < 1e-12);
  CHECK(report.cuda < 1e-12);
  CHECK(report.f16 < 3e-3);
  CHECK(report.bf16 < 2e-2);
}
Tensor<std::int64_t> cycling_labels(const Shape& shape, Index classes) {
  std::vector<std::int64_t> labels(static_cast<std::size_t>(shape.size()));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = std::int64_t(i * 7 + i / 3) % classes;
  return Tensor<std::int64_t>::from(labels, shape);
}
template <class T>
Tensor<std::int64_t> labels_for(const Var<T>& x) {
  return cycling_labels(x.shape().slice(0, x.rank() - 1), x.shape()[-1]);
}
}  // namespace

TEST_CASE("losses: gradients, precisions and devices agree", "[ops]") {
  good(testing::check_op([](const auto& x) { return cross_entropy(x, labels_for(x)); },
                         {{1, 2}, {6, 4}, {2, 3, 4, 5}, {3, 300}}));
  good(testing::check_op([](const auto& x) { return cross_entropy(x, labels_for(x), 0.1); }, {{6, 4}, {2, 3, 3}}));
  good(testing::check_op([](const auto& x) { return dice_loss(x, labels_for(x)); }, {{2, 9, 3}, {1, 3, 4, 5, 2}}));
  good(testing::check_op(
      [](const auto& x) { return dice_loss(x, labels_for(x), {.include_background = false, .squared = true}); },
      {{2, 90, 3}, {1, 3, 4, 5, 2}}));
  good(testing::check_shapes([](const auto& v) { return mse_loss(v[0], v[1]); }, {{{3, 5}, {3, 5}}}));
  good(testing::check_shapes([](const auto& v) { return bce_with_logits(v[0], v[1]); }, {{{12}, {12}}}));
  good(testing::check_shapes([](const auto& v) { return info_nce(l2_normalize(v[0]), l2_normalize(v[1]), v[2]); },
                             {{{4, 8}, {4, 8}, {}}, {{2, 3}, {2, 3}, {}}}),
       1e-5);
}

TEST_CASE("losses: closed forms", "[ops]") {
  const Var<double> flat(Tensor<double>::zeros({5, 4}));
  CHECK(cross_entropy(flat, labels_for(flat)).value().item() == Approx(std::log(4.0)));
  const Var<double> sure(Tensor<double>::from({50, -50, -50, 50}, {1, 2, 2}));
  CHECK(dice_loss(sure, Tensor<std::int64_t>::from({0, 1}, {1, 2})).value().item() == Approx(0).margin(1e-9));
  CHECK(dice_loss(sure, Tensor<std::int64_t>::from({1, 0}, {1, 2})).value().item() == Approx(1).margin(1e-4));
  const Var<float> huge(Tensor<float>::from({1e4f, -1e4f}, {1, 2}));
  CHECK(cross_entropy(huge, Tensor<std::int64_t>::from({1}, {1})).value().item() == Approx(2e4));
}

TEST_CASE("losses: a label outside the classes is named", "[ops][errors]") {
  const Var<float> x(Tensor<float>::zeros({2, 3}));
  using Ids = Tensor<std::int64_t>;
  CHECK_THROWS_WITH(cross_entropy(x, Ids::from({0, 3}, {2})), Catch::Contains("id 3 at position 1"));
  CHECK_THROWS_WITH(cross_entropy(x, Ids::from({0}, {1})), Catch::Contains("labels [1]") && Catch::Contains("[2]"));
  CHECK_THROWS_WITH(dice_loss(x, Ids::from({0, -1}, {2})), Catch::Contains("id -1"));
}

TEST_CASE("losses: shapes that would broadcast and settings out of range are refused", "[ops][errors]") {
  const Var<float> column(Tensor<float>::zeros({4, 1})), flat(Tensor<float>::zeros({4}));
  using Catch::Contains;
  CHECK_THROWS_WITH(mse_loss(column, flat), Contains("mse_loss") && Contains("[4, 1]") && Contains("[4]"));
  CHECK_THROWS_WITH(bce_with_logits(flat, column), Contains("bce_with_logits") && Contains("[4, 1]"));
  CHECK_THROWS_WITH(info_nce(column, column, flat), Contains("info_nce") && Contains("one number"));
  CHECK_THROWS_WITH(info_nce(column, flat, flat), Contains("info_nce") && Contains("[4, 1]"));
  const auto labels = Tensor<std::int64_t>::from({0, 0, 0, 0}, {4});
  CHECK_THROWS_WITH(cross_entropy(column, labels, 1.5), Contains("smoothing 1.5"));
  CHECK_THROWS_WITH(dice_loss(column, labels, {.include_background = false}), Contains("one class only"));
}

TEST_CASE("losses: a value that is not a number makes the loss one", "[ops]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::size_t bad : {0u, 4u, 8u}) {
    std::vector<float> values(9, 0.5f);
    values[bad] = nan;
    const Var<float> x(Tensor<float>::from(values, {3, 3})), y(Tensor<float>::zeros({3, 3})),
        scale(Tensor<float>::zeros({}));
    for (const auto& loss : {cross_entropy(x, labels_for(x)), dice_loss(x, labels_for(x)), mse_loss(x, y),
                             bce_with_logits(x, y), info_nce(x, y, scale)})
      CHECK(std::isnan(loss.value().item()));
  }
}
