/// Plans, losses and cost gradients against reference values computed in 60 to 1200 digits.

#include "../catch.hpp"

#include "golden_files.hpp"
#include "m3i/ot/implicit.hpp"
#include "m3i/ot/partial_ot.hpp"
#include "m3i/ot/unrolled.hpp"

using namespace m3i;
using golden::distance, golden::json, golden::largest;

namespace {

struct Tolerance {
  double plan, loss, gradient, log_plan, log_plan_k10, gradient_k10, mass, violation;
};
constexpr Tolerance in_double{1e-10, 1e-9, 1e-7, 1e-7, 1e-12, 1e-9, 1e-12, 1e-11};
constexpr Tolerance in_float{2e-5, 5e-6, 1e-4, 1e-3, 1e-5, 1e-3, 1e-5, 1e-5};

OtProblem problem_of(const SafeTensors& file, const json& c) {
  return {.cost = golden::tensor(file, c, "C"),
          .p = golden::tensor(file, c, "p"),
          .q = golden::tensor(file, c, "q"),
          .mass = c.at("mass"),
          .epsilon = c.at("eps")};
}

/// How far the row and column sums go over their weights, the larger of the two.
double violation(const Tensor<double>& plan, const OtProblem& problem) {
  const Index n = problem.p.size(), m = problem.q.size();
  double worst = 0;
  for (Index i = 0; i < n; ++i) {
    double sum = 0;
    for (Index j = 0; j < m; ++j) sum += plan.data()[i * m + j];
    worst = std::max(worst, sum - problem.p.data()[i]);
  }
  for (Index j = 0; j < m; ++j) {
    double sum = 0;
    for (Index i = 0; i < n; ++i) sum += plan.data()[i * m + j];
    worst = std::max(worst, sum - problem.q.data()[j]);
  }
  return worst;
}

double sum_of(const Tensor<double>& x) {
  double total = 0;
  for (const double v : x.span()) total += v;
  return total;
}

/// How often the iteration was swept to reach 1e-12, or 1e-9 if 1e-12 was not reached; and the plan tolerance then.
std::pair<Index, double> listed_sweeps(const json& c) {
  const json& counts = c.at("dykstra_sweeps");
  const bool fine = !counts.at("1e-12").is_null();
  return {Index(std::ceil(1.2 * double(counts.at(fine ? "1e-12" : "1e-9")))) + 1, fine ? in_double.plan : 1e-9};
}

void check_solution(const SafeTensors& file,
                    const json& c,
                    const OtProblem& problem,
                    const OtResult& result,
                    const Tolerance& tolerance) {
  const Tensor<double> plan = result.plan(), expected = golden::tensor(file, c, "plan");
  CHECK(distance(plan, expected) <= tolerance.plan);
  CHECK(std::abs(sum_of(plan) - problem.mass) <= tolerance.mass);
  CHECK(violation(plan, problem) <= tolerance.violation);
  if (!c.contains("loss_kl")) return;
  const Tensor<double> target = golden::tensor(file, c, "pi_hat");
  const auto relative = [](double a, double b) { return std::abs(a - b) / std::abs(b); };
  CHECK(relative(ot_loss(result, target, OtLoss::kl), c.at("loss_kl")) <= tolerance.loss);
  CHECK(relative(ot_loss(result, target, OtLoss::cross_entropy), c.at("loss_cross_entropy")) <= tolerance.loss);
  CHECK(std::abs(ot_loss(result, target, OtLoss::generalised) - double(c.at("loss_generalised_kl"))) <=
        tolerance.loss * std::max(1.0, std::abs(double(c.at("loss_kl")))));
  const Tensor<double> gradient = golden::tensor(file, c, "dL_dC");
  CHECK(distance(ot_implicit_gradient(result, target), gradient) <= tolerance.gradient * largest(gradient) + 1e-12);
  if (double(c.at("condition")) < 1e6) {
    const auto clear = [&](Index i) { return expected.data()[i] > 1e-9; };
    CHECK(distance(result.log_plan, golden::tensor(file, c, "log_plan"), clear) <= tolerance.log_plan);
    CHECK(std::abs(result.lambda - golden::tensor(file, c, "lambda").item()) <=
          tolerance.log_plan * problem.epsilon * std::max(1.0, std::abs(result.lambda)));
  }
}

/// Exactly ten sweeps, and the derivative of that truncated computation.
void check_ten_sweeps(const SafeTensors& file,
                      const json& c,
                      const OtProblem& problem,
                      OtPrecision precision,
                      const Tolerance& tolerance) {
  const OtResult ten = solve_partial_ot(
      problem,
      {.solver = OtSolver::dykstra, .precision = precision, .tolerance = -1, .max_sweeps = 10, .keep_history = true});
  CHECK(ten.iterations == 10);
  const Tensor<double> expected = golden::tensor(file, c, "log_plan_k10");
  double worst = 0;
  for (Index i = 0; i < expected.size(); ++i) {
    const double a = ten.log_plan.data()[i], b = expected.data()[i];
    if (a != b) worst = std::max(worst, std::abs(a - b) / (1 + std::abs(b)));
  }
  CHECK(worst <= tolerance.log_plan_k10);
  const Tensor<double> gradient = golden::tensor(file, c, "dL_dC_k10");
  CHECK(distance(ot_unrolled_gradient(ten, golden::tensor(file, c, "pi_hat")), gradient) <=
        tolerance.gradient_k10 * largest(gradient) + 1e-12);
}

/// Calls check(file, case, problem) for every case that has a plan.
template <class Check>
void for_each_plan(const Check& check) {
  Index cases = 0;
  for (const auto& m : golden::manifests()) {
    if (!golden::has_cases_with(m, "mass") || m.tensors_path.empty()) continue;
    const SafeTensors file(m.tensors_path);
    for (const json& c : m.content.at("cases")) {
      INFO(m.name << " " << c.at("key"));
      check(file, c, problem_of(file, c));
      ++cases;
    }
  }
  if (cases == 0) WARN("no golden plans under \"" << golden::folder() << "\"; set M3I_GOLDENS. Skipped.");
}

}  // namespace

