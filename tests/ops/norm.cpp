#include "m3i/ops/norm.hpp"
#include "catch.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
// x, gain, bias for rows and for channels: 1, fewer and more than a block of threads, more rows than one leaf of a sum.
const std::vector<std::vector<Shape>> row_cases = {
    {{1, 3}, {3}, {3}}, {{2, 5, 12}, {12}, {12}}, {{3, 257}, {257}, {257}}, {{70, 8}, {8}, {8}}};
const std::vector<std::vector<Shape>> channel_cases = {
    {{1, 4, 2}, {2}, {2}}, {{2, 3, 4, 2, 6}, {6}, {6}}, {{3, 70, 4}, {4}, {4}}, {{1, 5, 258}, {258}, {258}}};

template <class F>
void check_norm(const F& f, const std::vector<std::vector<Shape>>& cases) {
  const auto report = testing::check_shapes(f, cases);
  INFO(report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.single < 1e-5);
  CHECK(report.emulated < 1e-12);
  CHECK(report.cuda < 1e-12);
  CHECK(report.f16 < 3e-3);
  CHECK(report.bf16 < 2e-2);
}
template <class T>
std::vector<double> wide(const Tensor<T>& x) {
  return cast<double>(x).to_vector();
}
}  // namespace

TEST_CASE("layer_norm: gradient, precisions and devices agree", "[ops]") {
  check_norm([](const auto& v) { return layer_norm(v[0], v[1], v[2]); }, row_cases);
}
TEST_CASE("rms_norm: gradient, precisions and devices agree", "[ops]") {
  check_norm([](const auto& v) { return rms_norm(v[0], v[1]) + v[2]; }, row_cases);
}
TEST_CASE("l2_normalize: gradient, precisions and devices agree", "[ops]") {
  check_norm([](const auto& v) { return l2_normalize(v[0]); }, {{{1, 3}}, {{2, 5, 12}}, {{3, 257}}});
  check_norm([](const auto& v) { return l2_normalize(v[0], 100.0); }, {{{2, 3}}});  // every row is shorter than eps
}
TEST_CASE("instance_norm: gradient, precisions and devices agree", "[ops]") {
  check_norm([](const auto& v) { return instance_norm(v[0], v[1], v[2]); }, channel_cases);
}
TEST_CASE("group_norm: gradient, precisions and devices agree", "[ops]") {
  check_norm([](const auto& v) { return group_norm(v[0], 2, v[1], v[2]); }, channel_cases);
}
TEST_CASE("batch_norm: gradient, precisions and devices agree", "[ops]") {
  for (const bool training : {true, false})
    check_norm(
        [=](const auto& v) {
          using T = typename std::decay_t<decltype(v[0])>::value_type;
          auto running = RunningStats<T>::fresh(v[0].shape()[-1], v[0].device());
          return batch_norm(v[0], v[1], v[2], running, training);
        },
        channel_cases);
}

TEST_CASE("layer_norm: rows have mean 0 and variance 1, far from the origin too", "[ops]") {
  std::vector<float> values(400);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1000.0f + float(i % 7);
  const auto y = layer_norm(Var<float>(Tensor<float>::from(values, {4, 100}))).value().to_vector();
  for (std::size_t r = 0; r < 4; ++r) {
    double total = 0, squares = 0;
    for (std::size_t i = 0; i < 100; ++i) total += y[r * 100 + i], squares += double(y[r * 100 + i]) * y[r * 100 + i];
    CHECK(std::abs(total / 100) < 1e-4);  // half a unit in the last place of 1000, in standard deviations
    CHECK(squares / 100 == Approx(1).epsilon(1e-4));
  }
}

TEST_CASE("instance_norm: a channel far from the origin keeps its digits", "[ops]") {
  const Tensor<float> x = testing::wave<float>({1, 1000, 3});
  std::vector<float> moved = x.to_vector();
  for (float& v : moved) v = std::round(v * 256) / 256;  // so that adding 4096 is exact
  const auto near = instance_norm(Var<float>(Tensor<float>::from(moved, x.shape())));
  for (float& v : moved) v += 4096;
  const auto far = instance_norm(Var<float>(Tensor<float>::from(moved, x.shape())));
  CHECK(testing::relative_difference(far.value(), near.value()) < 2e-3);
}

