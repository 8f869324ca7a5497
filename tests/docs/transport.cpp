/// Code of docs/5-optimal-transport.md.

#include "../catch.hpp"

#include "m3i/autodiff.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ot.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

static Tensor<double> some_cost(Index n) {
  Tensor<double> cost = testing::wave<double>({n, n});
  for (double& c : cost.span()) c = 0.5 + 0.35 * c;
  return cost;
}

TEST_CASE("docs: the plan obeys its constraints and its own formula", "[docs]") {
  const Tensor<double> cost = some_cost(5);
  // [solve]
  const OtResult r = solve_partial_ot({.cost = cost, .mass = 0.8, .epsilon = 0.05});  // weights 1/n each
  const Tensor<double> plan = r.plan();
  double mass = 0;
  for (const double v : plan.span()) mass += v;
  // [solve]
  CHECK(r.converged);
  CHECK(mass == Approx(0.8).epsilon(1e-10));
  for (Index i = 0; i < 5; ++i) {
    double row = 0;
    for (Index j = 0; j < 5; ++j) {
      row += plan.data()[i * 5 + j];
      const double exponent =
          (r.f.data()[i] + r.g.data()[j] + r.lambda - cost.data()[i * 5 + j]) / 0.05;  // log of the plan
      CHECK(r.log_plan.data()[i * 5 + j] == Approx(exponent).epsilon(1e-9));
    }
    CHECK(row <= 0.2 + 1e-10);
    CHECK(r.f.data()[i] <= 0);
    if (r.f.data()[i] < -1e-9) CHECK(row == Approx(0.2).epsilon(1e-9));
  }
}

TEST_CASE("docs: the implicit gradient agrees with differences", "[docs]") {
  const Tensor<double> cost = some_cost(4);
  // [implicit]
  const auto target = Tensor<double>::from({.25, 0, 0, 0, 0, .25, 0, 0, 0, 0, .25, 0, 0, 0, 0, .25}, {4, 4});  // I / b
  const auto loss = [&](const Tensor<double>& c) {
    return ot_loss(solve_partial_ot({.cost = c, .mass = 0.8, .epsilon = 0.1}), target);
  };
  const OtResult r = solve_partial_ot({.cost = cost, .mass = 0.8, .epsilon = 0.1});
  const Tensor<double> gradient = ot_implicit_gradient(r, target);  // dL/dC [4, 4], one linear solve

  Tensor<double> above = cost.clone(), below = cost.clone();
  const double h = 1e-6;
  above.data()[5] += h;
  below.data()[5] -= h;
  const double difference = (loss(above) - loss(below)) / (2 * h);
  CHECK(gradient.data()[5] == Approx(difference).epsilon(1e-5));
  // [implicit]
}

TEST_CASE("docs: nothing saturated means a joint softmax", "[docs]") {
  const Tensor<double> cost = some_cost(6);
  // [softmax]
  const OtResult r = solve_partial_ot({.cost = cost, .mass = 0.3, .epsilon = 0.5});
  double sum = 0;
  for (const double c : cost.span()) sum += std::exp(-c / 0.5);
  const double expected = 0.3 * std::exp(-cost.data()[7] / 0.5) / sum;  // mass * softmax over all pairs
  // [softmax]
  CHECK(r.active_rows + r.active_cols == 0);
  CHECK(r.plan().data()[7] == Approx(expected).epsilon(1e-9));
}

TEST_CASE("docs: a wrong pair is pulled together with full force, whatever the mass", "[docs]") {
  // [full_pull]
  const double rows[] = {0.1, 0.9, 0.9, 0.9,  //
                         0.9, 0.1, 0.9, 0.9,  //
                         0.9, 0.9, 0.9, 0.1,  // captions 2 and 3 are exchanged
                         0.9, 0.9, 0.1, 0.9};
  const auto target = Tensor<double>::from({.25, 0, 0, 0, 0, .25, 0, 0, 0, 0, .25, 0, 0, 0, 0, .25}, {4, 4});
  for (const double mass : {0.5, 0.8, 0.95, 1.0}) {
    const OtResult r = solve_partial_ot({.cost = Tensor<double>::from(rows, {4, 4}), .mass = mass, .epsilon = 0.05});
    const double pull = ot_implicit_gradient(r, target).data()[10];  // of the cost of volume 2 and its wrong caption
    CHECK(pull == Approx(1 / (4 * 0.05)).epsilon(1e-3));             // 1 / (b epsilon)
  }
  // [full_pull]
}

TEST_CASE("docs: the projection and wrong input", "[docs]") {
  // [project]
  const auto metric = Tensor<double>::from({1, 2, 2, 1}, {2, 2});  // eigenvalues 3 and -1
  const PsdProjection done = project_psd(metric);                  // -1 becomes 0
  // [project]
  CHECK(done.clamped == 1);
  for (const double v : metric.span()) CHECK(v == Approx(1.5));

  // [refused]
  try {
    solve_partial_ot({.cost = some_cost(3), .mass = 1.2});
  } catch (const OtError& e) {
    CHECK(e.category == "infeasible_mass");
  }
  // [refused]
}