TEST_CASE("goldens: Newton reaches every plan, loss and gradient", "[ot][golden]") {
  Index most = 0;
  for_each_plan([&](const SafeTensors& file, const json& c, const OtProblem& problem) {
    const OtResult result = solve_partial_ot(problem);
    CHECK(result.converged);
    CHECK(result.iterations <= 25);
    most = std::max(most, result.iterations);
    check_solution(file, c, problem, result, in_double);
    if (!c.contains("loss_kl")) return;
    CHECK(result.row_equality == c.at("row_equality").get<bool>());
    CHECK(result.col_equality == c.at("col_equality").get<bool>());
    if (double(c.at("eps")) >= 0.05) {  // below, potentials are pinned by masses under the rounding of the sums
      CHECK(result.active_rows == c.at("saturated_rows").get<Index>());
      CHECK(result.active_cols == c.at("saturated_cols").get<Index>());
    }
  });
  INFO("most Newton steps: " << most);
  CHECK(most <= 25);
}

TEST_CASE("goldens: water-filling sweeps reach the plans that sweeps can reach", "[ot][golden]") {
  for_each_plan([&](const SafeTensors& file, const json& c, const OtProblem& problem) {
    if (!c.contains("tier") || c.at("tier") != "fast") return;
    const OtResult result = solve_partial_ot(problem, {.solver = OtSolver::water_filling, .max_sweeps = 20000});
    CHECK(distance(result.plan(), golden::tensor(file, c, "plan")) <= listed_sweeps(c).second);
  });
}

TEST_CASE("goldens: Dykstra sweeps reach the plans of tier fast in the listed number", "[ot][golden]") {
  for_each_plan([&](const SafeTensors& file, const json& c, const OtProblem& problem) {
    if (!c.contains("tier") || c.at("tier") != "fast") return;
    const auto [sweeps, tolerance] = listed_sweeps(c);
    const OtResult result =
        solve_partial_ot(problem, {.solver = OtSolver::dykstra, .tolerance = -1, .max_sweeps = sweeps});
    CHECK(distance(result.plan(), golden::tensor(file, c, "plan")) <= tolerance);
  });
}

TEST_CASE("goldens: ten sweeps and their unrolled gradient", "[ot][golden]") {
  for_each_plan([&](const SafeTensors& file, const json& c, const OtProblem& problem) {
    if (c.contains("loss_kl")) check_ten_sweeps(file, c, problem, OtPrecision::f64, in_double);
  });
}

TEST_CASE("goldens: sweeps in float", "[ot][golden]") {
  for_each_plan([&](const SafeTensors& file, const json& c, const OtProblem& problem) {
    if (!c.contains("tier") || c.at("tier") != "fast") return;
    const OtResult result = solve_partial_ot(problem, {.solver = OtSolver::dykstra,
                                                       .precision = OtPrecision::f32,
                                                       .tolerance = -1,
                                                       .max_sweeps = listed_sweeps(c).first});
    check_solution(file, c, problem, result, in_float);
    check_ten_sweeps(file, c, problem, OtPrecision::f32, in_float);
  });
}

TEST_CASE("goldens: bad input is refused with the listed category", "[ot][golden][errors]") {
  Index cases = 0;
  for (const auto& m : golden::manifests()) {
    if (!golden::has_cases_with(m, "expect")) continue;
    for (const json& c : m.content.at("cases")) {
      INFO(m.name << " " << c.at("name"));
      OtProblem problem{.cost = golden::matrix(c.at("C")),
                        .mass = golden::number(c.at("mass")),
                        .epsilon = golden::number(c.at("eps"))};
      if (c.contains("p")) problem.p = golden::vector(c.at("p"));
      if (c.contains("q")) problem.q = golden::vector(c.at("q"));
      std::string found = "ok", message;
      try {
        const OtResult result = solve_partial_ot(problem);
        if (c.value("loss", false))
          ot_loss(result, c.contains("target") ? golden::matrix(c.at("target"))
                                               : ot_identity_target(problem.cost.shape()[0], problem.cost.shape()[1]));
      } catch (const OtError& e) {
        found = e.category;
        message = e.what();
      }
      CHECK(found == c.at("expect").get<std::string>());
      CHECK((found == "ok" || message.size() > 30));
      ++cases;
    }
  }
  if (cases == 0) WARN("no golden error cases under \"" << golden::folder() << "\"; set M3I_GOLDENS. Skipped.");
}
