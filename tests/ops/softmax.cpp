#include <limits>

#include "catch.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/ops/softmax.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
const std::vector<Shape> shapes = {{1}, {3, 5}, {2, 1}, {4, 129}, {2, 3, 128}, {2, 257}};
template <class F>
void check(const F& f, const std::vector<Shape>& cases = shapes) {
  const auto report = testing::check_op(f, cases);
  INFO(report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.single < 2e-6);
  CHECK(report.emulated < 1e-13);
  CHECK(report.cuda < 1e-13);
  CHECK(report.f16 < 3e-3);
  CHECK(report.bf16 < 2e-2);
}
}  // namespace

TEST_CASE("softmax: gradient, precisions and devices agree", "[ops]") {
  check([](const auto& x) { return softmax(x); });
  check([](const auto& x) { return softmax(x, 1); }, {{2, 3, 4, 5}, {1, 130, 3}});
  check([](const auto& x) { return softmax(x, 0); }, {{3, 2}});
}
TEST_CASE("log_softmax: gradient, precisions and devices agree", "[ops]") {
  check([](const auto& x) { return log_softmax(x); });
  check([](const auto& x) { return log_softmax(x, 1); }, {{2, 3, 4, 5}});
}
TEST_CASE("logsumexp: gradient, precisions and devices agree", "[ops]") {
  check([](const auto& x) { return logsumexp(x); });
  check([](const auto& x) { return logsumexp(x, 1, true); }, {{2, 3, 4, 5}});
}

TEST_CASE("softmax: huge inputs do not overflow, and rows add up to 1", "[ops]") {
  const auto y =
      softmax(Var<float>(Tensor<float>::from({1e30f, 1e30f, -1e30f, 500, 501, -500}, {2, 3}))).value().to_vector();
  CHECK(y[0] == 0.5f);
  CHECK(y[2] == 0);
  CHECK(y[3] + y[4] + y[5] == Approx(1));
  CHECK(y[4] / y[3] == Approx(std::exp(1.0)));
}

TEST_CASE("logsumexp: infinities have their limits", "[ops]") {
  const double inf = std::numeric_limits<double>::infinity();
  const Var<double> x(Tensor<double>::from({-inf, -inf, 0, inf, -inf, 2}, {3, 2}), true);
  const Var<double> y = logsumexp(x);
  CHECK(y.value().to_vector() == std::vector<double>{-inf, inf, 2});
  backward(y, Tensor<double>::full({3}, 1.0));
  CHECK(x.grad().to_vector()[0] == 0);
  CHECK(x.grad().to_vector()[5] == 1);
}

TEST_CASE("log_softmax: far smaller probabilities than exp can hold keep their logarithm", "[ops]") {
  const auto y = log_softmax(Var<float>(Tensor<float>::from({0, -1000}, {2}))).value().to_vector();
  CHECK(y[0] == 0);
  CHECK(y[1] == -1000);
}

TEST_CASE("softmax: small types are computed in float", "[ops]") {
  const Tensor<bf16> x = cast<bf16>(testing::wave<float>({3, 100}));
  CHECK(testing::relative_difference(softmax(Var<bf16>(x)).value(), softmax(Var<float>(cast<float>(x))).value()) <
        4e-3);
}

TEST_CASE("softmax: a scalar and an axis that does not exist are refused", "[ops][errors]") {
  CHECK_THROWS_WITH(softmax(Var<float>(Tensor<float>(Shape{}))), Catch::Contains("softmax") && Catch::Contains("[]"));
  CHECK_THROWS_WITH(logsumexp(Var<float>(testing::wave<float>({2, 3})), 2),
                    Catch::Contains("logsumexp: axis 2 of [2, 3]"));
  CHECK_THROWS_AS(log_softmax(Var<float>(Tensor<float>({3, 0}))), ShapeError);
}
