#include <cmath>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "m3i/kernels/math.hpp"

using namespace m3i;

namespace {

/// |found - exact| in units in the last place that T has at `exact`.
template <class T>
double ulps(T found, long double exact) {
  const T nearest = T(exact);
  if (found == nearest || (std::isnan(found) && std::isnan(nearest))) return 0;
  if (!std::isfinite(found) || !std::isfinite(nearest)) return std::numeric_limits<double>::infinity();
  const int exponent = std::max(std::ilogb(nearest), std::numeric_limits<T>::min_exponent - 1);
  return double(std::abs((long double)found - exact) / std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits + 1));
}

/// Arguments spread evenly over an interval, and others of every size in it.
template <class T>
std::vector<T> arguments(double low, double high) {
  std::vector<T> x;
  constexpr int n = 20000;
  for (int i = 0; i <= n; ++i) x.push_back(T(low + (high - low) * i / n));
  for (int i = 0; i < n; ++i) {
    const T size = T(std::pow(10.0, -30.0 + 32.0 * i / n));
    for (const T v : {size, -size})
      if (double(v) >= low && double(v) <= high) x.push_back(v);
  }
  return x;
}

struct Worst {
  double error = 0, at = 0;
};
template <class T, class F, class G>
Worst worst_ulps(double low, double high, const F& ours, const G& exact) {
  Worst worst;
  for (const T x : arguments<T>(low, high))
    if (const double e = ulps(ours(x), exact((long double)x)); !(e <= worst.error)) worst = {e, double(x)};
  return worst;
}

long double exact_sigmoid(long double x) { return 1 / (1 + std::exp(-x)); }

template <class T>
constexpr double lowest_normal_log = sizeof(T) == 4 ? -87.3 : -708.3;
template <class T>
constexpr double highest_log = sizeof(T) == 4 ? 88.7 : 709.7;

}  // namespace

#define M3I_CHECK_ULPS(function, exact, low, high)                                                        \
  do {                                                                                                    \
    const Worst worst = worst_ulps<TestType>(                                                             \
        low, high, [](TestType x) { return math::function(x); }, [](long double x) { return exact(x); }); \
    INFO(#function << " is " << worst.error << " ulp off at " << worst.at);                               \
    CHECK(worst.error < 5);                                                                               \
  } while (false)

TEMPLATE_TEST_CASE("math: functions stay within 5 units in the last place", "[kernels]", float, double) {
  M3I_CHECK_ULPS(exp, std::exp, lowest_normal_log<TestType>, highest_log<TestType>);
  M3I_CHECK_ULPS(expm1, std::expm1, -50.0, highest_log<TestType>);
  M3I_CHECK_ULPS(log, std::log, 1e-35, 1e3);
  M3I_CHECK_ULPS(log, std::log, 0.9, 1.1);
  M3I_CHECK_ULPS(log1p, std::log1p, -0.99, 100.0);
  M3I_CHECK_ULPS(tanh, std::tanh, -20.0, 20.0);
  M3I_CHECK_ULPS(sigmoid, exact_sigmoid, -80.0, 80.0);
  M3I_CHECK_ULPS(erf, std::erf, -6.0, 6.0);
}

TEMPLATE_TEST_CASE("math: special values", "[kernels]", float, double) {
  using T = TestType;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(math::exp(T(0)) == 1);
  CHECK(math::exp(inf) == inf);
  CHECK(math::exp(-inf) == 0);
  CHECK(math::exp(T(1e4)) == inf);
  CHECK(math::exp(T(-1e4)) == 0);
  CHECK(std::isnan(math::exp(nan)));

  CHECK(math::expm1(T(0)) == 0);
  CHECK(math::expm1(inf) == inf);
  CHECK(math::expm1(-inf) == -1);
  CHECK(std::isnan(math::expm1(nan)));

  CHECK(math::log(T(1)) == 0);
  CHECK(math::log(T(0)) == -inf);
  CHECK(math::log(inf) == inf);
  CHECK(std::isnan(math::log(T(-1))));
  CHECK(std::isnan(math::log(nan)));
  const T smallest = std::numeric_limits<T>::denorm_min();
  CHECK(ulps(math::log(smallest), std::log((long double)smallest)) < 5);

  CHECK(math::log1p(T(0)) == 0);
  CHECK(math::log1p(T(-1)) == -inf);
  CHECK(math::log1p(inf) == inf);
  CHECK(std::isnan(math::log1p(T(-2))));
  CHECK(std::isnan(math::log1p(nan)));

  CHECK(math::tanh(T(0)) == 0);
  CHECK(math::tanh(inf) == 1);
  CHECK(math::tanh(-inf) == -1);
  CHECK(std::isnan(math::tanh(nan)));

  CHECK(math::sigmoid(T(0)) == T(0.5));
  CHECK(math::sigmoid(inf) == 1);
  CHECK(math::sigmoid(-inf) == 0);
  CHECK(std::isnan(math::sigmoid(nan)));

  CHECK(math::erf(T(0)) == 0);
  CHECK(math::erf(inf) == 1);
  CHECK(math::erf(-inf) == -1);
  CHECK(std::isnan(math::erf(nan)));

  CHECK(math::softplus(T(-1e4)) == 0);
  CHECK(math::softplus(T(1e4)) == T(1e4));
}

TEMPLATE_TEST_CASE("math: odd functions are odd, and results have no step where one formula takes over",
                   "[kernels]",
                   float,
                   double) {
  using T = TestType;
  for (const T x : arguments<T>(0, 10)) {
    REQUIRE(math::tanh(-x) == -math::tanh(x));
    REQUIRE(math::erf(-x) == -math::erf(x));
  }
  // Neighbouring arguments: no larger change than a few units in the last place.
  for (const T seam : {T(0.46875), T(0.5), T(1), T(4), T(8)}) {
    const T below = std::nextafter(seam, T(0)), above = std::nextafter(seam, T(100));
    CHECK(ulps(math::erf(below), (long double)math::erf(above)) < 8);
    CHECK(ulps(math::tanh(below), (long double)math::tanh(above)) < 8);
  }
}
