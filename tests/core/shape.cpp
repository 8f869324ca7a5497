#include "m3i/core/shape.hpp"

#include <vector>

#include "catch.hpp"

using namespace m3i;

TEST_CASE("a shape knows its rank, size and extents from both ends", "[core]") {
  const Shape s{2, 64, 48};
  CHECK(s.rank() == 3);
  CHECK(s.size() == 2 * 64 * 48);
  CHECK(s[0] == 2);
  CHECK(s[-1] == 48);
  CHECK(s.text() == "[2, 64, 48]");
  CHECK(s.slice(1, 3) == Shape{64, 48});
  CHECK(Shape{}.size() == 1);
  CHECK(Shape{}.text() == "[]");
  CHECK(Shape{3, 0, 2}.size() == 0);
  CHECK(Shape{1, 2} != Shape{2, 1});
  CHECK(Shape{1, 2} != Shape{1, 2, 1});
  const std::vector<int> extents{4, 5};
  CHECK(Shape(extents.begin(), extents.end()) == Shape{4, 5});
}

TEST_CASE("a missing axis, a negative extent and a seventh axis are refused", "[core][errors]") {
  const Shape s{2, 3};
  CHECK_THROWS_WITH(s[2], Catch::Contains("axis 2 of [2, 3]"));
  CHECK_THROWS_AS(s[-3], ShapeError);
  CHECK_THROWS_AS(Shape{}[-1], ShapeError);
  CHECK_THROWS_WITH((Shape{2, -1}), Catch::Contains("-1") && Catch::Contains("negative"));
  CHECK_THROWS_WITH((Shape{1, 1, 1, 1, 1, 1, 1}), Catch::Contains("more than 6 axes"));
}

TEST_CASE("a shape whose bytes would overflow is refused, whatever the order of its extents", "[core][errors]") {
  const Index half = Index(1) << 29;
  CHECK_NOTHROW(Shape{half, half / 2});
  CHECK_THROWS_WITH((Shape{half, half}), Catch::Contains("too many elements"));
  CHECK_THROWS_AS((Shape{Index(1) << 62}), ShapeError);
  CHECK_THROWS_AS((Shape{Index(1) << 32, Index(1) << 32}), ShapeError);
  CHECK_THROWS_AS((Shape{Index(1) << 32, Index(1) << 32, 0}), ShapeError);
  CHECK_THROWS_AS((Shape{0, Index(1) << 32, Index(1) << 32}), ShapeError);  // a zero must not hide the product
}

TEST_CASE("broadcasting aligns at the last axis", "[core]") {
  CHECK(broadcast("add", {2, 3}, {3}) == Shape{2, 3});
  CHECK(broadcast("add", {2, 1, 4}, {3, 1}) == Shape{2, 3, 4});
  CHECK(broadcast("add", {}, {5}) == Shape{5});
  CHECK(broadcast("add", {}, {}) == Shape{});
  CHECK(broadcast("add", {0, 3}, {1, 3}) == Shape{0, 3});
}

TEST_CASE("shapes that do not broadcast are named with the operation", "[core][errors]") {
  CHECK_THROWS_WITH(broadcast("add", {2, 3}, {2}), "add: shapes [2, 3] and [2] do not broadcast");
  CHECK_THROWS_AS(broadcast("add", {0}, {2}), ShapeError);
}

TEST_CASE("an axis is counted from either end", "[core]") {
  CHECK(normal_axis("sum", -1, {4, 5}) == 1);
  CHECK(normal_axis("sum", 0, {4, 5}) == 0);
  CHECK_THROWS_WITH(normal_axis("sum", 2, {4, 5}), Catch::Contains("sum: axis 2 of [4, 5]"));
  CHECK_THROWS_AS(normal_axis("sum", 0, {}), ShapeError);
}
