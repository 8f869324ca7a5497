#include <limits>

#include "../good.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
const std::vector<std::vector<Shape>> pairs{{{3, 5}, {3, 5}},       {{3, 5}, {5}},
                                            {{5}, {3, 5}},          {{2, 1, 4, 1}, {3, 1, 5}},
                                            {{}, {2, 3}},           {{4, 1}, {4, 300}},
                                            {{2, 3, 4}, {2, 1, 4}}, {{1}, {1}},
                                            {{0, 3}, {3}},          {{2, 3, 1, 1, 2}, {3, 4, 5, 2}},
                                            {{700, 3}, {3}}};
}  // namespace

TEST_CASE("arithmetic: every broadcast gives right values and gradients on every device", "[ops]") {
  good(testing::check_shapes([](const auto& v) { return v[0] + v[1]; }, pairs));
  good(testing::check_shapes([](const auto& v) { return v[0] - v[1]; }, pairs));
  good(testing::check_shapes([](const auto& v) { return v[0] * v[1]; }, pairs));
  good(testing::check_shapes([](const auto& v) { return v[0] / (v[1] + 3.0); }, pairs));
  good(testing::check_op([](const auto& x) { return -(2.0 - x) * 3.0 / 4.0 + (1.0 + x - 2.0); }, {{1}, {3, 5}}));
}

TEST_CASE("arithmetic: values follow NumPy's rule", "[ops]") {
  const Var<double> a(Tensor<double>::from({1, 2, 3}, {3, 1})), b(Tensor<double>::from({10, 20}, {2}));
  CHECK((a + b).value().to_vector() == std::vector<double>{11, 21, 12, 22, 13, 23});
  CHECK((a + b).shape() == Shape{3, 2});
}

TEST_CASE("arithmetic: shapes that do not broadcast are refused with both shapes", "[ops][errors]") {
  const Var<float> a(Tensor<float>::zeros({2, 3})), b(Tensor<float>::zeros({2, 4}));
  CHECK_THROWS_WITH(a * b, Catch::Contains("multiply") && Catch::Contains("[2, 3]") && Catch::Contains("[2, 4]"));
  CHECK_THROWS_AS(a + Var<float>(), ShapeError);
  CHECK_THROWS_WITH(a + Var<float>(a.value().to(Device::emulated())),
                    Catch::Contains("add: inputs on cpu and emulated"));
}

TEST_CASE("reduce: sums, means and maxima over any axis", "[ops]") {
  const std::vector<Shape> shapes{{2, 3}, {2, 3, 4}, {4, 5, 1}, {1, 1}, {3, 257}, {2, 4096}, {3, 3001}};
  good(testing::check_op([](const auto& x) { return sum(x); }, shapes));
  good(testing::check_op([](const auto& x) { return mean(x); }, shapes));
  good(testing::check_op([](const auto& x) { return sum(x, 0); }, shapes));
  good(testing::check_op([](const auto& x) { return mean(x, -1, true); }, shapes));
  good(testing::check_op([](const auto& x) { return max(x, 1); }, shapes));
  const Var<double> x(Tensor<double>::from({1, 5, 5, 2}, {2, 2}), true);
  const auto top = max(x, 1);
  CHECK(top.value().to_vector() == std::vector<double>{5, 5});
  CHECK_THROWS_WITH(sum(x, 2), Catch::Contains("sum") && Catch::Contains("axis 2"));
  CHECK_THROWS_WITH(max(x, -3), Catch::Contains("max") && Catch::Contains("axis -3"));
  CHECK_THROWS_WITH(max(Var<double>(Tensor<double>::zeros({2, 0})), 1), Catch::Contains("is empty"));
  CHECK_THROWS_WITH(mean(Var<double>(Tensor<double>::zeros({2, 0})), 1), Catch::Contains("is empty"));
  CHECK_THROWS_AS(mean(Var<double>(Tensor<double>::zeros({0}))), ShapeError);
  CHECK(sum(Var<double>(Tensor<double>::zeros({0}))).value().item() == 0);
}

TEST_CASE("reduce: the mean of many small floats neither overflows nor loses digits", "[ops]") {
  const Var<m3i::half> many(
      Tensor<m3i::half>::full({200000}, m3i::half(1.5f)));  // their sum is far above the largest half
  CHECK(float(mean(many).value().item()) == 1.5f);
  CHECK(std::isinf(float(sum(many).value().item())));
  const Var<float> x(Tensor<float>::full({1000003}, 0.1f));  // no multiple of a run
  CHECK(sum(x).value().item() == Approx(1000003 * double(0.1f)).epsilon(1e-5));
}

TEST_CASE("reduce: a NaN reaches every result that it belongs to", "[ops]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (std::size_t bad = 0; bad < 3; ++bad) {
    std::vector<double> values{1, 5, 3, 7, 8, 9};
    values[bad] = nan;
    const Var<double> x(Tensor<double>::from(values, {2, 3}));
    for (const auto& y : {max(x, 1), sum(x, 1), mean(x, 1)}) {
      CHECK(std::isnan(y.value().to_vector()[0]));
      CHECK_FALSE(std::isnan(y.value().to_vector()[1]));
    }
  }
}

TEST_CASE("reduce: the same bits for any number of threads", "[ops]") {
  const auto x = testing::wave<float>({37, 4096});
  const int before = thread_count();
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    const Var<float> v(x, true), w(testing::wave<float>({4096}), true);
    const auto y = sum(v * w);
    backward(y);
    results.push_back(w.grad().to_vector());
    results.back().push_back(y.value().item());
  }
  set_thread_count(before);
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}