TEST_CASE("group_norm: one group a channel is instance_norm, undefined gain and bias are ones and zeros", "[ops]") {
  const Var<double> x(testing::wave<double>({2, 3, 5, 4}));
  const Var<double> ones(Tensor<double>::full({4}, 1.0)), zeros(Tensor<double>::zeros({4}));
  CHECK(testing::relative_difference(group_norm(x, 4).value(), instance_norm(x, ones, zeros).value()) < 1e-14);
}

TEST_CASE("batch_norm: running statistics follow the momentum, with the unbiased variance", "[ops]") {
  const Var<double> x(Tensor<double>::from({1, 10, 3, 20, 5, 60}, {3, 1, 2}));
  auto running = RunningStats<double>::fresh(2);
  batch_norm(x, {}, {}, running, true, 0.1);
  const auto mean = running.mean.to_vector(), variance = running.variance.to_vector();
  CHECK(mean[0] == Approx(0.3));
  CHECK(mean[1] == Approx(3));
  CHECK(variance[0] == Approx(0.9 + 0.1 * 4));
  CHECK(variance[1] == Approx(0.9 + 0.1 * 700));
  const auto y = batch_norm(x, {}, {}, running, false).value().to_vector();
  CHECK(y[0] == Approx((1 - 0.3) / std::sqrt(1.3 + 1e-5)));
}

TEST_CASE("norms: half inputs are normalised in float", "[ops]") {
  const Tensor<float> x = testing::wave<float>({3, 40, 6});
  const auto rounded = cast<float>(cast<half>(x));
  CHECK(testing::relative_difference(layer_norm(Var<half>(cast<half>(x))).value(),
                                     layer_norm(Var<float>(rounded)).value()) < 1e-3);
  CHECK(testing::relative_difference(instance_norm(Var<half>(cast<half>(x))).value(),
                                     instance_norm(Var<float>(rounded)).value()) < 1e-3);
}

TEST_CASE("l2_normalize: a row of zeros stays zero", "[ops]") {
  const auto y = l2_normalize(Var<float>(Tensor<float>::from({0, 0, 3, 4}, {2, 2}))).value().to_vector();
  CHECK(y[0] == 0);
  CHECK(y[2] == Approx(0.6f));
}

TEST_CASE("norms: shapes that do not fit are refused with their names", "[ops][errors]") {
  const Var<float> x(testing::wave<float>({2, 3, 4})), five(testing::wave<float>({5}));
  using Catch::Contains;
  CHECK_THROWS_WITH(layer_norm(x, five), Contains("layer_norm") && Contains("gain [5]") && Contains("[2, 3, 4]"));
  CHECK_THROWS_WITH(instance_norm(x, {}, five), Contains("instance_norm") && Contains("bias [5]"));
  CHECK_THROWS_WITH(group_norm(x, 3), Contains("3 groups") && Contains("4 channels"));
  CHECK_THROWS_WITH(batch_norm(x, {}, {}, RunningStats<float>::fresh(3), true),
                    Contains("[3]") && Contains("4 channels"));
  const Var<float> one(testing::wave<float>({1, 1, 4}));
  CHECK_THROWS_WITH(batch_norm(one, {}, {}, RunningStats<float>::fresh(4), true), Contains("one value a channel"));
  CHECK_THROWS_AS(layer_norm(Var<float>(Tensor<float>(Shape{}))), ShapeError);
  CHECK_THROWS_WITH(rms_norm(x, five), Contains("rms_norm") && Contains("gain [5]"));
  CHECK_THROWS_WITH(l2_normalize(Var<float>(Tensor<float>({2, 0}))), Contains("l2_normalize") && Contains("[2, 0]"));
  CHECK_THROWS_AS(l2_normalize(x, 0.0), ConfigError);
  CHECK_THROWS_WITH(layer_norm(x, Var<float>(testing::wave<float>({4}, 0, Device::emulated()))), Contains("emulated"));
}
