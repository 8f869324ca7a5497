#pragma once
/// Groups of runs as rows of points with their mean ± sd, and charts as CSV.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "m3i/train/axis.hpp"
#include "m3i/train/markup.hpp"
#include "m3i/train/plot.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// One row: a box of the quartiles from 5 values on, every value as a point, the mean as a bar with its deviation.
inline void draw_group(Svg& svg, const Group& group, std::size_t index, double y, const Scale& sx) {
  const std::string color = std::string("\"") + plot_color(index) + "\"";
  std::vector<double> sorted;
  for (const double v : group.values)
    if (!std::isnan(sx(v))) sorted.push_back(v);
  std::sort(sorted.begin(), sorted.end());
  if (sorted.empty()) return;
  if (sorted.size() >= 5) {
    const double q1 = sx(sorted_quantile(sorted, 0.25)), q2 = sx(sorted_quantile(sorted, 0.5)),
                 q3 = sx(sorted_quantile(sorted, 0.75));
    svg.line(sx(sorted.front()), y, sx(sorted.back()), y, "stroke=" + color + " stroke-opacity=\"0.5\"");
    svg.out += "<rect x=\"" + px(q1) + "\" y=\"" + px(y - 10) + "\" width=\"" + px(std::max(q3 - q1, 0.5)) +
               "\" height=\"20\" rx=\"2\" fill=\"#fff\" stroke=" + color + " stroke-opacity=\"0.6\"/>\n";
    svg.line(q2, y - 10, q2, y + 10, "stroke=" + color + " stroke-width=\"1.5\" stroke-opacity=\"0.6\"");
  }
  for (std::size_t k = 0; k < sorted.size();
       ++k) {  // neighbours take turns above and below the line, so that ties show
    const double offset = sorted.size() == 1 ? 0 : (static_cast<double>(k % 3) - 1) * 4.5;
    svg.mark(sx(sorted[k]), y + offset, 0, 3.4, "fill-opacity=\"0.55\" fill=" + color, number_text(sorted[k]));
  }
  const MeanSd m = mean_sd(sorted);
  if (m.count > 1 && !std::isnan(sx(m.mean - m.sd)))
    svg.line(sx(m.mean - m.sd), y, sx(m.mean + m.sd), y, "stroke=" + color + " stroke-width=\"2\"");
  svg.line(sx(m.mean), y - 13, sx(m.mean), y + 13, "stroke=" + color + " stroke-width=\"3\" stroke-linecap=\"round\"");
}

/// A field of CSV, quoted where RFC 4180 asks for it.
inline std::string csv_field(std::string_view value) {
  if (value.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(value);
  std::string out = "\"";
  for (const char c : value) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

inline std::string csv_number(double value) { return std::isfinite(value) ? text(value) : ""; }

}  // namespace detail

/// One row a group: its values as points, quartiles as a box from 5 values on, mean ± sd as a bar and as text.
inline std::string group_chart(const GroupChart& chart) {
  using namespace detail;
  require(chart.width >= 300 && chart.width <= 10000, "group_chart: a width of ", chart.width,
          " pixels, expected 300 to 10000");
  std::vector<double> values;
  double names = 0, results = 0;
  for (const auto& group : chart.groups) {
    values.insert(values.end(), group.values.begin(), group.values.end());
    names = std::max(names, text_width(group.name, 13));
    results = std::max(results, text_width(mean_sd_text(group.values, chart.decimals), 13));
  }
  const double top = chart.title.empty() ? 14 : 44, row = 40;
  const double bottom = top + row * static_cast<double>(chart.groups.size());
  const double left = std::min(16 + names + 14, chart.width * 0.45), right = chart.width - 16 - results - 14;
  Scale sx(chart.value, values, 0.06, false);
  sx.place(left, right);
  Svg svg(chart.width, static_cast<int>(bottom) + (chart.value.label.empty() ? 32 : 52), chart.title);
  if (!chart.title.empty()) svg.label(16, 28, chart.title, "font-size=\"16\" font-weight=\"600\" fill=\"#111\"");
  const auto ticks = sx.ticks(std::max(2, static_cast<int>((right - left) / 80)));
  const auto labels = sx.labels(ticks);
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    svg.line(sx(ticks[i]), top, sx(ticks[i]), bottom, "stroke=\"#e4e4e4\"");
    svg.label(sx(ticks[i]), bottom + 20, labels[i], "text-anchor=\"middle\" fill=\"#555\"");
  }
  svg.line(left, bottom, right, bottom, "stroke=\"#888\"");
  if (!chart.value.label.empty())
    svg.label((left + right) / 2, bottom + 42, chart.value.label, "text-anchor=\"middle\" fill=\"#666\"");
  for (std::size_t i = 0; i < chart.groups.size(); ++i) {
    const double y = top + row * (static_cast<double>(i) + 0.5);
    svg.label(left - 14, y + 4.5, chart.groups[i].name, "text-anchor=\"end\" font-size=\"13\" fill=\"#111\"");
    draw_group(svg, chart.groups[i], i, y, sx);
    svg.label(chart.width - 16, y + 4.5, mean_sd_text(chart.groups[i].values, chart.decimals),
              "text-anchor=\"end\" font-size=\"13\"");
  }
  return svg.finish();
}

/// The points of a chart, one a line: series,x,y and, where there is a band, low,high. A value that is not finite is
/// empty.
inline std::string chart_csv(const Chart& chart) {
  using namespace detail;
  check_chart(chart, "chart_csv");
  bool band = false;
  for (const auto& s : chart.series) band = band || !s.low.empty();
  const auto name = [](const std::string& label, const char* otherwise) {
    return csv_field(label.empty() ? otherwise : label);
  };
  std::string out =
      "series," + name(chart.x.label, "x") + "," + name(chart.y.label, "y") + (band ? ",low,high\n" : "\n");
  for (const auto& s : chart.series)
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      out += csv_field(s.name) + "," + csv_number(s.x[i]) + "," + csv_number(s.y[i]);
      if (band) out += s.low.empty() ? ",," : "," + csv_number(s.low[i]) + "," + csv_number(s.high[i]);
      out += "\n";
    }
  return out;
}

/// The values of groups, one a line: group,value.
inline std::string group_csv(const GroupChart& chart) {
  std::string out = "group," + detail::csv_field(chart.value.label.empty() ? "value" : chart.value.label) + "\n";
  for (const auto& group : chart.groups)
    for (const double v : group.values) out += detail::csv_field(group.name) + "," + detail::csv_number(v) + "\n";
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
