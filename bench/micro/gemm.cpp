// Matrix products of the sizes that nnFormer at 128^3 asks for, and one large square one: the measured peak. In float,
// and in bf16, which some processors multiply in pairs.

#include <benchmark/benchmark.h>

#include "m3i/kernels/gemm.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

/// y [m, n] = x [m, k] w^T: a linear layer over m tokens.
template <class T>
static void linear_forward(benchmark::State& state) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2);
  const auto x = cast<T>(testing::wave<float>({m, k})), w = cast<T>(testing::wave<float>({n, k}));
  const Tensor<T> y({m, n});
  for (auto _ : state) {
    gemm<T>(Device::cpu(), false, true, m, n, k, 1, x.data(), k, w.data(), k, 0, y.data(), n);
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * double(m * n * k), benchmark::Counter::kIsIterationInvariantRate);
}
/// dw [n, k] = dy^T [n, m] x [m, k]: its weight gradient.
template <class T>
static void linear_weight_gradient(benchmark::State& state) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2);
  const auto x = cast<T>(testing::wave<float>({m, k})), dy = cast<T>(testing::wave<float>({m, n}));
  const Tensor<T> dw({n, k});
  for (auto _ : state) {
    gemm<T>(Device::cpu(), true, false, n, k, m, 1, dy.data(), n, x.data(), k, 0, dw.data(), k);
    benchmark::DoNotOptimize(dw.data());
  }
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * double(m * n * k), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(linear_forward<float>)
    ->UseRealTime()
    ->Args({32768, 384, 96})
    ->Args({4096, 768, 192})
    ->Args({1024, 1024, 1024});
BENCHMARK(linear_forward<bf16>)
    ->UseRealTime()
    ->Args({32768, 384, 96})
    ->Args({4096, 768, 192})
    ->Args({1024, 1024, 1024});
BENCHMARK(linear_weight_gradient<float>)->UseRealTime()->Args({32768, 384, 96})->Args({4096, 768, 192});
BENCHMARK(linear_weight_gradient<bf16>)->UseRealTime()->Args({32768, 384, 96})->Args({4096, 768, 192});
