#include "m3i/optim/mixed.hpp"
#include "../catch.hpp"
#include "../devices.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/optim/adam.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

/// y = x w in a small type, float outside: the smallest network there is.
template <class T>
struct Product {
  Var<float> weight;
  Var<T> copy;
  MixedPrecision mixed;
  explicit Product(const Tensor<float>& w)
      : weight(w, true), copy(cast<T>(w), true), mixed({weight}, std::vector<Var<T>>{copy}) {}
  Var<float> operator()(const Var<float>& x) const {
    return cast<float>(cast<T>(x, 1 / mixed.gradient_scale()) * copy, mixed.gradient_scale());
  }
};

}  // namespace

TEST_CASE("mixed precision: gradients reach float weights, unscaled and added up", "[optim]") {
  for (const Device device : other_devices()) {
    const Product<m3i::half> f(Tensor<float>::from({1, 2, 3}, {3}, device));
    CHECK(f.mixed.gradient_scale() == 65536);
    const Var<float> x(Tensor<float>::from({0.5f, 1, 3}, {3}, device), true);
    for (int i = 1; i <= 2; ++i) {
      backward(0.25 * sum(f(x)));
      f.mixed.collect();
      CHECK_FALSE(f.copy.has_grad());
      CHECK(f.weight.grad().to_vector() == std::vector<float>{0.125f * float(i), 0.25f * float(i), 0.75f * float(i)});
      CHECK(x.grad().to_vector() == std::vector<float>{0.25f * float(i), 0.5f * float(i), 0.75f * float(i)});
    }
  }
}

TEST_CASE("mixed precision: the rounded copies and the collected gradients are the host's on every device", "[optim]") {
  const auto check = [](auto type) {
    using T = decltype(type);
    testing::Record record("MixedPrecision");
    const Tensor<float> w = testing::wave<float>({300}), g = testing::wave<float>({300}, 1);
    auto devices = other_devices();
    devices.push_back(Device::cpu());
    for (const Device device : devices) {
      const Product<T> f(w.to(device));
      CHECK(testing::relative_difference(f.copy.value(), cast<T>(w)) == 0);
      f.copy.grad().copy_from(cast<T>(g).to(device));
      f.mixed.collect();
      const auto unscaled = f.weight.grad().to_vector(), expected = cast<float>(cast<T>(g)).to_vector();
      double worst = 0;
      for (std::size_t i = 0; i < unscaled.size(); ++i)
        worst = std::max(worst, std::abs(double(unscaled[i]) * f.mixed.gradient_scale() - double(expected[i])));
      CHECK(record.add(device, dtype_name<T>(), worst) == 0);  // the scale is a power of two
    }
  };
  check(m3i::half());
  check(bf16());
}

TEST_CASE("mixed precision: gradients below half's smallest number survive by the scale", "[optim]") {
  Product<m3i::half> f(Tensor<float>::full({2}, 1.0f));
  const Var<float> x(Tensor<float>::full({2}, 1.0f));
  backward(0x1p-30 * sum(f(x)));
  f.mixed.collect();
  CHECK(f.weight.grad().to_vector() == std::vector<float>(2, 0x1p-30f));
  f.mixed.scale.exponent = 0;
  f.weight.clear_grad();
  backward(0x1p-30 * sum(f(x)));
  f.mixed.collect();
  CHECK(f.weight.grad().to_vector() == std::vector<float>(2, 0.0f));
}

TEST_CASE("mixed precision: copies are the rounded weights, and freeze with them", "[optim]") {
  const Product<bf16> f(Tensor<float>::full({2}, 1.0f));
  CHECK(f.mixed.gradient_scale() == 1);
  f.weight.value().copy_from(Tensor<float>::full({2}, 1 + 0x3p-8f));
  f.weight.set_needs_grad(false);
  f.mixed.refresh();
  CHECK(cast<float>(f.copy.value()).to_vector() == std::vector<float>(2, 1 + 0x1p-6f));
  CHECK_FALSE(f.copy.needs_grad());
  const std::vector<Var<bf16>> one{f.copy}, two{f.copy, f.copy};
  CHECK_THROWS_WITH(MixedPrecision({f.weight}, two), Catch::Contains("1 weights for 2"));
}

TEST_CASE("mixed precision: steps too small for the type add up in the weights", "[optim]") {
  const Product<bf16> f(Tensor<float>::full({4}, 2.0f));
  Adam<float> adam({f.weight}, {.lr = 1e-3});  // far below bf16's step of 2^-6 at 2
  for (int i = 0; i < 2500; ++i) {
    f.weight.clear_grad();
    backward(sum(square(f(Var<float>(Tensor<float>::full({4}, 1.0f))) - 3.0)));
    f.mixed.collect();
    adam.step();
    f.mixed.refresh();
  }
  for (const float w : f.weight.value().to_vector()) CHECK(std::abs(w - 3) < 0.05);
}

TEST_CASE("loss scale: halves for a gradient that is not finite, doubles after many that are", "[optim]") {
  LossScale scale{LossScale::first};
  CHECK(scale.reduce());
  CHECK(scale.value() == 32768);
  for (Index i = 0; i < LossScale::patience; ++i) scale.accept();
  CHECK(scale.value() == 65536);
  CHECK(scale.good == 0);
  for (int i = 0; i < 16; ++i) CHECK(scale.reduce());
  CHECK(scale.value() == 1);
  CHECK_FALSE(scale.reduce());  // not the scale's fault
  scale = {LossScale::largest, LossScale::patience - 1};
  scale.accept();
  CHECK(scale.exponent == LossScale::largest);
  LossScale none;  // bf16
  for (Index i = 0; i < 2 * LossScale::patience; ++i) none.accept();
  CHECK(none.value() == 1);
}
