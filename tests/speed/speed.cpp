// Speed as ratios, which hold on any machine; the best of several repetitions, so that a busy one does not fail them.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "../catch.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

/// Seconds that f takes, at best.
template <class F>
double best_seconds(int repetitions, const F& f) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

struct OwnExp {
  const float* x;
  float* y;
  M3I_HD void operator()(Index i) const { y[i] = math::exp(x[i]); }
};
struct StandardExp {
  const float* x;
  float* y;
  void operator()(Index i) const { y[i] = std::exp(x[i]); }
};

/// Restores the number of threads at the end of a test.
struct KeepThreads {
  int before = thread_count();
  ~KeepThreads() { set_thread_count(before); }
};

}  // namespace

TEST_CASE("speed: a loop over our exp vectorises, which std::exp keeps it from", "[slow]") {
  const Index n = 20000;  // both arrays stay in the second-level cache
  const auto x = testing::wave<float>({n});
  const Tensor<float> y({n});
  const double own = best_seconds(200, [&] { detail::simd_range(0, n, OwnExp{x.data(), y.data()}); });
  const double standard = best_seconds(200, [&] { detail::simd_range(0, n, StandardExp{x.data(), y.data()}); });
  INFO("ns an element: ours " << own / double(n) * 1e9 << ", std " << standard / double(n) * 1e9);
  CHECK(own / standard <= 0.6);
}

TEST_CASE("speed: two threads are faster than one", "[slow]") {
  if (std::thread::hardware_concurrency() < 2) {
    WARN("skipped: one core");
    return;
  }
  const KeepThreads keep;
  const NoGrad guard;
  const Var<float> x(
      testing::wave<float>({1 << 17}));  // a millisecond or less: a busy scheduler gives that much at once
  const auto with_threads = [&](int threads) {
    set_thread_count(threads);
    return best_seconds(300, [&] { gelu(x); });
  };
  double one = with_threads(1), two = with_threads(2);  // where nobody disturbed either: the smallest of all
  for (int attempt = 0; attempt < 8 && two > 0.85 * one; ++attempt) {
    two = std::min(two, with_threads(2));
    one = std::min(one, with_threads(1));
  }
  INFO("milliseconds with two threads " << two * 1e3 << ", with one " << one * 1e3);
  double load = 0;
  if (two > 0.85 * one && getloadavg(&load, 1) == 1 && load > std::thread::hardware_concurrency())
    WARN("skipped: other programs keep all cores busy, the load is " << load);
  else CHECK(two / one <= 0.85);
}
