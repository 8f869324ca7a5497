#include "m3i/train/plot.hpp"

#include <clocale>
#include <cmath>

#include "catch.hpp"
#include "m3i/train/group_chart.hpp"

using namespace m3i;
using Catch::Contains;
using Catch::Matchers::Equals;

namespace {
std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}
Chart ramp(Index points) {
  Chart chart;
  chart.series = {{"a", {}, {}}};
  for (Index i = 0; i < points; ++i) {
    chart.series[0].x.push_back(double(i));
    chart.series[0].y.push_back(double(i % 7));
  }
  return chart;
}
/// Every tag is closed: enough to catch a broken attribute or a missing end.
bool balanced(const std::string& svg) {
  return count(svg, "<svg") == count(svg, "</svg>") && count(svg, "\"") % 2 == 0 && count(svg, "<") == count(svg, ">");
}
}  // namespace

TEST_CASE("numbers: short, exact and independent of the locale", "[train][fast]") {
  CHECK(fixed_text(2.5, 2) == "2.50");
  CHECK(fixed_text(-0.0001, 2) == "0.00");
  CHECK(fixed_text(std::nan(""), 2) == "n/a");
  CHECK(number_text(0) == "0");
  CHECK(number_text(0.25) == "0.25");
  CHECK(number_text(-3) == "−3");
  CHECK(number_text(1234.5) == "1234.5");
  CHECK(number_text(12000) == "12\u202F000");
  CHECK(number_text(2e-5) == "2×10⁻⁵");
  CHECK(number_text(1e-12) == "10⁻¹²");
  CHECK(number_text(3.25e9) == "3.25×10⁹");
  CHECK(number_text(0.1 + 0.2) == "0.3");
}

