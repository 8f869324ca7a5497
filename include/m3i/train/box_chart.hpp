#pragma once
/// Box plots as SVG: for each group (a structure, say) one box a series (a method), with all points.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "m3i/train/axis.hpp"
#include "m3i/train/group_chart.hpp"
#include "m3i/train/markup.hpp"
#include "m3i/train/plot.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// One group: `values[s]` are the results of series s. What is not finite is left out.
struct BoxGroup {
  std::string name{};
  std::vector<std::vector<double>> values{};
};

struct BoxChart {
  std::string title{};
  Axis value{};
  std::vector<std::string> series{};  ///< names for the legend; one entry or none draws no legend
  std::vector<BoxGroup> groups{};
  bool paired = false;  ///< value i of each series is the same case: thin lines join them
  int width = 720, height = 380;
};

/// Tukey's five numbers (1977): quartiles, linear between order statistics, and the furthest values within 1.5
/// interquartile ranges of the box. Values beyond are outliers.
struct BoxStats {
  double low = 0, q1 = 0, median = 0, q3 = 0, high = 0;
  std::vector<double> outliers{};
};

/// Throws ShapeError if no value is finite.
inline BoxStats box_stats(const std::vector<double>& values) {
  std::vector<double> sorted;
  for (const double v : values)
    if (std::isfinite(v)) sorted.push_back(v);
  require(!sorted.empty(), "box_stats: none of ", values.size(), " values is finite");
  std::sort(sorted.begin(), sorted.end());
  BoxStats b;
  b.q1 = sorted_quantile(sorted, 0.25), b.median = sorted_quantile(sorted, 0.5), b.q3 = sorted_quantile(sorted, 0.75);
  const double reach = 1.5 * (b.q3 - b.q1);
  b.low = b.q1, b.high = b.q3;
  for (const double v : sorted) {
    if (v < b.q1 - reach || v > b.q3 + reach) b.outliers.push_back(v);
    else b.low = std::min(b.low, v), b.high = std::max(b.high, v);
  }
  return b;
}

namespace detail {

/// A box at pixel x, `half` wide to each side. Below five values the points speak alone, with a bar at the median.
inline void draw_box(
    Svg& svg, const std::vector<double>& values, double x, double half, const Scale& sy, std::size_t series) {
  std::vector<double> shown;
  for (const double v : values)
    if (!std::isnan(sy(v))) shown.push_back(v);
  if (shown.empty()) return;
  const std::string color = std::string("\"") + plot_color(series) + "\"";
  const BoxStats b = box_stats(shown);
  const std::string thin = "stroke=" + color + " stroke-width=\"1.2\"";
  if (shown.size() >= 5) {
    svg.line(x, sy(b.low), x, sy(b.q1), thin);
    svg.line(x, sy(b.q3), x, sy(b.high), thin);
    svg.line(x - half / 2, sy(b.low), x + half / 2, sy(b.low), thin);
    svg.line(x - half / 2, sy(b.high), x + half / 2, sy(b.high), thin);
    svg.out += "<rect x=\"" + px(x - half) + "\" y=\"" + px(sy(b.q3)) + "\" width=\"" + px(2 * half) + "\" height=\"" +
               px(std::max(sy(b.q1) - sy(b.q3), 0.5)) + "\" fill=" + color + " fill-opacity=\"0.15\" " + thin +
               "><title>" +
               escape_markup("median " + number_text(b.median, 4) + ", quartiles " + number_text(b.q1, 4) + " and " +
                             number_text(b.q3, 4) + ", n = " + std::to_string(shown.size())) +
               "</title></rect>\n";
  }
  svg.line(x - half, sy(b.median), x + half, sy(b.median), "stroke=" + color + " stroke-width=\"2.4\"");
}

/// Where point i of a box lies, so that ties show: a fixed sequence that fills the width evenly.
inline double point_offset(std::size_t i, std::size_t n, double half) {
  return n < 2 ? 0 : half * 0.75 * (2 * std::fmod(double(i) * 0.6180339887498949 + 0.5, 1.0) - 1);
}

/// Names of groups below the axis; slanted where they would run into each other. Returns the height they need.
inline double name_height(const BoxChart& chart, double cell) {
  double widest = 0;
  for (const auto& g : chart.groups) widest = std::max(widest, text_width(g.name, 12));
  return widest + 8 <= cell ? 28 : std::min(20 + 0.6 * widest, 160.0);
}

}  // namespace detail

