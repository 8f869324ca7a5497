#pragma once
/// Paired tests: do two methods differ, measured on the same cases or with the same seeds?
///
/// All are two-sided. Pairs must be independent of each other: one figure a subject, not one a slice or structure.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "m3i/metrics/bootstrap.hpp"
#include "m3i/metrics/summary.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What happens to pairs without a difference in the signed-rank test.
enum class ZeroDifferences {
  wilcox,  ///< left out before ranking (Wilcoxon 1945; usual)
  pratt,   ///< ranked with the others, then left out (Pratt 1959; keeps what many small ties say)
};

struct SignedRankTest {
  double statistic = 0;  ///< the smaller of the rank sums of positive and negative differences
  double p = 1;          ///< two-sided; 1 when all differences are 0
  Index pairs = 0;       ///< with a difference
  Index zeros = 0;       ///< without
  bool exact = true;     ///< false: normal approximation
};

namespace detail {

inline void check_differences(const char* test, std::span<const double> differences, Index least) {
  require(Index(differences.size()) >= least, test, ": ", differences.size(), " pair(s), at least ", least, " needed");
  for (std::size_t i = 0; i < differences.size(); ++i)
    require<NumericError>(std::isfinite(differences[i]), test, ": the difference of pair ", i, " is ", differences[i],
                          "; leave such pairs out");
}

/// Twice the rank of each |difference| from 1, ties sharing their mean: twice, so that shared ranks are whole.
inline std::vector<Index> doubled_ranks(std::span<const double> differences) {
  std::vector<std::size_t> order(differences.size());
  std::iota(order.begin(), order.end(), std::size_t(0));
  const auto size = [&](std::size_t i) { return std::abs(differences[i]); };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return size(a) < size(b); });
  std::vector<Index> ranks(order.size());
  for (std::size_t begin = 0, end; begin < order.size(); begin = end) {
    for (end = begin + 1; end < order.size() && size(order[end]) == size(order[begin]); ++end) {
    }
    for (std::size_t i = begin; i < end; ++i) ranks[order[i]] = Index(begin + 1 + end);
  }
  return ranks;
}

/// P(sum <= at) if every rank counts with probability 1/2, independently.
inline double signed_rank_probability(const std::vector<Index>& ranks, Index at) {
  std::vector<double> chance(std::size_t(at) + 1, 0.0);
  chance[0] = 1;
  for (const Index rank : ranks)
    for (Index s = at; s >= 0; --s) {
      const double with = s >= rank ? chance[std::size_t(s - rank)] : 0;
      chance[std::size_t(s)] = (chance[std::size_t(s)] + with) / 2;
    }
  double sum = 0;
  for (const double c : chance) sum += c;
  return sum;
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
inline double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::abs(v) < tiny ? tiny : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m <= 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                 odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double factor = 1;
    for (const double term : {even, odd}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      factor = c * d;
      value *= factor;
    }
    if (std::abs(factor - 1) < 1e-15) break;
  }
  return value;
}

/// Regularised incomplete beta function I_x(a, b).
/// Abramowitz and Stegun 1964, "Handbook of mathematical functions", 26.5.8.
inline double incomplete_beta(double a, double b, double x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace detail

/// Wilcoxon's signed-rank test. Up to 200 pairs p is exact, also with ties: over all signs of the observed ranks.
/// Beyond, the normal approximation with the correction for ties. Assumes that the differences are symmetric about
/// their centre. Throws NumericError for a difference that is not finite. Wilcoxon 1945, "Individual comparisons by
/// ranking methods"; Pratt 1959, "Remarks on zeros and ties".
inline SignedRankTest wilcoxon_signed_rank(std::span<const double> differences,
                                           ZeroDifferences zero_differences = ZeroDifferences::wilcox) {
  detail::check_differences("wilcoxon", differences, 1);
  std::vector<double> ranked;
  for (const double d : differences)
    if (d != 0 || zero_differences == ZeroDifferences::pratt) ranked.push_back(d);
  const auto all_ranks = detail::doubled_ranks(ranked);
  SignedRankTest out;
  std::vector<Index> ranks;  // of the differences that are not 0
  Index positive = 0, negative = 0;
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    if (ranked[i] == 0) continue;
    ranks.push_back(all_ranks[i]);
    (ranked[i] > 0 ? positive : negative) += all_ranks[i];
  }
  out.pairs = Index(ranks.size());
  out.zeros = Index(differences.size()) - out.pairs;
  out.statistic = double(std::min(positive, negative)) / 2;
  if (out.pairs == 0) return out;
  out.exact = out.pairs <= 200;
  if (out.exact) {
    out.p = std::min(1.0, 2 * detail::signed_rank_probability(ranks, std::min(positive, negative)));
  } else {
    double variance = 0;  // of the rank sum: each rank counts or does not
    for (const Index r : ranks) variance += double(r * r) / 16;
    const double z = (out.statistic - double(positive + negative) / 4) / std::sqrt(variance);
    out.p = std::min(1.0, std::erfc(std::abs(z) / std::sqrt(2.0)));
  }
  return out;
}

