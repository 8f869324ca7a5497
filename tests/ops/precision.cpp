// half and bf16 store and float adds up: sums of so many terms that a sum kept in the small type would have stopped
// growing (bf16 at 256, half at 2048), or lost the differences that matter.

#include <functional>
#include <limits>

#include "../catch.hpp"
#include "../devices.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/attention.hpp"
#include "m3i/ops/cast.hpp"
#include "m3i/ops/conv.hpp"
#include "m3i/ops/embedding.hpp"
#include "m3i/ops/interpolate.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/ops/window.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

constexpr Index many = 4096;

/// About one, with small differences, all of them values of bf16 and of half.
Tensor<float> nearly_one(const Shape& shape, int which = 0) {
  std::vector<float> values = testing::wave<float>(shape, which).to_vector();
  for (float& v : values) v = 1 + std::round(4 * v) / 64;
  return Tensor<float>::from(values, shape);
}

/// Value and gradients, every element of the result having a gradient near one, so that nothing cancels.
template <class T, class F>
std::vector<Tensor<T>> evaluate(const F& f, const std::vector<Shape>& shapes, Device device) {
  std::vector<Var<T>> v;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    v.emplace_back(cast<T>(nearly_one(shapes[i], int(i))).clone().to(device), true);
  const Var<T> y = f(v);
  backward(y, cast<T>(nearly_one(y.shape(), 9)).clone().to(device));
  std::vector<Tensor<T>> results{y.value()};
  for (const auto& x : v) results.push_back(x.grad());
  return results;
}

/// Results may differ from those of float by their own rounding, and by that of values in between.
template <class T, class F>
void check_type(const char* name, const F& f, const std::vector<Shape>& shapes, double unit) {
  const auto exact = evaluate<float>(f, shapes, Device::cpu());
  auto devices = other_devices();
  devices.push_back(Device::cpu());
  for (const Device device : devices) {
    const auto results = evaluate<T>(f, shapes, device);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      INFO(name << " in " << dtype_name<T>() << " on " << text(device) << (i ? ", gradient " : ", value ") << i);
      CHECK(testing::relative_difference(results[i], exact[i]) < 4 * unit);
    }
  }
}
template <class F>
void check(const char* name, const F& f, const std::vector<Shape>& shapes) {
  check_type<m3i::half>(name, f, shapes, 0x1p-11);
  check_type<bf16>(name, f, shapes, 0x1p-8);
}
template <class V>
Tensor<std::int64_t> zeros_for(const V& x) {
  return Tensor<std::int64_t>::zeros(x.shape().slice(0, x.rank() - 1));
}

}  // namespace

TEST_CASE("precision: sums and means of thousands of small floats are added in float", "[ops]") {
  check("sum", [](const auto& v) { return sum(v[0]) / double(many); }, {{many}});
  check("mean", [](const auto& v) { return mean(v[0]); }, {{many}});
  check("sum of an axis", [](const auto& v) { return sum(v[0], 0); }, {{many, 3}});
  check("mean of a row", [](const auto& v) { return mean(v[0], 1); }, {{3, many}});
  check("gradient of [C]", [](const auto& v) { return v[0] + v[1]; }, {{many, 5}, {5}});
  check("gradient of a scalar", [](const auto& v) { return v[0] * v[1]; }, {{many, 2}, {}});
  check("gradient of [N, 1, C]", [](const auto& v) { return v[0] * v[1]; }, {{2, many, 3}, {2, 1, 3}});
  check("global_avg_pool", [](const auto& v) { return global_avg_pool(v[0]); }, {{2, 16, 16, 16, 3}});
  check("avg_pool3d", [](const auto& v) { return avg_pool3d(v[0], {16, 16, 16}, {16, 16, 16}); }, {{1, 16, 16, 16, 2}});
  check("logsumexp", [](const auto& v) { return logsumexp(v[0]); }, {{2, many}});
  check("l2_normalize", [](const auto& v) { return l2_normalize(v[0]); }, {{2, many}});
}

TEST_CASE("precision: products over thousands of terms are added in float", "[ops]") {
  check("matmul", [](const auto& v) { return matmul(v[0], v[1]); }, {{3, many}, {many, 5}});
  check("linear", [](const auto& v) { return linear(v[0], v[1], v[2]); }, {{many, 4}, {3, 4}, {3}});
  check("conv3d", [](const auto& v) { return conv3d(v[0], v[1], v[2]); }, {{1, 16, 16, 17, 4}, {3, 1, 1, 2, 4}, {3}});
  check("conv3d with one channel a group", [](const auto& v) { return conv3d(v[0], v[1], v[2], {.groups = 2}); },
        {{1, 16, 16, 17, 2}, {2, 1, 1, 2, 1}, {2}});
  check("conv_transpose3d",
        [](const auto& v) {
          return conv_transpose3d(v[0], v[1], v[2], {.stride = {1, 1, 2}});
        },
        {{1, 16, 16, 16, 3}, {3, 1, 1, 2, 4}, {4}});
}

