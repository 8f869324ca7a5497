#pragma once
/// Charts as SVG text: lines, points, and groups of runs. They need nothing else to be shown (no script, no font file,
/// no outside resource), stand in an HTML page as they are, and use colours that colour-blind readers tell apart.
///
///     Chart chart{.title = "Pretraining", .x = {"step"}, .y = {"loss", true}, .smooth = 25};
///     chart.series = {{"mPOT", ot.x, ot.y}, {"reconstruction", rec.x, rec.y}};
///     write_file("loss.svg", line_chart(chart));

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"
#include "m3i/train/axis.hpp"
#include "m3i/train/markup.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Points of one name. `low` and `high`, if given, are a band around y (mean ± sd of several runs).
struct Series {
  std::string name{};
  std::vector<double> x{}, y{};
  std::vector<double> low{}, high{};
  std::vector<std::string> tips{};  ///< scatter_chart: shown when the pointer rests on a point; none or one a point
};

/// A chart with two axes.
struct Chart {
  std::string title{};
  Axis x{}, y{};
  std::vector<Series> series{};
  Index smooth = 0;  ///< line_chart: points of a running mean that is drawn over the pale raw line; 0 for none
  std::vector<std::array<double, 4>> links{};  ///< scatter_chart: thin lines (x0, y0, x1, y1) below the points
  int width = 720, height = 380;               ///< pixels
};

/// Results of several runs of one method.
struct Group {
  std::string name{};
  std::vector<double> values{};
};

/// A chart with one row a method.
struct GroupChart {
  std::string title{};
  Axis value{};
  std::vector<Group> groups{};
  int decimals = 3;  ///< of the printed mean ± sd
  int width = 720;
};

