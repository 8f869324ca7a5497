// Against figures in the literature, or computed by SciPy 1.17 where the comment says so.
#include "m3i/metrics/paired.hpp"

#include "catch.hpp"
#include "m3i/metrics/summary.hpp"

using namespace m3i;

namespace {

/// Depression scores of nine patients before and after a tranquilliser: Hollander and Wolfe 1973, table 3.1.
const std::vector<double> before{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30},
    after{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29};
/// Heights of crossed less self-fertilised maize, in eighths of an inch: Darwin 1876, in Fisher 1935, section 17.
const std::vector<double> maize{49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48};
/// Hours of sleep gained under two drugs: Student 1908.
const std::vector<double> student_sleep{1.2, 2.4, 1.3, 1.3, 0, 1.0, 1.8, 0.8, 4.6, 1.4};

std::vector<double> ranks_with_one_sign(Index n, Index negative_sum) {  // differences 1 .. n, the sum of some negative
  std::vector<double> d;
  for (Index r = n; r >= 1; --r) {
    const bool flip = r <= negative_sum;
    if (flip) negative_sum -= r;
    d.push_back(flip ? double(-r) : double(r));
  }
  return d;
}

}  // namespace

TEST_CASE("wilcoxon: published examples", "[fast]") {
  std::vector<double> d;
  for (std::size_t i = 0; i < before.size(); ++i) d.push_back(before[i] - after[i]);
  const auto hollander = wilcoxon_signed_rank(d);
  CHECK(hollander.statistic == 5);
  CHECK(hollander.p == Approx(0.0390625).epsilon(1e-12));
  CHECK(hollander.exact);
  const auto darwin = wilcoxon_signed_rank(maize);
  CHECK(darwin.statistic == 24);
  CHECK(darwin.p == Approx(0.041259765625).epsilon(1e-12));
  const auto student = wilcoxon_signed_rank(student_sleep);
  CHECK(student.statistic == 0);
  CHECK((student.pairs == 9 && student.zeros == 1));
  CHECK(student.p == Approx(2.0 / 512).epsilon(1e-12));
}

TEST_CASE("wilcoxon: critical values of the published table, two-sided 5 %", "[fast]") {
  // n and the largest W with p <= 0.05: Wilcoxon and Wilcox 1964; McCornack 1965.
  const std::vector<std::pair<Index, Index>> table{{6, 0},   {7, 2},   {8, 3},   {9, 5},   {10, 8},  {11, 10}, {12, 13},
                                                   {13, 17}, {14, 21}, {15, 25}, {20, 52}, {25, 89}, {30, 137}};
  for (const auto& [n, w] : table) {
    CAPTURE(n, w);
    CHECK(wilcoxon_signed_rank(ranks_with_one_sign(n, w)).statistic == double(w));
    CHECK(wilcoxon_signed_rank(ranks_with_one_sign(n, w)).p <= 0.05);
    CHECK(wilcoxon_signed_rank(ranks_with_one_sign(n, w + 1)).p > 0.05);
  }
  CHECK(wilcoxon_signed_rank(ranks_with_one_sign(5, 0)).p == 0.0625);
}

TEST_CASE("wilcoxon: ties and zeros, exactly", "[fast]") {
  const std::vector<double> d{1, -1, 2, 2, 0, 0, 3, -4, 5, 5, 6};  // p by listing all signs
  const auto wilcox = wilcoxon_signed_rank(d), pratt = wilcoxon_signed_rank(d, ZeroDifferences::pratt);
  CHECK(wilcox.statistic == 7.5);
  CHECK(wilcox.p == Approx(0.08203125).epsilon(1e-12));
  CHECK(pratt.statistic == 11.5);
  CHECK(pratt.p == Approx(0.078125).epsilon(1e-12));
  CHECK(pratt.zeros == 2);
  CHECK(wilcoxon_signed_rank(std::vector<double>{0, 0, 0}).p == 1);
  std::vector<double> many;  // 300 values with many ties and one zero; SciPy: wilcoxon(method="asymptotic")
  for (Index i = 0; i < 300; ++i) many.push_back(double(i * 7919 % 601 - 280) / 100);
  const auto approximate = wilcoxon_signed_rank(many);
  CHECK(!approximate.exact);
  CHECK(approximate.statistic == 18813.5);
  CHECK(approximate.p == Approx(0.015791256645190394).epsilon(1e-10));
  CHECK(wilcoxon_signed_rank(many, ZeroDifferences::pratt).p == Approx(0.016011694065171576).epsilon(1e-10));
  std::vector<double> half;
  for (Index i = 0; i < 200; ++i) half.push_back(double(i * 7919 % 199) - 91.5);
  const auto exact = wilcoxon_signed_rank(half);
  double variance = 0;
  for (const Index r : detail::doubled_ranks(half)) variance += double(r * r) / 16;
  CHECK(exact.exact);  // close to the normal approximation already
  CHECK(exact.p ==
        Approx(std::erfc(std::abs(exact.statistic - 200 * 201 / 4.0) / std::sqrt(2 * variance))).epsilon(0.02));
}