TEST_CASE("markup: text is escaped, bad bytes and control characters cannot get through", "[train][fast]") {
  CHECK(escape_markup("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
  CHECK(escape_markup("±µ🧠") == "±µ🧠");
  CHECK(escape_markup("a\xff"
                      "b") ==
        "a\xEF\xBF\xBD"
        "b");
  CHECK(escape_markup(std::string("a\0b\x1f\n", 5)) == "ab\n");
  CHECK(escape_markup("\xed\xa0\x80") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  CHECK(escape_markup("\xe2\x82") == "\xEF\xBF\xBD\xEF\xBF\xBD");                  // a character cut short
}

TEST_CASE("base64: the examples of RFC 4648", "[train][fast]") {
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64("\xff\xfe\x00") == "//4=");
}

TEST_CASE("axis: ticks are round and lie inside the limits", "[train][fast]") {
  const Scale linear({}, {0, 0.93}, 0, false);
  CHECK(linear.labels(linear.ticks(5)) == std::vector<std::string>{"0.0", "0.2", "0.4", "0.6", "0.8"});
  const Scale steps({}, {0, 1000}, 0, false);
  CHECK(steps.labels(steps.ticks(5)) == std::vector<std::string>{"0", "200", "400", "600", "800", "1000"});
  const Scale small({}, {0, 2e-5}, 0, false);
  CHECK(small.labels(small.ticks(2)) == std::vector<std::string>{"0", "10⁻⁵", "2×10⁻⁵"});
  const Scale decades({"", true}, {1e-4, 1}, 0, false);
  CHECK(decades.labels(decades.ticks(5)) == std::vector<std::string>{"0.0001", "0.001", "0.01", "0.1", "1"});
  const Scale narrow({"", true}, {0.31, 0.39}, 0, false);  // less than a decade: linear ticks
  CHECK(narrow.ticks(4).size() >= 3);
}

TEST_CASE("axis: constant, missing and impossible data give a usable axis", "[train][fast]") {
  for (const bool log : {false, true})
    for (const auto& values :
         std::vector<std::vector<double>>{{}, {5}, {0}, {-3, -3}, {std::nan(""), INFINITY}, {1e300, -1e300}}) {
      Scale scale({"", log}, values, 0.04, true);
      scale.place(0, 100);
      CHECK(scale.high() > scale.low());
      CHECK(scale.ticks(5).size() >= 2);
      CHECK(scale.ticks(5).size() <= 25);
    }
}

TEST_CASE("line chart: one path a series, legend only for several, everything escaped", "[train][fast]") {
  Chart chart{.title = "loss <&>", .x = {"step"}, .y = {"loss", true}};
  chart.series = {{"a<b", {1, 2, 3}, {1, 0.5, 0.2}}, {"c", {1, 2, 3}, {2, 1, 0.5}}};
  const std::string svg = line_chart(chart);
  CHECK(balanced(svg));
  CHECK(count(svg, "<path") == 2);
  CHECK_THAT(svg, Contains("loss &lt;&amp;&gt;") && Contains("a&lt;b"));
  CHECK(svg.rfind("<svg", 0) == 0);
  CHECK(count(svg, "http") == 1);  // the name space, nothing to load
  chart.series.pop_back();
  chart.series[0].name = "alone";
  CHECK(count(line_chart(chart), ">alone<") == 0);
}

TEST_CASE("line chart: what cannot be shown breaks the line", "[train][fast]") {
  Chart chart;
  chart.series = {{"a", {0, 1, 2, 3, 4}, {1, 2, std::nan(""), 3, 4}}};
  const std::string svg = line_chart(chart);
  const auto at = svg.find("d=\"");
  CHECK(count(svg.substr(at, svg.find('"', at + 3) - at), "M") == 2);
  CHECK(count(svg, "nan") == 0);
  chart.series = {{"a", {0, 1, 2}, {std::nan(""), 3, std::nan("")}}};
  CHECK_THAT(line_chart(chart), Contains("h0.01"));  // a lone point stays visible
}

TEST_CASE("line chart: a hundred thousand points make a small file", "[train][fast]") {
  CHECK(line_chart(ramp(100000)).size() < 120000);
  Chart smooth = ramp(1000);
  smooth.smooth = 50;
  CHECK(count(line_chart(smooth), "<path") == 2);
}

TEST_CASE("running mean: constant stays, gaps stay gaps", "[train][fast]") {
  const auto y = detail::running_mean({2, 2, std::nan(""), 2, 2}, 3);
  CHECK(y[0] == 2);
  CHECK(y[3] == 2);
  CHECK(std::isnan(y[2]));
  CHECK(detail::running_mean({0, 3, 6}, 3)[1] == 3);
}

TEST_CASE("scatter: a point for each pair, links below them", "[train][fast]") {
  Chart chart;
  chart.series = {{"volumes", {1, 2, std::nan("")}, {1, 2, 3}}, {"texts", {3}, {4}}};
  chart.links = {{1, 1, 3, 4}};
  const std::string svg = scatter_chart(chart);
  CHECK(balanced(svg));
  CHECK(count(svg, "<circle") == 3);  // two points and the legend's
  CHECK(count(svg, "<polygon") == 2);
  CHECK(svg.find("stroke=\"#999\"") < svg.find("fill-opacity=\"0.75\""));
}

TEST_CASE("group chart: points, a box from five values on, mean and deviation as text", "[train][fast]") {
  GroupChart chart{.title = "Dice", .value = {"Dice"}};
  chart.groups = {{"from scratch", {0.70, 0.72, 0.74}}, {"full", {0.8, 0.81, 0.82, 0.83, 0.84}}, {"none", {}}};
  const std::string svg = group_chart(chart);
  CHECK(balanced(svg));
  CHECK(count(svg, "<circle") == 8);
  CHECK(count(svg, "<rect") == 2);  // the ground and one box
  CHECK_THAT(svg, Contains("0.720 ± 0.020") && Contains("n/a"));
}

TEST_CASE("statistics: mean, sample deviation, quantiles, bands", "[train][fast]") {
  CHECK(mean_sd({1, 2, 3}).sd == Approx(1));
  CHECK(mean_sd_text({1, 2, 3, std::nan("")}, 1) == "2.0 ± 1.0");
  CHECK(mean_sd_text({2}, 1) == "2.0");
  CHECK(mean_sd_text({}, 1) == "n/a");
  CHECK(sorted_quantile({1, 2, 3, 4}, 0.5) == 2.5);
  CHECK(sorted_quantile({1, 2, 3, 4}, 1) == 4);
  const Series band = mean_band("a", {1, 2}, {{1, 5}, {3, 5}});
  CHECK(band.y == std::vector<double>{2, 5});
  CHECK(band.low[0] == Approx(2 - std::sqrt(2.0)));
  CHECK_THROWS_AS(mean_band("a", {1, 2}, {{1}}), ShapeError);
}

TEST_CASE("csv: long form, quoted, empty where there is no number", "[train][fast]") {
  Chart chart{.x = {"step"}, .y = {"loss"}};
  chart.series = {{"a,\"b\"", {1, 2}, {0.5, std::nan("")}}};
  CHECK_THAT(chart_csv(chart), Equals("series,step,loss\n\"a,\"\"b\"\"\",1,0.5\n\"a,\"\"b\"\"\",2,\n"));
  GroupChart groups;
  groups.groups = {{"x", {0.1, 0.25}}};
  CHECK_THAT(group_csv(groups), Equals("group,value\nx,0.1\nx,0.25\n"));
}

TEST_CASE("charts: mismatched series and absurd sizes are refused", "[train][fast][errors]") {
  Chart chart;
  chart.series = {{"a", {1, 2}, {1}}};
  CHECK_THROWS_WITH(line_chart(chart), Contains("series \"a\" has 2 x and 1 y"));
  chart.series = {{"a", {1}, {1}, {1}, {}}};
  CHECK_THROWS_AS(scatter_chart(chart), ShapeError);
  chart.series.clear();
  CHECK_THAT(line_chart(chart), Contains("no data"));
  chart.width = 1000000000;
  CHECK_THROWS_AS(line_chart(chart), ShapeError);
}
