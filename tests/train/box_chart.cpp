#include "m3i/train/box_chart.hpp"

#include <cmath>

#include "catch.hpp"

using namespace m3i;

namespace {
std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}
}  // namespace

TEST_CASE("box plot: Tukey's whiskers end at values, what lies beyond is an outlier", "[train][fast]") {
  const BoxStats b = box_stats({1, 2, 3, 4, 5, 6, 7, 8, 100, std::nan("")});
  CHECK(b.q1 == 3);
  CHECK(b.median == 5);
  CHECK(b.q3 == 7);
  CHECK(b.low == 1);
  CHECK(b.high == 8);
  CHECK(b.outliers == std::vector<double>{100});
  const BoxStats one = box_stats({2});
  CHECK((one.low == 2 && one.q1 == 2 && one.median == 2 && one.q3 == 2 && one.high == 2 && one.outliers.empty()));
  CHECK_THROWS_WITH(box_stats({std::nan("")}), Catch::Contains("none of 1 values is finite"));
}

TEST_CASE("box plot: a box from five values on, all points, lines between paired cases", "[train][fast]") {
  BoxChart chart{.title = "Dice <&>", .value = {"Dice"}, .series = {"a", "b"}, .groups = {}, .paired = true};
  chart.groups.push_back({"liver", {{.9, .91, .92, .93, .94}, {.8, .81, .82, .83, std::nan("")}}});
  chart.groups.push_back({"a structure with a name that is far too long for its cell", {{.5}, {}}});
  chart.groups.push_back({"another structure with a name that is far too long", {{.5}, {.2}}});
  const std::string svg = box_chart(chart);
  CHECK(count(svg, "<title>median") == 1);
  CHECK(count(svg, "stroke-opacity=\"0.45\"") == 4 + 1);
  CHECK(count(svg, "<circle") == 5 + 1 + 1 + 1);  // and the legend's
  CHECK(count(svg, "<polygon") == 4 + 1 + 1);
  CHECK(count(svg, "rotate(-35") == 3);
  CHECK(count(svg, "Dice &lt;&amp;&gt;") == 3);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(count(svg, "<") == count(svg, ">"));
  CHECK(box_csv(chart).rfind("group,series,case,Dice\nliver,a,0,0.9\n", 0) == 0);
  CHECK(count(box_csv(chart), "\n") == 1 + 10 + 1 + 2);
  chart.groups[0].values.pop_back();
  CHECK_THROWS_WITH(box_chart(chart), Catch::Contains("\"liver\" has 1 lists"));
  CHECK_THROWS_AS(box_chart({.title = "", .value = {}, .series = {}, .groups = {}, .paired = false, .width = 1}),
                  ShapeError);
  CHECK(box_chart({}).find("no data") != std::string::npos);
}
