#pragma once
/// Mean, deviation and median of figures of which some are undefined.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// NaN values are skipped and counted. An infinite value counts: it makes the mean infinite and the deviation NaN.
struct Summary {
  double mean = 0, deviation = 0, median = 0;  ///< NaN without a value; the sample deviation (n - 1) of one value is 0
  Index counted = 0, skipped = 0;
};

inline Summary summary_of(std::span<const double> values) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> defined;
  for (const double v : values)
    if (!std::isnan(v)) defined.push_back(v);
  const std::size_t n = defined.size();
  Summary out{nan, nan, nan, Index(n), Index(values.size() - n)};
  if (n == 0) return out;
  std::sort(defined.begin(), defined.end());
  out.median = n % 2 ? defined[n / 2] : (defined[n / 2 - 1] + defined[n / 2]) / 2;
  double sum = 0, squares = 0;
  for (const double v : defined) sum += v;
  out.mean = sum / double(n);
  for (const double v : defined) squares += (v - out.mean) * (v - out.mean);
  if (std::isfinite(out.mean)) out.deviation = n > 1 ? std::sqrt(squares / double(n - 1)) : 0;
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