/// Colour `i` of the palette (Okabe and Ito 2008, without its yellow, which is too pale on white).
inline const char* plot_color(std::size_t i) {
  static constexpr const char* colors[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"};
  return colors[i % std::size(colors)];
}

/// Mean and standard deviation (of the sample, n - 1; 0 for a single value) of the finite values.
struct MeanSd {
  double mean = 0, sd = 0;
  Index count = 0;
};
inline MeanSd mean_sd(const std::vector<double>& values) {
  MeanSd out;
  for (const double v : values)
    if (std::isfinite(v)) out.mean += v, ++out.count;
  if (out.count == 0) return {std::nan(""), std::nan(""), 0};
  out.mean /= double(out.count);
  double square = 0;
  for (const double v : values)
    if (std::isfinite(v)) square += (v - out.mean) * (v - out.mean);
  out.sd = out.count > 1 ? std::sqrt(square / double(out.count - 1)) : 0;
  return out;
}

/// "0.832 ± 0.014"; without the deviation for a single value; "n/a" for none.
inline std::string mean_sd_text(const std::vector<double>& values, int decimals) {
  const MeanSd m = mean_sd(values);
  if (m.count == 0) return "n/a";
  return fixed_text(m.mean, decimals) + (m.count > 1 ? " ± " + fixed_text(m.sd, decimals) : "");
}

/// The quantile q in [0, 1] of sorted values, linear between neighbours.
inline double sorted_quantile(const std::vector<double>& sorted, double q) {
  require(!sorted.empty(), "quantile: no values");
  const double at = q * double(sorted.size() - 1);
  const auto i = static_cast<std::size_t>(at);
  const double next = sorted[std::min(i + 1, sorted.size() - 1)];
  return sorted[i] + (at - double(i)) * (next - sorted[i]);
}

/// Several runs over the same x as one series: mean with a band of one standard deviation.
inline Series mean_band(std::string name, const std::vector<double>& x, const std::vector<std::vector<double>>& runs) {
  Series out{std::move(name), x, {}, {}, {}};
  for (const auto& run : runs)
    require(run.size() == x.size(), "mean_band: a run has ", run.size(), " values, x has ", x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    std::vector<double> at;
    for (const auto& run : runs) at.push_back(run[i]);
    const MeanSd m = mean_sd(at);
    out.y.push_back(m.mean);
    out.low.push_back(m.mean - m.sd);
    out.high.push_back(m.mean + m.sd);
  }
  return out;
}

namespace detail {

inline std::string px(double value) { return fixed_text(value, 1); }

/// Rough width in pixels of text in a sans-serif font.
inline double text_width(std::string_view s, double size) {
  double ems = 0;
  for (const char c : s) {
    const auto u = static_cast<unsigned char>(c);
    if ((u & 0xC0u) == 0x80u) continue;  // inside a character
    if (std::string_view("iljtfr.,:;'|!()[] -").find(c) != std::string_view::npos) ems += 0.33;
    else if ((c >= 'A' && c <= 'Z') || c == 'm' || c == 'w' || c == '%') ems += 0.8;
    else ems += 0.6;
  }
  return ems * size;
}

/// SVG text under construction.
struct Svg {
  std::string out;

  Svg(int width, int height, const std::string& title) {
    const std::string name = escape_markup(title);
    out =
        text("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width, "\" height=\"", height, "\" viewBox=\"0 0 ",
             width, " ", height, "\" role=\"img\" aria-label=\"", name,
             "\" font-family=\"system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif\" font-size=\"12\" "
             "fill=\"#333\">\n<title>",
             name, "</title>\n<rect width=\"", width, "\" height=\"", height, "\" fill=\"#fff\"/>\n");
  }
  void label(double x, double y, std::string_view words, const char* style = "") {
    out += "<text x=\"" + px(x) + "\" y=\"" + px(y) + "\" " + style + ">" + escape_markup(words) + "</text>\n";
  }
  void line(double x0, double y0, double x1, double y1, const std::string& style) {
    out += "<line x1=\"" + px(x0) + "\" y1=\"" + px(y0) + "\" x2=\"" + px(x1) + "\" y2=\"" + px(y1) + "\" " + style +
           "/>\n";
  }
  void path(const std::string& d, const std::string& style) {
    if (!d.empty()) out += "<path d=\"" + d + "\" " + style + "/>\n";
  }
  /// A mark of one of four shapes (so that colour is not the only difference), with a tip if there is a text.
  void mark(double x, double y, std::size_t shape, double r, const std::string& style, const std::string& tip) {
    static constexpr std::array<std::array<double, 8>, 3> corners{
        {{-.9, -.9, .9, -.9, .9, .9, -.9, .9},         // square
         {0, -1.2, 1.2, 0, 0, 1.2, -1.2, 0},           // diamond
         {0, -1.2, 0, -1.2, 1.15, .85, -1.15, .85}}};  // triangle
    std::string tag = "circle";
    std::string body = " cx=\"" + px(x) + "\" cy=\"" + px(y) + "\" r=\"" + px(r) + "\" ";
    if (shape % 4 != 0) {
      tag = "polygon";
      body = " points=\"";
      for (std::size_t i = 0; i < 8; i += 2)
        body += px(x + r * corners[shape % 4 - 1][i]) + "," + px(y + r * corners[shape % 4 - 1][i + 1]) + " ";
      body.back() = '"';
      body += " ";
    }
    out += "<" + tag + body + style +
           (tip.empty() ? "/>\n" : "><title>" + escape_markup(tip) + "</title></" + tag + ">\n");
  }
  std::string finish() { return std::move(out) + "</svg>\n"; }
};

/// The frame of a chart with two axes: title, legend, grid, labels. `scale_x` and `scale_y` are placed on return.
struct Frame {
  double left = 0, right = 0, top = 0, bottom = 0;

  Frame(Svg& svg, const Chart& chart, Scale& scale_x, Scale& scale_y, bool marks) {
    double y = 16;
    if (!chart.title.empty()) svg.label(16, y += 12, chart.title, "font-size=\"16\" font-weight=\"600\" fill=\"#111\"");
    if (chart.series.size() > 1) y = legend(svg, chart, y + 24, marks);
    if (!chart.y.label.empty()) svg.label(16, y += 24, chart.y.label, "fill=\"#666\"");
    top = y + 14;
    bottom = chart.height - (chart.x.label.empty() ? 32 : 52);
    scale_y.place(bottom, top);
    const auto y_ticks = scale_y.ticks(std::max(2, static_cast<int>((bottom - top) / 50)));
    const auto y_labels = scale_y.labels(y_ticks);
    double widest = 0;
    for (const auto& label : y_labels) widest = std::max(widest, text_width(label, 12));
    left = 16 + widest + 10;
    right = chart.width - 24;
    scale_x.place(left, right);
    for (std::size_t i = 0; i < y_ticks.size(); ++i) {
      const double at = scale_y(y_ticks[i]);
      svg.line(left, at, right, at, "stroke=\"#e4e4e4\"");
      svg.label(left - 8, at + 4, y_labels[i], "text-anchor=\"end\" fill=\"#555\"");
    }
    const auto x_ticks = scale_x.ticks(std::max(2, static_cast<int>((right - left) / 90)));
    const auto x_labels = scale_x.labels(x_ticks);
    for (std::size_t i = 0; i < x_ticks.size(); ++i) {
      const double at = scale_x(x_ticks[i]);
      svg.line(at, bottom, at, bottom + 5, "stroke=\"#888\"");
      svg.label(at, bottom + 20, x_labels[i], "text-anchor=\"middle\" fill=\"#555\"");
    }
    svg.line(left, bottom, right, bottom, "stroke=\"#888\"");
    if (!chart.x.label.empty())
      svg.label((left + right) / 2, bottom + 42, chart.x.label, "text-anchor=\"middle\" fill=\"#666\"");
    if (std::all_of(chart.series.begin(), chart.series.end(), [](const Series& s) { return s.x.empty(); }))
      svg.label((left + right) / 2, (top + bottom) / 2, "no data", "text-anchor=\"middle\" fill=\"#888\"");
  }

  /// An inner picture that cuts what leaves the plotting area (but for half a mark); coordinates stay those of the
  /// whole.
  void open(Svg& svg) const {
    const std::string x = px(left - 4), y = px(top - 4), w = px(right - left + 8), h = px(bottom - top + 8);
    svg.out += "<svg x=\"" + x + "\" y=\"" + y + "\" width=\"" + w + "\" height=\"" + h + "\" viewBox=\"" + x + " " +
               y + " " + w + " " + h + "\">\n";
  }
  static void close(Svg& svg) { svg.out += "</svg>\n"; }

 private:
  /// Rows of swatch and name; returns the last baseline.
  static double legend(Svg& svg, const Chart& chart, double y, bool marks) {
    double x = 16;
    for (std::size_t i = 0; i < chart.series.size(); ++i) {
      const double wide = 26 + text_width(chart.series[i].name, 12) + 20;
      if (x > 16 && x + wide > chart.width - 16) x = 16, y += 20;
      const std::string color = std::string("\"") + plot_color(i) + "\"";
      if (marks) svg.mark(x + 8, y - 4, i, 4.5, "fill=" + color, "");
      else svg.line(x, y - 4, x + 18, y - 4, "stroke=" + color + " stroke-width=\"3\" stroke-linecap=\"round\"");
      svg.label(x + (marks ? 18 : 24), y, chart.series[i].name);
      x += wide;
    }
    return y;
  }
};

inline void check_chart(const Chart& chart, const char* what) {
  require(chart.width >= 200 && chart.height >= 160 && chart.width <= 10000 && chart.height <= 10000, what,
          ": a size of ", chart.width, " x ", chart.height, " pixels, expected 200 x 160 to 10000 x 10000");
  for (const auto& s : chart.series) {
    require(s.x.size() == s.y.size(), what, ": series \"", s.name, "\" has ", s.x.size(), " x and ", s.y.size(), " y");
    require(s.low.size() == s.high.size() && (s.low.empty() || s.low.size() == s.y.size()), what, ": series \"", s.name,
            "\" has a band of ", s.low.size(), " and ", s.high.size(), " values, expected ", s.y.size());
    require(s.tips.empty() || s.tips.size() == s.y.size(), what, ": series \"", s.name, "\" has ", s.tips.size(),
            " tips for ", s.y.size(), " points");
  }
}

/// The points as an SVG path. A value that cannot be shown breaks the line; a point with breaks on both sides becomes a
/// dot. Where there are many points in one pixel column only the first, lowest, highest and last of them are kept.
inline std::string line_path(const std::vector<double>& x,
                             const std::vector<double>& y,
                             const Scale& sx,
                             const Scale& sy) {
  std::string d;
  bool pen_down = false;
  const auto to = [&](double px_x, double px_y) {
    d += (pen_down ? "L" : "M") + px(px_x) + " " + px(px_y);
    pen_down = true;
  };
  for (std::size_t i = 0; i < x.size();) {
    const double column = std::floor(sx(x[i]));
    std::size_t end = i;
    double low = sy(y[i]), high = low;
    for (; end < x.size(); ++end) {  // NaN ends a column, as it differs from everything
      const double v = sy(y[end]);
      if (std::floor(sx(x[end])) != column || std::isnan(v)) break;
      low = std::min(low, v), high = std::max(high, v);
    }
    if (end == i) {
      pen_down = false;
      ++i;
      continue;
    }
    const bool alone =
        !pen_down && end - i == 1 && (end == x.size() || std::isnan(sx(x[end])) || std::isnan(sy(y[end])));
    to(sx(x[i]), sy(y[i]));
    if (alone) d += "h0.01";
    if (end - i > 4) {
      to(column + 0.5, low);
      to(column + 0.5, high);
      to(sx(x[end - 1]), sy(y[end - 1]));
    } else {
      for (std::size_t k = i + 1; k < end; ++k) to(sx(x[k]), sy(y[k]));
    }
    i = end;
  }
  return d;
}

/// The area between two lines, where both can be shown.
inline std::string band_path(const Series& s, const Scale& sx, const Scale& sy) {
  std::string up, down;
  for (std::size_t i = 0; i < s.low.size(); ++i) {
    const double x = sx(s.x[i]), a = sy(s.high[i]);
    double b = sy(s.low[i]);
    if (std::isnan(b) && sy.log()) b = sy(sy.low());  // mean - sd below zero on a logarithmic axis: down to the floor
    if (std::isnan(x) || std::isnan(a) || std::isnan(b)) continue;
    up += (up.empty() ? "M" : "L") + px(x) + " " + px(a);
    down = "L" + px(x) + " " + px(b) + down;
  }
  return up.empty() ? up : up + down + "Z";
}

/// Mean of the finite values among the `width` neighbours of each point; NaN stays NaN.
inline std::vector<double> running_mean(const std::vector<double>& y, Index width) {
  std::vector<double> sum(y.size() + 1), count(y.size() + 1), out(y.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const bool ok = std::isfinite(y[i]);
    sum[i + 1] = sum[i] + (ok ? y[i] : 0);
    count[i + 1] = count[i] + (ok ? 1 : 0);
  }
  const auto half = static_cast<std::size_t>(std::max<Index>(width, 1) / 2);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t begin = i < half ? 0 : i - half, end = std::min(i + half + 1, y.size());
    out[i] = std::isfinite(y[i]) ? (sum[end] - sum[begin]) / (count[end] - count[begin]) : y[i];
  }
  return out;
}

}  // namespace detail

