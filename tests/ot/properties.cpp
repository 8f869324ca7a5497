/// What must hold for any problem, without reference values.

#include <span>

#include "../catch.hpp"

#include "m3i/core/random.hpp"
#include "m3i/ot/implicit.hpp"
#include "m3i/ot/partial_ot.hpp"
#include "m3i/ot/unrolled.hpp"

using namespace m3i;

namespace {

Tensor<double> random_cost(Index n, Index m, std::uint64_t seed) {
  Random random(seed);
  return uniform_tensor<double>({n, m}, random);
}
/// Weights that sum to `total`.
Tensor<double> random_weights(Index n, std::uint64_t seed, double total = 1) {
  Random random(seed);
  const Tensor<double> w = uniform_tensor<double>({n}, random, 0.5, 1.5);
  double sum = 0;
  for (const double v : w.span()) sum += v;
  for (double& v : w.span()) v *= total / sum;
  return w;
}
Tensor<double> random_target(Index n, Index m, std::uint64_t seed) {
  const Tensor<double> w = random_cost(n, m, seed);
  double sum = 0;
  for (const double v : w.span()) sum += v;
  for (double& v : w.span()) v /= sum;
  return w;
}
double difference(const Tensor<double>& a, const Tensor<double>& b) {
  REQUIRE(a.shape() == b.shape());
  double worst = 0;
  for (Index k = 0; k < a.size(); ++k)
    if (!(std::abs(a.data()[k] - b.data()[k]) <= worst)) worst = std::abs(a.data()[k] - b.data()[k]);
  return worst;
}
double largest(const Tensor<double>& a) {
  double worst = 0;
  for (const double v : a.span()) worst = std::max(worst, std::abs(v));
  return worst;
}
bool same_bits(const OtResult& a, const OtResult& b) {
  return std::memcmp(a.log_plan.data(), b.log_plan.data(), a.log_plan.bytes()) == 0 &&
         std::memcmp(a.f.data(), b.f.data(), a.f.bytes()) == 0 && a.lambda == b.lambda && a.iterations == b.iterations;
}

constexpr double masses[] = {0.3, 0.7, 0.95, 1.0};
constexpr double epsilons[] = {1.0, 0.1, 0.02};

}  // namespace

TEST_CASE("a shift of all costs changes nothing, so the cost gradient sums to zero", "[ot]") {
  for (const double mass : masses)
    for (const double epsilon : epsilons) {
      const OtProblem problem{.cost = random_cost(6, 9, 1), .mass = mass, .epsilon = epsilon};
      const Tensor<double> gradient = ot_implicit_gradient(solve_partial_ot(problem), random_target(6, 9, 2));
      double sum = 0;
      for (const double g : gradient.span()) sum += g;
      CHECK(std::abs(sum) <= 1e-9 * largest(gradient));
    }
}

TEST_CASE("balanced: rows and columns of the gradient sum to zero when the target has the weights", "[ot]") {
  const Index n = 7;
  const OtProblem problem{.cost = random_cost(n, n, 3), .mass = 1, .epsilon = 0.1};
  const OtResult result = solve_partial_ot(problem);
  CHECK(result.row_equality);
  CHECK(result.col_equality);
  const Tensor<double> gradient = ot_implicit_gradient(result, ot_identity_target(n, n));
  const Tensor<double> plan = result.plan();
  for (Index i = 0; i < n; ++i) {
    double row = 0, col = 0;
    for (Index j = 0; j < n; ++j) {
      row += gradient.data()[i * n + j], col += gradient.data()[j * n + i];
      const double simple = ((i == j ? 1.0 / double(n) : 0) - plan.data()[i * n + j]) / 0.1;  // no system to solve
      CHECK(std::abs(gradient.data()[i * n + j] - simple) <= 1e-10);
    }
    CHECK(std::abs(row) <= 1e-10);
    CHECK(std::abs(col) <= 1e-10);
  }
}

TEST_CASE("scaling cost and epsilon together changes nothing", "[ot]") {
  const Tensor<double> target = random_target(5, 8, 5);
  for (const double mass : masses) {
    OtProblem problem{.cost = random_cost(5, 8, 4), .mass = mass, .epsilon = 0.07};
    const double loss = ot_loss(solve_partial_ot(problem), target);
    problem.cost = problem.cost.clone();
    for (double& c : problem.cost.span()) c *= 37;
    problem.epsilon *= 37;
    CHECK(ot_loss(solve_partial_ot(problem), target) == Approx(loss).epsilon(1e-10));
  }
}