struct PairedTTest {
  double t = 0, p = 1;  ///< t is infinite and p 0 when all differences are the same and not 0
  Index degrees = 0;
};

/// Student's t test of the mean difference. Assumes differences from a normal distribution, which matters for few
/// pairs. Student 1908, "The probable error of a mean".
inline PairedTTest paired_t_test(std::span<const double> differences) {
  detail::check_differences("t test", differences, 2);
  const double n = double(differences.size());
  double mean = 0, squares = 0;
  for (const double d : differences) mean += d / n;
  for (const double d : differences) squares += (d - mean) * (d - mean);
  PairedTTest out{0, 1, Index(differences.size()) - 1};
  if (squares == 0) {
    if (mean != 0) out = {std::copysign(std::numeric_limits<double>::infinity(), mean), 0, out.degrees};
    return out;
  }
  const double freedom = n - 1;
  out.t = mean / std::sqrt(squares / freedom / n);
  out.p = detail::incomplete_beta(freedom / 2, 0.5, freedom / (freedom + out.t * out.t));
  return out;
}

struct PermutationTest {
  double p = 1;
  Index permutations = 0;
  bool exact = true;  ///< false: a random sample of sign changes
};

/// Share of sign changes of the differences whose mean is as far from 0 as the observed one. All 2^n of them up to 20
/// pairs; beyond, `samples` random ones and the observed one.
/// Assumes only that under no effect a difference is as likely as its negative.
/// Fisher 1935, "The design of experiments".
inline PermutationTest permutation_test(std::span<const double> differences,
                                        std::uint64_t seed,
                                        Index samples = 100000) {
  detail::check_differences("permutation test", differences, 1);
  require(samples > 0, "permutation test: ", samples, " samples");
  const Index n = Index(differences.size());
  double observed = 0, size = 0;
  for (const double d : differences) observed += d, size += std::abs(d);
  const double threshold = std::abs(observed) - 1e-12 * size;  // sums in another order round differently
  PermutationTest out;
  Index extreme = 0;
  if (n <= 20) {
    out.permutations = Index(1) << n;
    double sum = -size;  // Gray code: one sign changes at a time
    std::vector<bool> up(std::size_t(n), false);
    for (Index g = 0; g < out.permutations; ++g) {
      if (g > 0) {
        const auto i = std::size_t(std::countr_zero(std::uint64_t(g)));
        up[i] = !up[i];
        sum += (up[i] ? 2 : -2) * std::abs(differences[i]);
      }
      extreme += std::abs(sum) >= threshold;
    }
    out.p = double(extreme) / double(out.permutations);
    return out;
  }
  out.exact = false;
  out.permutations = samples;
  for (Index s = 0; s < samples; ++s) {
    Random random(seed, std::uint64_t(s));
    double sum = 0;
    for (const double d : differences) sum += random.uniform() < 0.5 ? -d : d;
    extreme += std::abs(sum) >= threshold;
  }
  out.p = double(extreme + 1) / double(samples + 1);
  return out;
}

/// The smallest p that the exact signed-rank and permutation tests can give with n pairs that differ: all signs equal.
/// Below 6 pairs it is above 0.05: no data could show a difference at that level.
inline double smallest_paired_p(Index n) {
  return n < 1 ? 1.0 : std::min(1.0, std::ldexp(2.0, -int(std::min(n, Index(1000)))));
}

/// Two methods on the same cases: a[i] and b[i] belong to one case.
struct PairedComparison {
  Index pairs = 0;
  double mean_a = 0, mean_b = 0, median_difference = 0;
  Interval mean_difference;  ///< a - b, with its percentile bootstrap interval over pairs
  SignedRankTest wilcoxon;
  PairedTTest t_test;
  PermutationTest permutation;
};

/// Throws ShapeError for lists of different lengths or fewer than 2 pairs, NumericError for values that are not finite.
inline PairedComparison compare_paired(std::span<const double> a,
                                       std::span<const double> b,
                                       std::uint64_t seed,
                                       ZeroDifferences zeros = ZeroDifferences::wilcox,
                                       double level = 0.95,
                                       Index resamples = 10000) {
  require(a.size() == b.size(), "paired comparison: ", a.size(), " and ", b.size(), " values; one of each a case");
  std::vector<double> d(a.size());
  for (std::size_t i = 0; i < d.size(); ++i) d[i] = a[i] - b[i];
  detail::check_differences("paired comparison", d, 2);
  PairedComparison out;
  out.pairs = Index(d.size());
  out.mean_a = summary_of(a).mean;
  out.mean_b = summary_of(b).mean;
  out.median_difference = summary_of(d).median;
  out.mean_difference = bootstrap_interval(
      out.pairs,
      [&](std::span<const Index> cases) {
        double sum = 0;
        for (const Index c : cases) sum += d[std::size_t(c)];
        return sum / double(cases.size());
      },
      seed, level, resamples);
  out.wilcoxon = wilcoxon_signed_rank(d, zeros);
  out.t_test = paired_t_test(d);
  out.permutation = permutation_test(d, seed);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