/// Lines, with bands, pale raw lines under smoothed ones, and dots where there are few points.
/// Throws ShapeError if x and y of a series differ in length.
inline std::string line_chart(const Chart& chart) {
  using namespace detail;
  check_chart(chart, "line_chart");
  std::vector<double> xs, ys;
  for (const auto& s : chart.series) {
    xs.insert(xs.end(), s.x.begin(), s.x.end());
    for (const auto* values : {&s.y, &s.low, &s.high}) ys.insert(ys.end(), values->begin(), values->end());
  }
  Scale sx(chart.x, xs, 0, false), sy(chart.y, ys, 0.04, true);
  Svg svg(chart.width, chart.height, chart.title);
  const Frame frame(svg, chart, sx, sy, false);
  frame.open(svg);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    const std::string color = std::string("\"") + plot_color(i) + "\"";
    const std::string stroke = "fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\" stroke=" + color;
    svg.path(band_path(s, sx, sy), "stroke=\"none\" fill-opacity=\"0.16\" fill=" + color);
    const bool smooth = chart.smooth > 1 && s.y.size() > 2;
    svg.path(line_path(s.x, s.y, sx, sy),
             stroke + (smooth ? " stroke-width=\"1\" stroke-opacity=\"0.3\"" : " stroke-width=\"2\""));
    if (smooth) svg.path(line_path(s.x, running_mean(s.y, chart.smooth), sx, sy), stroke + " stroke-width=\"2.2\"");
    if (!smooth && s.x.size() <= 30)
      for (std::size_t k = 0; k < s.x.size(); ++k)
        if (!std::isnan(sx(s.x[k])) && !std::isnan(sy(s.y[k])))
          svg.mark(sx(s.x[k]), sy(s.y[k]), 0, 3, "fill=" + color,
                   s.name + (s.name.empty() ? "" : ": ") + number_text(s.x[k]) + ", " + number_text(s.y[k]));
  }
  Frame::close(svg);
  return svg.finish();
}

