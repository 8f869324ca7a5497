// Partial optimal transport: a plan that may leave a bad pair out, and a loss that aligns embeddings through it.

#include <cstdio>

#include "m3i/autodiff.hpp"
#include "m3i/core/random.hpp"
#include "m3i/optim.hpp"
#include "m3i/ot.hpp"

using namespace m3i;

static void show_plan(const char* what, const OtResult& r) {
  const Tensor<double> plan = r.plan();
  const Index n = plan.shape()[0];
  std::printf("%s: %s, %d of %d rows and %d of %d columns are full\n", what,
              r.converged ? "converged" : "not converged", int(r.active_rows), int(n), int(r.active_cols), int(n));
  for (Index i = 0; i < n; ++i) {
    double row = 0;
    std::printf("   ");
    for (Index j = 0; j < n; ++j) {
      row += plan.data()[i * n + j];
      std::printf(" %.3f", plan.data()[i * n + j]);
    }
    std::printf("   sends %.3f of 0.25\n", row);
  }
}

int main() {
  // [plan]
  // Pairs 0, 1 and 2 match (cost 0.1 on the diagonal). Pair 3 does not: its caption describes something else.
  const double rows[] = {0.1, 0.9, 0.8, 0.9,  //
                         0.9, 0.1, 0.9, 0.8,  //
                         0.8, 0.9, 0.1, 0.9,  //
                         0.9, 0.9, 0.9, 1.0};
  const auto cost = Tensor<double>::from(rows, {4, 4});
  const OtResult all = solve_partial_ot({.cost = cost, .mass = 1.0, .epsilon = 0.05});
  const OtResult part = solve_partial_ot({.cost = cost, .mass = 0.8, .epsilon = 0.05});
  // [plan]
  show_plan("mass 1 (balanced)", all);
  show_plan("mass 0.8 (partial)", part);
  // [align]
  Random random(3);
  const Index batch = 8, width = 16;
  const Var<float> volumes(normal_tensor<float>({batch, width}, random), true);  // learned here, in place of a network
  const Var<float> slices(normal_tensor<float>({batch, width}, random)),
      texts(normal_tensor<float>({batch, width}, random));
  const Var<float> metric(identity_metric<float>(width), true);
  Adam<float> adam({volumes, metric}, {.lr = 0.05});
  for (int step = 0; step <= 100; ++step) {
    const auto mpot = mpot_loss(volumes, slices, texts, metric);
    if (step % 50 == 0) {
      const auto pairs = mpot.pairs();
      std::printf("step %3d  excess loss %.2f and %.2f, mass on the diagonal %.2f and %.2f\n", step, pairs[0].excess,
                  pairs[1].excess, pairs[0].diagonal_mass, pairs[1].diagonal_mass);
    }
    clear_gradients<float>({volumes, metric});
    backward(mpot.loss);
    adam.step();
    project_metric(metric.value(), Metric::full);  // M stays positive semidefinite
  }
  // [align]
}