TEST_CASE("permuting rows and columns permutes the plan", "[ot]") {
  const Index n = 6, m = 8;
  Random random(11);
  const auto rows = random.permutation(n), cols = random.permutation(m);
  for (const double mass : masses) {
    const OtProblem problem{.cost = random_cost(n, m, 6),
                            .p = random_weights(n, 7),
                            .q = random_weights(m, 8),
                            .mass = mass,
                            .epsilon = 0.05};
    OtProblem moved = problem;
    moved.cost = Tensor<double>({n, m}), moved.p = Tensor<double>({n}), moved.q = Tensor<double>({m});
    for (Index i = 0; i < n; ++i) moved.p.data()[i] = problem.p.data()[rows[std::size_t(i)]];
    for (Index j = 0; j < m; ++j) moved.q.data()[j] = problem.q.data()[cols[std::size_t(j)]];
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < m; ++j)
        moved.cost.data()[i * m + j] = problem.cost.data()[rows[std::size_t(i)] * m + cols[std::size_t(j)]];
    const Tensor<double> plan = solve_partial_ot(problem).plan(), other = solve_partial_ot(moved).plan();
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < m; ++j)
        CHECK(std::abs(other.data()[i * m + j] - plan.data()[rows[std::size_t(i)] * m + cols[std::size_t(j)]]) <=
              1e-12);
  }
}

TEST_CASE("the transposed problem has the transposed plan and gradient", "[ot]") {
  const Index n = 5, m = 9;
  const auto transposed = [](const Tensor<double>& a) {
    Tensor<double> out({a.shape()[1], a.shape()[0]});
    for (Index i = 0; i < a.shape()[0]; ++i)
      for (Index j = 0; j < a.shape()[1]; ++j) out.data()[j * a.shape()[0] + i] = a.data()[i * a.shape()[1] + j];
    return out;
  };
  const Tensor<double> target = random_target(n, m, 12);
  for (const double mass : {0.3, 0.7, 0.8, 0.95, 1.0})
    for (const double other_total : {1.0, 1.3}) {  // at 1.3 and mass 1, one side is an equality
      const OtProblem problem{.cost = random_cost(n, m, 9),
                              .p = random_weights(n, 10),
                              .q = random_weights(m, 11, other_total),
                              .mass = mass,
                              .epsilon = 0.05};
      const OtProblem turned{
          .cost = transposed(problem.cost), .p = problem.q, .q = problem.p, .mass = mass, .epsilon = 0.05};
      const OtResult a = solve_partial_ot(problem), b = solve_partial_ot(turned);
      CHECK(a.converged);
      CHECK(b.converged);
      CHECK(difference(transposed(a.plan()), b.plan()) <= 1e-12);
      CHECK(difference(transposed(ot_implicit_gradient(a, target)), ot_implicit_gradient(b, transposed(target))) <=
            1e-8);
    }
}

TEST_CASE("the excess over the floor -log s is never negative, and zero for perfect pairs", "[ot]") {
  for (const double mass : masses)
    for (const double epsilon : epsilons) {
      const double loss = ot_loss(solve_partial_ot({.cost = random_cost(6, 6, 13), .mass = mass, .epsilon = epsilon}),
                                  ot_identity_target(6, 6));
      CHECK(loss + std::log(mass) >= -1e-12);
    }
  Tensor<double> apart = Tensor<double>::full({5, 5}, 1);
  for (Index i = 0; i < 5; ++i) apart.data()[i * 6] = 0;
  const OtResult perfect = solve_partial_ot({.cost = apart, .mass = 0.8, .epsilon = 0.01});
  CHECK(std::abs(ot_loss(perfect, ot_identity_target(5, 5)) + std::log(0.8)) <= 1e-12);
}

TEST_CASE("the plan is continuous as the mass goes to all there is", "[ot]") {
  OtProblem problem{.cost = random_cost(8, 8, 14), .mass = 1, .epsilon = 0.1};
  const Tensor<double> balanced = solve_partial_ot(problem).plan();
  problem.mass = 1 - 1e-8;
  const OtResult nearly = solve_partial_ot(problem);
  CHECK_FALSE(nearly.row_equality);
  CHECK(nearly.converged);
  CHECK(difference(nearly.plan(), balanced) <= 1e-7);
}