/// Points; each series has its own colour and shape. Links lie below them.
inline std::string scatter_chart(const Chart& chart) {
  using namespace detail;
  check_chart(chart, "scatter_chart");
  std::vector<double> xs, ys;
  for (const auto& s : chart.series) {
    xs.insert(xs.end(), s.x.begin(), s.x.end());
    ys.insert(ys.end(), s.y.begin(), s.y.end());
  }
  Scale sx(chart.x, xs, 0.04, false), sy(chart.y, ys, 0.04, false);
  Svg svg(chart.width, chart.height, chart.title);
  const Frame frame(svg, chart, sx, sy, true);
  frame.open(svg);
  for (const auto& link : chart.links) {
    const std::array<double, 4> at{sx(link[0]), sy(link[1]), sx(link[2]), sy(link[3])};
    if (std::none_of(at.begin(), at.end(), [](double v) { return std::isnan(v); }))
      svg.line(at[0], at[1], at[2], at[3], "stroke=\"#999\" stroke-opacity=\"0.5\" stroke-width=\"0.8\"");
  }
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    const std::string style = std::string("fill-opacity=\"0.75\" fill=\"") + plot_color(i) + "\"";
    for (std::size_t k = 0; k < s.x.size(); ++k)
      if (!std::isnan(sx(s.x[k])) && !std::isnan(sy(s.y[k])))
        svg.mark(sx(s.x[k]), sy(s.y[k]), i, 3.6, style, s.tips.empty() ? std::string() : s.tips[k]);
  }
  Frame::close(svg);
  return svg.finish();
}

}  // namespace M3I_ABI
}  // namespace m3i