TEST_CASE("paired t test: published examples", "[fast]") {
  CHECK(paired_t_test(maize).t == Approx(2.148).margin(5e-4));  // Fisher 1935
  CHECK(paired_t_test(maize).p == Approx(0.049702944021800866).epsilon(1e-12));
  CHECK(paired_t_test(student_sleep).t == Approx(4.0621).margin(5e-5));  // Student 1908
  CHECK(paired_t_test(student_sleep).p == Approx(0.002832890197384273).epsilon(1e-12));
  CHECK(paired_t_test(student_sleep).degrees == 9);
  // Critical values of t, two-sided 5 %: 12.706 for 1 degree of freedom, 2.228 for 10, 1.984 for 100.
  const auto p = [](double t, double freedom) {
    return detail::incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
  };
  CHECK(p(12.706, 1) == Approx(0.05).margin(1e-5));
  CHECK(p(2.228, 10) == Approx(0.05).margin(1e-4));
  CHECK(p(1.984, 100) == Approx(0.05).margin(1e-4));
  CHECK(p(1, 1) == Approx(0.5));
  CHECK(paired_t_test(std::vector<double>{0, 0, 0}).p == 1);
  CHECK(paired_t_test(std::vector<double>{2, 2}).p == 0);
}

TEST_CASE("permutation test: Fisher's count, and sampling comes close", "[fast]") {
  const auto fisher = permutation_test(maize, 0);  // 1726 of 32768 sums reach 314: Fisher 1935, section 21
  CHECK(fisher.exact);
  CHECK(fisher.permutations == 32768);
  CHECK(fisher.p == 1726.0 / 32768);
  std::vector<double> d;
  for (std::size_t i = 0; i < before.size(); ++i) d.push_back(before[i] - after[i]);
  CHECK(permutation_test(d, 0).p == 0.02734375);
  std::vector<double> more = maize;  // 21 pairs: the same with six that never matter
  more.insert(more.end(), {1e-9, 1e-9, 1e-9, 1e-9, 1e-9, 1e-9});
  const auto sampled = permutation_test(more, 7, 20000);
  CHECK(!sampled.exact);
  CHECK(sampled.p == Approx(fisher.p).margin(0.006));
  CHECK(sampled.p == permutation_test(more, 7, 20000).p);
}

TEST_CASE("paired comparison: one summary of all tests, reproducible", "[fast]") {
  const auto c = compare_paired(before, after, 3);
  CHECK(c.pairs == 9);
  CHECK(c.mean_a - c.mean_b == Approx(c.mean_difference.value));
  CHECK(c.median_difference == Approx(0.49));
  CHECK((c.mean_difference.low > 0 && c.mean_difference.high < 0.8));
  CHECK(c.mean_difference.low == compare_paired(before, after, 3).mean_difference.low);
  CHECK(c.wilcoxon.p == Approx(0.0390625));
  CHECK(c.t_test.p == Approx(0.016176627434908088));
  const auto swapped = compare_paired(after, before, 3);
  CHECK(swapped.mean_difference.value == -c.mean_difference.value);
  CHECK(swapped.wilcoxon.p == c.wilcoxon.p);
  CHECK(smallest_paired_p(5) == 0.0625);
  CHECK(smallest_paired_p(6) == 0.03125);
  CHECK(smallest_paired_p(0) == 1);
}

TEST_CASE("paired tests: bad input is refused", "[fast]") {
  CHECK_THROWS_WITH(wilcoxon_signed_rank({}), Catch::Contains("0 pair(s), at least 1"));
  CHECK_THROWS_WITH(paired_t_test(std::vector<double>{1}), Catch::Contains("1 pair(s), at least 2"));
  CHECK_THROWS_AS(wilcoxon_signed_rank(std::vector<double>{1, NAN}), NumericError);
  CHECK_THROWS_AS(permutation_test(std::vector<double>{1, INFINITY}, 0), NumericError);
  CHECK_THROWS_WITH(compare_paired(before, std::vector<double>{1}, 0), Catch::Contains("9 and 1 values"));
}

TEST_CASE("summary: NaN is skipped and counted, infinity is not hidden", "[fast]") {
  const std::vector<double> values{4, NAN, 1, 3, NAN, 2};
  const Summary s = summary_of(values);
  CHECK((s.mean == 2.5 && s.median == 2.5 && s.counted == 4 && s.skipped == 2));
  CHECK(s.deviation == Approx(std::sqrt(5.0 / 3)));
  const Summary far = summary_of(std::vector<double>{1, INFINITY, 3});
  CHECK((std::isinf(far.mean) && std::isnan(far.deviation) && far.median == 3));
  CHECK(std::isnan(summary_of(std::vector<double>{NAN}).mean));
  CHECK(summary_of(std::vector<double>{7}).deviation == 0);
}
