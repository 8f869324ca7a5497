#pragma once
/// The axis of a chart: limits, round ticks, labels, and the way from a value to a pixel.

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"
#include "m3i/train/markup.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What a user says about an axis.
struct Axis {
  std::string label{};
  bool log = false;                     ///< values that are not positive are left out
  std::optional<double> low{}, high{};  ///< limits; empty: from the data
};

/// The number among 1, 2, 5, 10, 20, ... times a power of ten whose ratio to `step` (> 0) is nearest to 1.
inline double round_step(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  const double lead = step / power;  // in [1, 10): compare with the geometric means of neighbours
  return power * (lead < std::sqrt(2.0) ? 1 : lead < std::sqrt(10.0) ? 2 : lead < std::sqrt(50.0) ? 5 : 10);
}

/// An axis with limits: [low, high] lies on [from, to] pixels.
class Scale {
 public:
  /// `pad` widens limits that came from the data by this fraction on each side; `zero` starts a positive axis at 0 when
  /// the data come near it.
  Scale(const Axis& axis, const std::vector<double>& values, double pad, bool zero) : log_(axis.log) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    double low = inf, high = -inf, least_positive = inf;
    for (const double v : values) {
      if (!std::isfinite(v)) continue;
      if (v > 0) least_positive = std::min(least_positive, v);
      low = std::min(low, v);
      high = std::max(high, v);
    }
    if (log_ && least_positive == inf) log_ = false;  // nothing to show on a logarithmic axis
    if (low > high) low = 0, high = 1;                // no finite value at all
    if (log_) low = least_positive;
    const double data_low = low;
    low = to_axis(low), high = to_axis(high);
    const double room = high > low ? pad * (high - low) : (log_ ? 0.5 : std::max(std::abs(high) * 0.1, 1e-12));
    low -= room, high += room;
    if (!log_ && zero && data_low >= 0 && data_low < 0.3 * high) low = 0;
    if (axis.low && (!log_ || *axis.low > 0)) low = to_axis(*axis.low);
    if (axis.high && (!log_ || *axis.high > 0)) high = to_axis(*axis.high);
    if (!(high > low)) high = low + 1;
    low_ = low, high_ = high;
  }

  void place(double from, double to) { from_ = from, to_ = to; }

  /// The pixel of a value; NaN if the axis cannot show it.
  double operator()(double value) const {
    if (!std::isfinite(value) || (log_ && value <= 0)) return std::numeric_limits<double>::quiet_NaN();
    return from_ + (to_ - from_) * (to_axis(value) - low_) / (high_ - low_);
  }
  bool log() const { return log_; }
  double low() const { return from_axis(low_); }
  double high() const { return from_axis(high_); }

  /// Round values inside the limits, about `count` of them.
  std::vector<double> ticks(int count) const {
    std::vector<double> out;
    if (log_) out = log_ticks(count);
    if (out.size() >= 2) return out;
    out.clear();
    const double low = from_axis(low_), high = from_axis(high_);
    const double step = round_step((high - low) / std::max(count, 1));
    for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) out.push_back(k * step);
    return out;
  }

  /// Labels of ticks: all with the same decimals on a linear axis.
  std::vector<std::string> labels(const std::vector<double>& ticks) const {
    std::vector<std::string> out;
    int decimals = 0;
    bool plain = !log_;
    for (const double t : ticks) plain = plain && std::abs(t) < 1e4 && (t == 0 || std::abs(t) > 9e-4);
    if (ticks.size() > 1)
      decimals = std::clamp(static_cast<int>(-std::floor(std::log10(ticks[1] - ticks[0]) + 1e-9)), 0, 12);
    for (const double t : ticks) {
      std::string label = plain ? fixed_text(t, decimals) : number_text(t, 4);
      if (label.front() == '-') label = "−" + label.substr(1);
      out.push_back(std::move(label));
    }
    return out;
  }

 private:
  double to_axis(double value) const { return log_ ? std::log10(value) : value; }
  double from_axis(double value) const { return log_ ? std::pow(10.0, value) : value; }

  /// Powers of ten, every n-th if there are many; with 2 and 5 times them if there are few.
  std::vector<double> log_ticks(int count) const {
    std::vector<double> out;
    const double decades = high_ - low_;
    const int stride = std::max(1, static_cast<int>(std::ceil(decades / std::max(count, 1))));
    for (int k = static_cast<int>(std::floor(low_)); k <= static_cast<int>(std::ceil(high_)); ++k) {
      if (k % stride != 0) continue;
      for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor > 1 && decades > 2) break;
        const double at = k + std::log10(factor);
        if (at >= low_ - 1e-9 && at <= high_ + 1e-9) out.push_back(factor * std::pow(10.0, k));
      }
    }
    return out;
  }

  bool log_ = false;
  double low_ = 0, high_ = 1, from_ = 0, to_ = 1;
};

}  // namespace M3I_ABI
}  // namespace m3i