TEST_CASE("a batch gives the bits of its single problems, for any number of threads", "[ot]") {
  std::vector<OtProblem> problems;
  for (std::uint64_t k = 0; k < 7; ++k)
    problems.push_back(
        {.cost = random_cost(9, 9, 20 + k), .mass = 0.3 + 0.1 * double(k), .epsilon = 0.01 * double(k + 1)});
  const int before = thread_count();
  for (const OtSolver solver : {OtSolver::newton, OtSolver::water_filling, OtSolver::dykstra})
    for (const int threads : {1, 3}) {
      set_thread_count(threads);
      const auto batch = solve_partial_ot(std::span<const OtProblem>(problems), {.solver = solver});
      for (std::size_t k = 0; k < problems.size(); ++k)
        CHECK(same_bits(batch[k], solve_partial_ot(problems[k], {.solver = solver})));
    }
  set_thread_count(before);
  const Tensor<double> stacked({2, 4, 4});
  stacked.slice(0, 1).copy_from(random_cost(4, 4, 30).reshape({1, 4, 4}));
  stacked.slice(1, 2).copy_from(random_cost(4, 4, 31).reshape({1, 4, 4}));
  const double mass[] = {0.4, 0.9}, epsilon[] = {0.05};
  const auto results = solve_partial_ot(std::span<const OtProblem>(ot_problems(stacked, mass, epsilon)));
  CHECK(same_bits(results[1], solve_partial_ot({.cost = random_cost(4, 4, 31), .mass = 0.9, .epsilon = 0.05})));
  const double three[] = {0.4, 0.9, 0.5};
  CHECK_THROWS_AS(ot_problems(stacked, three, epsilon), OtError);
}

TEST_CASE("the cost gradient agrees with central differences", "[ot]") {
  const Index n = 5, m = 6;
  const Tensor<double> target = random_target(n, m, 41);
  for (const double mass : masses)
    for (const double total : {1.0, 1.2}) {
      OtProblem problem{.cost = random_cost(n, m, 40),
                        .p = random_weights(n, 42),
                        .q = random_weights(m, 43, total),
                        .mass = mass,
                        .epsilon = 0.1};
      const Tensor<double> gradient = ot_implicit_gradient(solve_partial_ot(problem), target);
      const double h = 1e-5;
      for (Index k = 0; k < n * m; k += 4) {
        const auto at = [&](double change) {
          OtProblem moved = problem;
          moved.cost = problem.cost.clone();
          moved.cost.data()[k] += change;
          return ot_loss(solve_partial_ot(moved), target);
        };
        CHECK(std::abs((at(h) - at(-h)) / (2 * h) - gradient.data()[k]) <= 1e-6 * largest(gradient));
      }
    }
}

TEST_CASE("the unrolled gradient tends to the implicit one, and conjugate gradients to the factorisation", "[ot]") {
  const Index n = 8;
  const OtProblem problem{.cost = random_cost(n, n, 50), .mass = 0.8, .epsilon = 0.1};
  const Tensor<double> target = ot_identity_target(n, n);
  const OtResult exact = solve_partial_ot(problem);
  const Tensor<double> implicit = ot_implicit_gradient(exact, target);
  const OtResult swept = solve_partial_ot(
      problem, {.solver = OtSolver::dykstra, .tolerance = 1e-13, .max_sweeps = 20000, .keep_history = true});
  CHECK(swept.converged);
  CHECK(difference(ot_unrolled_gradient(swept, target), implicit) <= 1e-9);
  CHECK(difference(ot_implicit_gradient(exact, target, 0), implicit) <= 1e-8 * largest(implicit));
  const OtResult balanced = solve_partial_ot({.cost = problem.cost, .mass = 1, .epsilon = 0.1});
  CHECK(difference(ot_implicit_gradient(balanced, target, 0), ot_implicit_gradient(balanced, target)) <= 1e-8);
}

TEST_CASE("all solvers agree", "[ot]") {
  for (const double mass : masses) {
    const OtProblem problem{.cost = random_cost(10, 7, 60),
                            .p = random_weights(10, 61),
                            .q = random_weights(7, 62),
                            .mass = mass,
                            .epsilon = 0.1};
    const Tensor<double> plan = solve_partial_ot(problem).plan();
    for (const OtSolver solver : {OtSolver::water_filling, OtSolver::dykstra}) {
      const OtResult result = solve_partial_ot(problem, {.solver = solver, .max_sweeps = 20000});
      CHECK(result.converged);
      CHECK(result.solver == solver);
      CHECK(difference(result.plan(), plan) <= 1e-10);
    }
  }
}

