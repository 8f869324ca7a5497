#include <limits>

#include "../catch.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
const std::vector<Shape> shapes{{1}, {3, 5}, {2, 1}, {4, 129}, {2, 256}, {0, 3}, {}};

template <class F>
void check(const char* name, const F& f) {
  const auto report = testing::check_op(f, shapes);
  INFO(name << ": " << report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.single < 2e-6);
  CHECK(report.emulated < 1e-14);
  CHECK(report.cuda < 1e-13);
  CHECK(report.f16 < 3e-3);
  CHECK(report.bf16 < 2e-2);
}
}  // namespace

TEST_CASE("pointwise: gradients, precisions and devices agree", "[ops]") {
  check("relu", [](const auto& x) { return relu(x); });
  check("leaky_relu", [](const auto& x) { return leaky_relu(x, 0.1); });
  check("gelu", [](const auto& x) { return gelu(x); });
  check("gelu_tanh", [](const auto& x) { return gelu_tanh(x); });
  check("quick_gelu", [](const auto& x) { return quick_gelu(x); });
  check("silu", [](const auto& x) { return silu(x); });
  check("sigmoid", [](const auto& x) { return sigmoid(x); });
  check("tanh", [](const auto& x) { return tanh(x); });
  check("softplus", [](const auto& x) { return softplus(x); });
  check("exp", [](const auto& x) { return exp(x); });
  check("log", [](const auto& x) { return log(exp(x)); });
  check("sqrt", [](const auto& x) { return sqrt(exp(x)); });
  check("square", [](const auto& x) { return square(x); });
  check("abs", [](const auto& x) { return abs(x); });
}

TEST_CASE("pointwise: half and bf16 store, float computes", "[ops]") {
  const auto x = testing::wave<float>({1000});
  const auto exact = gelu(Var<float>(x)).value();
  CHECK(testing::relative_difference(gelu(Var<half>(cast<half>(x))).value(), exact) < 2e-3);
  CHECK(testing::relative_difference(gelu(Var<bf16>(cast<bf16>(x))).value(), exact) < 2e-2);
}

TEST_CASE("pointwise: NaN stays NaN", "[ops]") {
  const Var<float> x(Tensor<float>::full({3}, std::numeric_limits<float>::quiet_NaN()));
  for (const auto& y : {relu(x), leaky_relu(x), gelu(x), gelu_tanh(x), quick_gelu(x), silu(x), sigmoid(x), tanh(x),
                        softplus(x), exp(x), log(x), sqrt(x), square(x), abs(x)})
    for (const float v : y.value().to_vector()) CHECK(std::isnan(v));
}

TEST_CASE("pointwise: extreme inputs stay finite where the function does", "[ops]") {
  const Var<float> x(Tensor<float>::from({-1e30f, -1e4f, -90.f, 0.f, 90.f, 1e4f, 1e30f}, {7}));
  for (const auto& y : {sigmoid(x), tanh(x), gelu(x), silu(x), softplus(x), quick_gelu(x)})
    for (const float v : y.value().to_vector()) CHECK(std::isfinite(v));
}
