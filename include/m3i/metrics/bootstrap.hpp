#pragma once
/// Percentile bootstrap intervals of any statistic of a set of cases.

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "m3i/core/random.hpp"
#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A statistic with its percentile bootstrap interval.
struct Interval {
  double value = 0, low = 0, high = 0;
  Index undefined = 0;  ///< resamples on which the statistic was undefined (one class only); they are left out
};

/// Draws `resamples` times n cases with replacement and takes the statistic of each.
///
///   statistic(span of case numbers) -> double; a ShapeError means "undefined on this resample"
///   level   0.95 for the 95 % interval
///
/// Throws what the statistic throws on the full set, and ShapeError when more than half the resamples are undefined.
/// Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
template <class Statistic>
Interval bootstrap_interval(
    Index n, const Statistic& statistic, std::uint64_t seed, double level = 0.95, Index resamples = 1000) {
  require(n > 0 && resamples > 0, "bootstrap: ", n, " cases and ", resamples, " resamples");
  require(level > 0 && level < 1, "bootstrap: level ", level, " must lie in (0, 1)");
  std::vector<Index> cases(static_cast<std::size_t>(n));
  std::iota(cases.begin(), cases.end(), Index(0));
  Interval out;
  out.value = statistic(std::span<const Index>(cases));
  std::vector<double> values;
  for (Index r = 0; r < resamples; ++r) {
    Random random(seed, std::uint64_t(r));
    for (Index& c : cases) c = random.below(n);
    try {
      values.push_back(statistic(std::span<const Index>(cases)));
    } catch (const ShapeError&) {
      ++out.undefined;
    }
  }
  require(2 * out.undefined <= resamples, "bootstrap: the statistic is undefined on ", out.undefined, " of ", resamples,
          " resamples; there are too few cases of a class for an interval");
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double position = share * double(values.size() - 1);
    const std::size_t low = std::size_t(position), high = std::min(low + 1, values.size() - 1);
    return values[low] + (position - double(low)) * (values[high] - values[low]);
  };
  out.low = at((1 - level) / 2);
  out.high = at((1 + level) / 2);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