TEST_CASE("random problems of every size converge in few Newton steps", "[ot]") {
  Random random(70);
  Index most = 0;
  for (int k = 0; k < 200; ++k) {
    const Index n = 1 + random.below(24), m = 1 + random.below(24);
    const double total_p = random.uniform(0.5, 2), total_q = random.uniform(0.5, 2);
    const double share = k % 4 == 0 ? 1 : random.uniform(0.01, 1);
    const OtProblem problem{.cost = random_cost(n, m, 1000 + std::uint64_t(k)),
                            .p = random_weights(n, 2000 + std::uint64_t(k), total_p),
                            .q = random_weights(m, 3000 + std::uint64_t(k), k % 8 == 0 ? total_p : total_q),
                            .mass = share * std::min(total_p, k % 8 == 0 ? total_p : total_q),
                            .epsilon = std::pow(10, random.uniform(-3, 0.5))};
    const OtResult result = solve_partial_ot(problem);
    INFO("problem " << k << ": " << n << " x " << m << ", mass " << problem.mass << ", epsilon " << problem.epsilon
                    << ", residual " << result.residual << ", steps " << result.iterations);
    CHECK(result.converged);
    most = std::max(most, result.iterations);
  }
  CHECK(most <= 40);
}

TEST_CASE("ties, matched pairs, wide ranges and nearly all of the mass converge too", "[ot]") {
  Random random(71);
  for (int k = 0; k < 300; ++k) {
    const Index n = 1 + random.below(20), m = k % 3 ? n : 1 + random.below(20);
    const Tensor<double> cost({n, m});
    for (Index i = 0; i < n * m; ++i) {
      const bool pair = i / m == i % m;
      const double u = random.uniform();
      const double kinds[] = {u, pair ? 0.1 * u : 0.5 + 0.5 * u, std::floor(3 * u) / 2, 10 * std::pow(u, 4),
                              pair ? 0.0 : 1.0};
      cost.data()[i] = kinds[k % 5];
    }
    const double choices[] = {0.01, 0.5, 0.95, 0.999, 1 - 1e-6, 1};
    const OtProblem problem{
        .cost = cost, .mass = choices[random.below(6)], .epsilon = std::pow(10, random.uniform(-3.5, 0))};
    const OtResult result = solve_partial_ot(problem);
    INFO("problem " << k << ": " << n << " x " << m << ", mass " << problem.mass << ", epsilon " << problem.epsilon
                    << ", residual " << result.residual << ", steps " << result.iterations);
    CHECK(result.converged);
    const Tensor<double> gradient = ot_implicit_gradient(result, Tensor<double>::full({n, m}, 1 / double(n * m)));
    CHECK(math::is_finite(largest(gradient)));
  }
}

TEST_CASE("a problem that is stopped early says so", "[ot]") {
  const OtProblem problem{.cost = random_cost(12, 12, 80), .mass = 0.9, .epsilon = 0.005};
  const OtResult result = solve_partial_ot(problem, {.solver = OtSolver::dykstra, .max_sweeps = 3});
  CHECK_FALSE(result.converged);
  CHECK(result.iterations == 3);
  CHECK(result.residual > 1e-12);
  const OtResult large =
      solve_partial_ot({.cost = random_cost(6, 6, 81), .mass = 0.5, .epsilon = 0.1}, {.newton_limit = 5});
  CHECK(large.solver == OtSolver::water_filling);
  CHECK(large.converged);
}

TEST_CASE("options that contradict each other are refused", "[ot][errors]") {
  const OtProblem problem{.cost = random_cost(3, 3, 90)};
  CHECK_THROWS_AS(solve_partial_ot(problem, {.keep_history = true}), ConfigError);
  CHECK_THROWS_AS(solve_partial_ot(problem, {.precision = OtPrecision::f32}), ConfigError);
  CHECK_THROWS_AS(ot_unrolled_gradient(solve_partial_ot(problem), ot_identity_target(3, 3)), ConfigError);
  Tensor<double> bad = random_cost(3, 3, 91);
  bad.data()[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(solve_partial_ot({.cost = bad}), Catch::Contains("cost[1, 2]"));
}
