// Partial optimal transport: one problem of b x b, its gradient, the mPOT loss with both pairs, and the projection.

#include <benchmark/benchmark.h>

#include "m3i/autodiff/backward.hpp"
#include "m3i/core/random.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/ot/psd.hpp"

using namespace m3i;

namespace {

/// Distances between noisy pairs, scaled to 1: what a training step hands to the solver.
OtProblem noisy_pairs(Index b) {
  Random random(1);
  const Tensor<double> x = normal_tensor<double>({b, 64}, random), noise = normal_tensor<double>({b, 64}, random);
  const Tensor<double> y = x.clone();
  for (Index k = 0; k < y.size(); ++k) y.data()[k] += noise.data()[k];
  CostOptions options;
  options.metric = Metric::euclidean;
  return {.cost = pairwise_cost(x, y, {}, options).cost};
}

void ot_newton(benchmark::State& state) {
  const OtProblem problem = noisy_pairs(state.range(0));
  Index steps = 0;
  for (auto _ : state) steps = solve_partial_ot(problem).iterations;
  state.counters["steps"] = double(steps);
}
BENCHMARK(ot_newton)->Arg(4)->Arg(16)->Arg(64)->Arg(256)->Arg(512)->Arg(1024)->Unit(benchmark::kMicrosecond);

void ot_water_filling(benchmark::State& state) {
  const OtProblem problem = noisy_pairs(state.range(0));
  Index sweeps = 0;
  for (auto _ : state) sweeps = solve_partial_ot(problem, {.solver = OtSolver::water_filling}).sweeps;
  state.counters["sweeps"] = double(sweeps);
  state.SetItemsProcessed(state.iterations() * 3 * sweeps * problem.cost.size());  // exponentials
}
BENCHMARK(ot_water_filling)->Arg(16)->Arg(256)->Arg(2048)->Unit(benchmark::kMicrosecond);

void ot_dykstra_100(benchmark::State& state) {
  const OtProblem problem = noisy_pairs(state.range(0));
  for (auto _ : state)
    benchmark::DoNotOptimize(
        solve_partial_ot(problem, {.solver = OtSolver::dykstra, .tolerance = -1, .max_sweeps = 100}).lambda);
  state.SetItemsProcessed(state.iterations() * 201 * problem.cost.size());  // exponentials
}
BENCHMARK(ot_dykstra_100)->Arg(4)->Arg(16)->Arg(64)->Arg(256)->Unit(benchmark::kMicrosecond);

void ot_gradient(benchmark::State& state) {
  const OtResult result = solve_partial_ot(noisy_pairs(state.range(0)));
  const Tensor<double> target = ot_identity_target(state.range(0), state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(ot_implicit_gradient(result, target).data());
}
BENCHMARK(ot_gradient)->Arg(4)->Arg(16)->Arg(64)->Arg(256)->Arg(512)->Unit(benchmark::kMicrosecond);

void mpot_forward_backward(benchmark::State& state) {
  const Index b = state.range(0), d = 512;
  Random random(1);
  const Var<float> x(normal_tensor<float>({b, d}, random), true), metric(identity_metric<float>(d), true);
  const Tensor<float> s = normal_tensor<float>({b, d}, random), t = normal_tensor<float>({b, d}, random);
  for (auto _ : state) {
    backward(mpot_loss(x, s, t, metric).loss);
    x.clear_grad();
    metric.clear_grad();
  }
}
BENCHMARK(mpot_forward_backward)->Arg(4)->Arg(16)->Arg(64)->Arg(256)->Unit(benchmark::kMicrosecond);

/// Already inside (Cholesky alone), or with half of the eigenvalues negative.
void metric_projection(benchmark::State& state) {
  const Index d = 512;
  Random random(1);
  const Tensor<double> start = state.range(0) ? normal_tensor<double>({d, d}, random) : identity_metric<double>(d);
  for (auto _ : state) {
    const Tensor<double> m = start.clone();
    project_psd(m);
    benchmark::DoNotOptimize(m.data());
  }
}
BENCHMARK(metric_projection)->ArgName("indefinite")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace
