#include "m3i/ops/interpolate.hpp"
#include "../good.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
/// A row of voxels along W resized to `n`.
std::vector<double> row(std::initializer_list<double> values, Index n, Interpolation mode, bool align_corners) {
  const Var<double> x(Tensor<double>::from(values, {1, 1, 1, Index(values.size()), 1}));
  return interpolate(x, {1, 1, n}, mode, align_corners).value().to_vector();
}
constexpr auto trilinear = Interpolation::trilinear, nearest = Interpolation::nearest;
}  // namespace

TEST_CASE("interpolate: gradient, precisions and devices agree", "[ops]") {
  const std::vector<Shape> shapes{{1, 1, 1, 1, 1}, {2, 3, 4, 5, 3}, {1, 7, 2, 3, 300}};
  for (const auto& size : {std::array<Index, 3>{1, 1, 1}, {4, 6, 5}, {2, 3, 9}, {8, 8, 1}}) {
    CAPTURE(size[0], size[1], size[2]);
    good(testing::check_op([&](const auto& x) { return interpolate(x, size); }, shapes));
    good(testing::check_op([&](const auto& x) { return interpolate(x, size, trilinear, true); }, shapes));
    good(testing::check_op([&](const auto& x) { return interpolate(x, size, nearest); }, shapes));
  }
}

TEST_CASE("interpolate: positions along an axis", "[ops]") {
  CHECK(row({0, 4}, 4, trilinear, false) == std::vector<double>{0, 1, 3, 4});
  CHECK(row({0, 4}, 5, trilinear, true) == std::vector<double>{0, 1, 2, 3, 4});
  CHECK(row({0, 2, 4, 6}, 2, trilinear, false) == std::vector<double>{1, 5});
  CHECK(row({0, 2, 4, 6}, 2, trilinear, true) == std::vector<double>{0, 6});
  CHECK(row({5, 7}, 1, trilinear, true) == std::vector<double>{5});
  CHECK(row({1, 2, 3}, 7, nearest, false) == std::vector<double>{1, 1, 1, 2, 2, 3, 3});
  CHECK(row({1, 2, 3, 4, 5}, 2, nearest, false) == std::vector<double>{1, 3});
}

TEST_CASE("interpolate: the same size gives the same values", "[ops]") {
  const Var<float> x(testing::wave<float>({2, 3, 4, 5, 2}));
  for (const bool align : {false, true})
    CHECK(interpolate(x, {3, 4, 5}, trilinear, align).value().to_vector() == x.value().to_vector());
  CHECK(interpolate(x, {3, 4, 5}, nearest).value().to_vector() == x.value().to_vector());
}

TEST_CASE("interpolate: a voxel that nothing reads may be NaN", "[ops]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(row({1, nan, 3}, 2, trilinear, true) == std::vector<double>{1, 3});
}

TEST_CASE("interpolate: refuses what cannot be resized", "[ops][errors]") {
  const Var<float> x(Tensor<float>({1, 2, 2, 2, 1}));
  CHECK_THROWS_WITH(interpolate(x, {2, 0, 2}), Catch::Contains("axis 1") && Catch::Contains("resized to 0"));
  CHECK_THROWS_WITH(interpolate(x, {2, 2, 2}, nearest, true), Catch::Contains("align_corners"));
  CHECK_THROWS_WITH(interpolate(Var<float>(Tensor<float>({2, 3})), {1, 1, 1}), Catch::Contains("[2, 3]"));
}
