#include "m3i/autodiff/kept.hpp"

#include <vector>

#include "catch.hpp"
#include "m3i/autodiff/backward.hpp"
#include "m3i/ops/conv.hpp"
#include "m3i/ops/linear.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/ops/shape.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

/// The two halves of a network: a perceptron with normalisation, and a residual convolution with instance norms. Every
/// result is also put into `held`, if there is one.
struct Example {
  static constexpr Index c = 16, side = 16, rows = side * side * side;
  Var<float> w1 = leaf({4 * c, c}), w2 = leaf({c, 4 * c}), gain = leaf({c}), bias = leaf({c}),
             k1 = leaf({c, 3, 3, 3, c}), k2 = leaf({c, 3, 3, 3, c}), k3 = leaf({c, 1, 1, 1, 2 * c}),
             x = leaf({1, side, side, side, c});

  static Var<float> leaf(const Shape& shape) { return Var<float>(testing::wave<float>(shape), true); }

  Var<float> perceptron(std::vector<Var<float>>* held) const {
    const auto n = keep(held, layer_norm(x, gain, bias));
    const auto wide = keep(held, linear(n, w1));
    return keep(held, linear(keep(held, gelu(wide)), w2));
  }
  Var<float> convolution(std::vector<Var<float>>* held) const {
    const auto once = keep(held, leaky_relu(keep(held, instance_norm(keep(held, conv3d(x, k1, {}, same()))))));
    const auto twice = keep(held, instance_norm(keep(held, conv3d(once, k2, {}, same()))));
    const auto both = keep(held, leaky_relu(keep(held, twice + once)));
    return keep(held, conv3d(keep(held, concat<float>({both, x}, -1)), k3));
  }
  std::vector<Var<float>> leaves() const { return {w1, w2, gain, bias, k1, k2, k3, x}; }
  static Conv3dSpec same() { return {.padding = {1, 1, 1}}; }
  static Var<float> keep(std::vector<Var<float>>* held, const Var<float>& y) {
    if (held) held->push_back(y);
    return y;
  }
};

}  // namespace

TEST_CASE("kept: gradients from recomputed values have the same bits as from values that are still there",
          "[autodiff]") {
  const Example dropped, holding;
  backward(sum(dropped.perceptron(nullptr)) + sum(square(dropped.convolution(nullptr))));
  std::vector<Var<float>> held;
  backward(sum(holding.perceptron(&held)) + sum(square(holding.convolution(&held))));
  for (std::size_t i = 0; i < dropped.leaves().size(); ++i)
    CHECK(dropped.leaves()[i].grad().to_vector() == holding.leaves()[i].grad().to_vector());
}

TEST_CASE("kept: a perceptron keeps the input of GELU alone, a residual convolution what each convolution gave",
          "[autodiff]") {
  const Example e;
  memory_release_cached();
  const Index map = Example::rows * Example::c * 4, before = memory_stats().live;
  const auto maps = [&] { return double(memory_stats().live - before) / double(map); };
  {
    const auto y = e.perceptron(nullptr);
    CHECK(maps() == Approx(4 + 1).epsilon(0.05));  // the wide map, and y; neither the normalised x nor GELU
  }
  CHECK(maps() == 0);
  {
    const auto y = e.convolution(nullptr);
    CHECK(maps() == Approx(2 + 1).epsilon(0.05));  // two convolutions, and y
  }
  CHECK(maps() == 0);
}

TEST_CASE("kept: what was computed again goes with the last gradient that reads it", "[autodiff]") {
  const int threads = thread_count();
  set_thread_count(1);  // each thread has a tile of its own
  const Example e;
  memory_release_cached();
  for (const auto& leaf : e.leaves()) leaf.grad();
  const Index map = Example::rows * Example::c * 4, before = memory_stats().live;
  const auto loss = sum(e.perceptron(nullptr));
  memory_reset_peak();
  backward(loss);
  CHECK(memory_stats().peak - before <=
        15 * map);  // input, value and gradient of GELU; y and dy: 14, and a tile of a product
  CHECK(memory_stats().live - before < map);
  set_thread_count(threads);
}

TEST_CASE("kept: a long chain of cheap operations stays within the stack", "[autodiff]") {
  const Var<double> x(testing::wave<double>({1}), true);
  Var<double> y = x;
  for (int i = 0; i < 50000; ++i) y = silu(y) + 1;
  backward(sum(y));
  CHECK(x.has_grad());
}