/// Boxes side by side. Throws ShapeError if a group has not one list of values for each series.
inline std::string box_chart(const BoxChart& chart) {
  using namespace detail;
  require(chart.width >= 200 && chart.height >= 160 && chart.width <= 10000 && chart.height <= 10000,
          "box_chart: a size of ", chart.width, " x ", chart.height, " pixels, expected 200 x 160 to 10000 x 10000");
  const std::size_t series = std::max<std::size_t>(chart.series.size(), 1);
  std::vector<double> all;
  for (const auto& g : chart.groups) {
    require(g.values.size() == series, "box_chart: group \"", g.name, "\" has ", g.values.size(), " lists of values, ",
            "expected ", series, ", one a series");
    for (const auto& v : g.values) all.insert(all.end(), v.begin(), v.end());
  }
  Scale sy(chart.value, all, 0.05, true);
  Svg svg(chart.width, chart.height, chart.title);
  double y = 16;
  if (!chart.title.empty()) svg.label(16, y += 12, chart.title, "font-size=\"16\" font-weight=\"600\" fill=\"#111\"");
  if (series > 1) {
    double x = 16;
    y += 24;
    for (std::size_t s = 0; s < series; ++s) {
      const double wide = 24 + text_width(chart.series[s], 12) + 20;
      if (x > 16 && x + wide > chart.width - 16) x = 16, y += 20;
      svg.mark(x + 7, y - 4, s, 4.5, std::string("fill=\"") + plot_color(s) + "\"", "");
      svg.label(x + 18, y, chart.series[s]);
      x += wide;
    }
  }
  if (!chart.value.label.empty()) svg.label(16, y += 24, chart.value.label, "fill=\"#666\"");
  const double top = y + 14, right = chart.width - 24;
  double left = 60;
  const double cell_guess = (right - left) / double(std::max<std::size_t>(chart.groups.size(), 1));
  const double bottom = std::max(top + 40, chart.height - 8 - name_height(chart, cell_guess));
  sy.place(bottom, top);
  const auto ticks = sy.ticks(std::max(2, int((bottom - top) / 50)));
  const auto labels = sy.labels(ticks);
  double widest = 0;
  for (const auto& label : labels) widest = std::max(widest, text_width(label, 12));
  left = 16 + widest + 10;
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    svg.line(left, sy(ticks[i]), right, sy(ticks[i]), "stroke=\"#e4e4e4\"");
    svg.label(left - 8, sy(ticks[i]) + 4, labels[i], "text-anchor=\"end\" fill=\"#555\"");
  }
  svg.line(left, bottom, right, bottom, "stroke=\"#888\"");
  if (chart.groups.empty()) {
    svg.label((left + right) / 2, (top + bottom) / 2, "no data", "text-anchor=\"middle\" fill=\"#888\"");
    return svg.finish();
  }
  const double cell = (right - left) / double(chart.groups.size());
  const double step = std::min(cell * 0.8 / double(series), 60.0), half = std::min(step * 0.36, 22.0);
  const bool slanted = name_height(chart, cell_guess) > 28;
  for (std::size_t g = 0; g < chart.groups.size(); ++g) {
    const BoxGroup& group = chart.groups[g];
    const double middle = left + cell * (double(g) + 0.5);
    const auto centre = [&](std::size_t s) { return middle + step * (double(s) - double(series - 1) / 2); };
    const auto place = [&](std::size_t s, std::size_t i) {
      return std::pair(centre(s) + point_offset(i, group.values[s].size(), half), sy(group.values[s][i]));
    };
    for (std::size_t s = 0; chart.paired && s + 1 < series; ++s)
      for (std::size_t i = 0; i < std::min(group.values[s].size(), group.values[s + 1].size()); ++i) {
        const auto a = place(s, i), b = place(s + 1, i);
        if (!std::isnan(a.second) && !std::isnan(b.second))
          svg.line(a.first, a.second, b.first, b.second,
                   "stroke=\"#999\" stroke-opacity=\"0.45\" stroke-width=\"0.8\"");
      }
    for (std::size_t s = 0; s < series; ++s) {
      draw_box(svg, group.values[s], centre(s), half, sy, s);
      const std::string style = std::string("fill-opacity=\"0.6\" fill=\"") + plot_color(s) + "\"";
      for (std::size_t i = 0; i < group.values[s].size(); ++i)
        if (const auto [x, at] = place(s, i); !std::isnan(at))
          svg.mark(x, at, s, 2.6, style, number_text(group.values[s][i], 4));
    }
    const std::string turn =
        slanted ? "text-anchor=\"end\" transform=\"rotate(-35 " + px(middle + 4) + " " + px(bottom + 16) + ")\""
                : std::string("text-anchor=\"middle\"");
    svg.label(slanted ? middle + 4 : middle, bottom + (slanted ? 16 : 20), group.name, turn.c_str());
  }
  return svg.finish();
}

/// The values of a box plot, one a line: group,series,case,value. `case` counts from 0 within each box.
inline std::string box_csv(const BoxChart& chart) {
  std::string out =
      "group,series,case," + detail::csv_field(chart.value.label.empty() ? "value" : chart.value.label) + "\n";
  for (const auto& g : chart.groups)
    for (std::size_t s = 0; s < g.values.size(); ++s)
      for (std::size_t i = 0; i < g.values[s].size(); ++i)
        out += detail::csv_field(g.name) + "," + detail::csv_field(s < chart.series.size() ? chart.series[s] : "") +
               "," + text(i) + "," + detail::csv_number(g.values[s][i]) + "\n";
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
