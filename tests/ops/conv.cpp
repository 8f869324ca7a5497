#include "m3i/ops/conv.hpp"
#include "../good.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
/// sum_i a_i b_i
double inner(const Tensor<double>& a, const Tensor<double>& b) {
  double total = 0;
  for (Index i = 0; i < a.size(); ++i) total += a.data()[i] * b.data()[i];
  return total;
}
}  // namespace

TEST_CASE("conv3d: gradient, precisions and devices agree", "[ops]") {
  const auto check = [](const Shape& x, const Shape& w, const Conv3dSpec& spec) {
    CAPTURE(x.text(), w.text());
    good(testing::check_shapes([&](const auto& v) { return conv3d(v[0], v[1], v[2], spec); }, {{x, w, {w[0]}}}));
  };
  check({1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}, {});
  check({2, 3, 4, 5, 3}, {4, 3, 3, 3, 3}, {.padding = {1, 1, 1}});
  check({1, 4, 6, 4, 2}, {3, 2, 3, 2, 2}, {.stride = {2, 3, 2}});
  check({1, 5, 7, 6, 2}, {3, 3, 2, 3, 2}, {.stride = {2, 3, 1}, .padding = {1, 0, 2}, .dilation = {1, 2, 2}});
  check({1, 3, 4, 3, 4}, {6, 2, 2, 2, 2}, {.groups = 2});
  check({2, 3, 4, 3, 5}, {5, 3, 3, 3, 1}, {.padding = {1, 1, 1}, .groups = 5});
}

TEST_CASE("conv_transpose3d: gradient, precisions and devices agree", "[ops]") {
  const auto check = [](const Shape& x, const Shape& w, const Conv3dSpec& spec) {
    CAPTURE(x.text(), w.text());
    good(testing::check_shapes([&](const auto& v) { return conv_transpose3d(v[0], v[1], v[2], spec); },
                               {{x, w, {w[4] * spec.groups}}}));
  };
  check({1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}, {});
  check({2, 2, 3, 2, 3}, {3, 2, 2, 2, 4}, {.stride = {2, 2, 2}});
  check({1, 3, 2, 4, 2}, {2, 3, 3, 3, 3}, {.stride = {2, 3, 1}, .padding = {1, 1, 1}, .output_padding = {1, 2, 0}});
  check({1, 3, 3, 3, 4}, {4, 3, 2, 2, 2}, {.stride = {2, 1, 1}, .dilation = {1, 2, 1}, .groups = 2});
}

TEST_CASE("conv_transpose3d: is the transpose of conv3d", "[ops]") {
  const Conv3dSpec spec{.stride = {2, 3, 1}, .padding = {1, 0, 1}};
  const Tensor<double> x = testing::wave<double>({2, 7, 8, 5, 3}), w = testing::wave<double>({4, 3, 2, 3, 3}, 1);
  const Tensor<double> y = conv3d(Var<double>(x), Var<double>(w), {}, spec).value();
  const Tensor<double> z = testing::wave<double>(y.shape(), 2);
  const Var<double> back = conv_transpose3d(Var<double>(z), Var<double>(w), {}, spec);
  CHECK(back.shape() == x.shape());
  CHECK(inner(y, z) == Approx(inner(x, back.value())).epsilon(1e-12));
}

TEST_CASE("conv_transpose3d: doubling a volume of one voxel writes the weight", "[ops]") {
  const Var<double> x(Tensor<double>::from({3}, {1, 1, 1, 1, 1}));
  const Var<double> w(Tensor<double>::from({1, 2, 3, 4, 5, 6, 7, 8}, {1, 2, 2, 2, 1})),
      b(Tensor<double>::from({0.5}, {1}));
  CHECK(conv_transpose3d(x, w, b, {.stride = {2, 2, 2}}).value().to_vector() ==
        std::vector<double>{3.5, 6.5, 9.5, 12.5, 15.5, 18.5, 21.5, 24.5});
}

TEST_CASE("conv3d and conv_transpose3d: refuse shapes that do not fit", "[ops][errors]") {
  const Var<float> x(Tensor<float>({1, 4, 4, 4, 3})), w(Tensor<float>({3, 2, 2, 2, 5})), b(Tensor<float>({4}));
  CHECK_THROWS_WITH(conv3d(x, w), Catch::Contains("conv3d") && Catch::Contains("3 channels"));
  CHECK_THROWS_WITH(conv_transpose3d(x, w, b), Catch::Contains("bias [5], got [4]"));
  CHECK_THROWS_WITH(conv_transpose3d(x, w, {}, {.output_padding = {0, 1, 0}}), Catch::Contains("below the stride 1"));
  CHECK_THROWS_WITH(conv_transpose3d(x, w, {}, {.padding = {3, 0, 0}}), Catch::Contains("axis 0"));
  CHECK_THROWS_AS(conv3d(x, w, {}, {.output_padding = {1, 0, 0}}), ShapeError);
  CHECK_THROWS_WITH(conv3d(x, Var<float>(w.value().to(Device::emulated()))), Catch::Contains("conv3d: inputs on"));
}

TEST_CASE("pooling: gradient, precisions and devices agree", "[ops]") {
  const std::vector<Shape> shapes{{1, 3, 3, 3, 1}, {2, 5, 4, 7, 3}, {1, 6, 6, 6, 300}};
  good(testing::check_op([](const auto& x) { return max_pool3d(x, {2, 2, 2}, {2, 2, 2}); }, shapes));
  good(testing::check_op([](const auto& x) { return max_pool3d(x, {3, 2, 3}, {1, 2, 1}); }, shapes));
  good(testing::check_op([](const auto& x) { return avg_pool3d(x, {2, 2, 2}, {2, 2, 2}); }, shapes));
  good(testing::check_op([](const auto& x) { return avg_pool3d(x, {3, 1, 2}, {2, 3, 1}); }, shapes));
  good(testing::check_op([](const auto& x) { return global_avg_pool(x); }, shapes));
}

TEST_CASE("pooling: values, ties and NaN", "[ops]") {
  const Var<double> x(Tensor<double>::from({1, 4, 4, 2, 9}, {1, 1, 1, 5, 1}), true);
  const auto top = max_pool3d(x, {1, 1, 2}, {1, 1, 2});  // the last voxel fills no window
  CHECK(top.value().to_vector() == std::vector<double>{4, 4});
  backward(top, Tensor<double>::full(top.shape(), 1.0));
  CHECK(x.grad().to_vector() == std::vector<double>{0, 1, 1, 0, 0});
  CHECK(avg_pool3d(x, {1, 1, 2}, {1, 1, 3}).value().to_vector() == std::vector<double>{2.5, 5.5});
  CHECK(global_avg_pool(x).value().to_vector() == std::vector<double>{4});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Var<double> bad(Tensor<double>::from({1, nan, 5}, {1, 1, 1, 3, 1}));
  CHECK(std::isnan(max_pool3d(bad, {1, 1, 3}, {1, 1, 1}).value().item()));
}

TEST_CASE("pooling: refuses what does not fit, with the shape", "[ops][errors]") {
  const Var<float> x(Tensor<float>({1, 4, 4, 4, 3}));
  CHECK_THROWS_WITH(max_pool3d(x, {5, 1, 1}, {1, 1, 1}),
                    Catch::Contains("max_pool3d") && Catch::Contains("[1, 4, 4, 4, 3]"));
  CHECK_THROWS_WITH(avg_pool3d(x, {1, 1, 1}, {1, 0, 1}), Catch::Contains("stride 0"));
  CHECK_THROWS_AS(global_avg_pool(Var<float>(Tensor<float>({2, 3}))), ShapeError);
}