TEST_CASE("precision: what thousands of places read gathers its gradient in float", "[ops]") {
  check("embedding", [](const auto& v) { return embedding(v[0], Tensor<std::int64_t>::zeros({many})); }, {{2, 3}});
  check("interpolate", [](const auto& v) { return interpolate(v[0], {16, 16, 16}); }, {{1, 1, 1, 1, 3}});
  check("broadcast_to", [](const auto& v) { return broadcast_to(v[0], {many, 2, 3}); }, {{2, 1}});
  check("attention's values", [](const auto& v) { return attention(detach(v[0]), detach(v[1]), v[2]) / 64.0; },
        {{1, many / 4, 2}, {1, many / 4, 2}, {1, many / 4, 4}});
  check("the bias of attention", [](const auto& v) { return attention(v[0], v[0], v[1], {.bias = v[2]}); },
        {{many, 1, 1}, {many, 1, 4}, {1, 1, 1}});
  check("window_attention",
        [](const auto& v) {
          return window_attention(detach(v[1]), v[0], detach(v[2]), {.heads = 1, .window = {16, 8, 8}});
        },
        {{1, 16, 16, 16, 4}, {1, 16, 16, 16, 2}, {31 * 15 * 15, 1}});
}

TEST_CASE("precision: losses are added up in float", "[ops]") {
  check("cross_entropy", [](const auto& v) { return cross_entropy(v[0], zeros_for(v[0])); }, {{many, 3}});
  check("dice_loss", [](const auto& v) { return dice_loss(v[0], zeros_for(v[0])); }, {{1, many, 3}});
  check("mse_loss", [](const auto& v) { return mse_loss(v[0], v[1] * 3.0); }, {{many}, {many}});
  check("bce_with_logits", [](const auto& v) { return bce_with_logits(v[0], v[1] * 0.0); }, {{many}, {many}});
}

TEST_CASE("precision: normalisation sees differences that a small sum would lose", "[ops]") {
  // 4096 values of 1 and one step of the type above it: the mean lies between two neighbours of the small type.
  const auto check_norm = [](auto small) {
    using T = decltype(small);
    const float step = std::is_same_v<T, m3i::half> ? 0x1p-10f : 0x1p-7f;
    std::vector<float> values(many);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 4 ? 1 : 1 + step;
    const auto row = Tensor<float>::from(values, {1, many}), column = row.reshape({1, many, 1});
    auto devices = other_devices();
    devices.push_back(Device::cpu());
    for (const Device device : devices) {
      const Var<T> x(cast<T>(row).to(device)), c(cast<T>(column).to(device));
      auto running = RunningStats<T>::fresh(1, device);
      for (const Var<T>& y : {layer_norm(x, {}, {}, 1e-12), reshape(instance_norm(c, {}, {}, 1e-12), {1, many}),
                              reshape(group_norm(c, 1, {}, {}, 1e-12), {1, many}),
                              reshape(batch_norm(c, {}, {}, running, true, 1.0, 1e-12), {1, many})}) {
        const auto v = cast<float>(y.value()).to_vector();
        CHECK(v[0] == Approx(std::sqrt(3.0)).epsilon(0x1p-8));  // (step - step / 4) / (step sqrt(3) / 4)
        CHECK(v[1] == Approx(-std::sqrt(1 / 3.0)).epsilon(0x1p-8));
      }
      const auto p = cast<float>(softmax(Var<T>(Tensor<T>::full({1, many}, T(3.0f), device))).value()).to_vector();
      CHECK(p[7] == 1 / float(many));
    }
  };
  check_norm(m3i::half());
  check_norm(bf16());
}

TEST_CASE("cast: gradient, precisions and devices agree", "[ops]") {
  const auto report = testing::check_op(
      [](const auto& x) { return cast<typename std::decay_t<decltype(x)>::value_type>(square(cast<double>(x))); },
      {{1}, {3, 5}, {2, 257}, {0, 2}});
  INFO(report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.single < 1e-6);
  CHECK(report.emulated < 1e-14);
  CHECK(report.cuda < 1e-14);
  CHECK(report.f16 < 3e-3);
  CHECK(report.bf16 < 2e-2);
}

TEST_CASE("cast: rounds to nearest even, and gives gradients in the type of its input", "[ops]") {
  const Var<float> x(Tensor<float>::from({1, 1 + 0x1p-8f, 1 + 0x3p-8f, -2.5f}, {4}), true);
  const Var<bf16> y = cast<bf16>(x);
  CHECK(cast<float>(y.value()).to_vector() == std::vector<float>{1, 1, 1 + 0x1p-6f, -2.5f});
  const Var<double> z = square(cast<double>(y));
  CHECK(z.value().to_vector() == std::vector<double>{1, 1, (1 + 0x1p-6) * (1 + 0x1p-6), 6.25});
  backward(z, Tensor<double>::full({4}, 0.5));
  CHECK(x.grad().to_vector() == std::vector<float>{1, 1, 1 + 0x1p-6f, -2.5f});
  CHECK(cast<float>(x).node() == x.node());  // nothing to do, nothing on the tape
  {
    NoGrad guard;
    CHECK_FALSE(cast<m3i::half>(x).needs_grad());
  }
}
