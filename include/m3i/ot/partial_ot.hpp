#pragma once
/// solve_partial_ot(): one problem, or a batch of them over the threads.

#include <algorithm>
#include <span>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/ot/newton.hpp"
#include "m3i/ot/problem.hpp"
#include "m3i/ot/sweeps.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Rows and columns of positive weight, and the numbers that put the solution back into cost units.
struct OtReduction {
  std::vector<Index> rows, cols;
  std::vector<double> cost;  ///< minus its smallest value, which goes into lambda
  double lowest = 0, range = 0;
};

inline OtReduction ot_reduce(const OtProblem& problem) {
  OtReduction out;
  for (Index i = 0; i < problem.p.size(); ++i)
    if (problem.p.data()[i] > 0) out.rows.push_back(i);
  for (Index j = 0; j < problem.q.size(); ++j)
    if (problem.q.data()[j] > 0) out.cols.push_back(j);
  const Index m = problem.q.size();
  out.cost.resize(out.rows.size() * out.cols.size());
  double* to = out.cost.data();
  for (const Index i : out.rows)
    for (const Index j : out.cols) *to++ = problem.cost.data()[i * m + j];
  const auto [low, high] = ot_range(out.cost.data(), Index(out.cost.size()));
  out.lowest = low, out.range = high - low;
  for (double& c : out.cost) c -= out.lowest;
  return out;
}

template <class T>
OtState<T> ot_state(const OtProblem& problem, const OtReduction& reduced) {
  OtState<T> s;
  s.resize(Index(reduced.rows.size()), Index(reduced.cols.size()));
  const double sum_p = ot_sum(problem.p), sum_q = ot_sum(problem.q);
  s.row_equality = ot_is_equality(problem.mass, sum_p);
  s.col_equality = ot_is_equality(problem.mass, sum_q);
  s.mass = T(problem.mass), s.log_mass = T(std::log(problem.mass));
  const double scale_p = s.row_equality ? problem.mass / sum_p : 1, scale_q = s.col_equality ? problem.mass / sum_q : 1;
  for (std::size_t i = 0; i < s.p.size(); ++i) {
    const double w = problem.p.data()[reduced.rows[i]] * scale_p;
    s.p[i] = T(w), s.log_p[i] = T(std::log(w));
  }
  for (std::size_t j = 0; j < s.q.size(); ++j) {
    const double w = problem.q.data()[reduced.cols[j]] * scale_q;
    s.q[j] = T(w), s.log_q[j] = T(std::log(w));
  }
  return s;
}

template <class T>
void ot_set_kernel(OtState<T>& s, const OtReduction& reduced, double epsilon) {
  for (std::size_t k = 0; k < s.kernel.size(); ++k) s.kernel[k] = T(-reduced.cost[k] / epsilon);
}

/// Calls stage(epsilon, last) for epsilon = range / 2, halved down to the wanted one; potentials keep their cost units.
template <class T, class Stage>
void ot_scale_epsilon(OtState<T>& s, const OtReduction& reduced, double epsilon, const Stage& stage) {
  for (double now = std::max(epsilon, reduced.range / 2);;) {
    ot_set_kernel(s, reduced, now);
    stage(now == epsilon);
    if (now == epsilon) return;
    const double next = std::max(epsilon, now / 2);
    const T factor = T(now / next);
    for (T& a : s.a) a *= factor;
    for (T& b : s.b) b *= factor;
    s.t *= factor;
    now = next;
  }
}

/// Residual / mass at which a larger epsilon is done: fine enough to see the mass that stays behind, or potentials
/// drift.
template <class T>
double ot_stage_tolerance(const OtState<T>& s, double tolerance) {
  double sum_p = 0, sum_q = 0;
  for (const T v : s.p) sum_p += double(v);
  for (const T v : s.q) sum_q += double(v);
  const double left = s.has_lambda() ? std::min(sum_p, sum_q) / double(s.mass) - 1 : 1;
  return std::max(tolerance, std::min(1e-2, left / 4));
}

/// Sweeps at every epsilon under one common limit; each epsilon before the last gets a small share of it.
template <class T>
SweepOutcome water_filling_path(
    OtState<T>& s, const OtReduction& reduced, double epsilon, double tolerance, Index max_sweeps) {
  SweepOutcome out;
  const double stage_tolerance = ot_stage_tolerance(s, tolerance);
  ot_scale_epsilon(s, reduced, epsilon, [&](bool last) {
    const double wanted = last ? tolerance : stage_tolerance;
    const Index limit = last ? max_sweeps : out.sweeps + max_sweeps / 32;
    for (out.converged = false; !out.converged && out.sweeps < limit;) {
      water_filling_sweep(s);
      ++out.sweeps;
      row_pass(s);
      out.residual = residual_from_log_sums(s, false);
      out.converged = out.residual <= wanted * double(s.mass);
    }
  });
  return out;
}

inline NewtonOutcome newton_path(OtState<double>& s, const OtReduction& reduced, double epsilon, double tolerance) {
  NewtonWorkspace workspace;
  workspace.resize(s.n, s.m);
  NewtonOutcome out;
  const double stage_tolerance = ot_stage_tolerance(s, tolerance);
  ot_scale_epsilon(s, reduced, epsilon, [&](bool last) {
    const NewtonOutcome stage = newton_stage(s, workspace, last ? tolerance : stage_tolerance);
    out = {stage.residual, out.steps + stage.steps, out.sweeps + stage.sweeps, stage.converged};
  });
  return out;
}

/// Puts the state of the reduced problem back into the rows, columns and units of the given one.
template <class T>
void ot_finish(const OtProblem& problem, const OtReduction& reduced, const OtState<T>& s, OtResult& out) {
  constexpr double none = -std::numeric_limits<double>::infinity();
  const Index n = problem.p.size(), m = problem.q.size();
  const double e = problem.epsilon;
  out.mass = problem.mass, out.epsilon = e;
  out.log_plan = Tensor<double>::full({n, m}, none);
  out.f = Tensor<double>::full({n}, none), out.g = Tensor<double>::full({m}, none);
  out.row_equality = s.row_equality, out.col_equality = s.col_equality;
  // On an equality side the potentials are defined up to a constant, which goes to lambda.
  const double top_a = s.row_equality ? double(*std::max_element(s.a.begin(), s.a.end())) : 0;
  const double top_b = s.col_equality ? double(*std::max_element(s.b.begin(), s.b.end())) : 0;
  out.lambda = e * (double(s.t) + top_a + top_b) + reduced.lowest;
  for (std::size_t i = 0; i < s.a.size(); ++i) {
    out.f.data()[reduced.rows[i]] = e * (double(s.a[i]) - top_a);
    out.active_rows += s.row_equality || s.a[i] < 0;
  }
  for (std::size_t j = 0; j < s.b.size(); ++j) {
    out.g.data()[reduced.cols[j]] = e * (double(s.b[j]) - top_b);
    out.active_cols += s.col_equality || s.b[j] < 0;
  }
  for (std::size_t i = 0; i < s.a.size(); ++i)
    for (std::size_t j = 0; j < s.b.size(); ++j)
      out.log_plan.data()[reduced.rows[i] * m + reduced.cols[j]] =
          double(s.kernel[i * s.b.size() + j]) + (double(s.a[i]) + double(s.b[j]) + double(s.t));
}

template <class T>
OtResult ot_solve_sweeps(const OtProblem& problem, const OtOptions& options, double tolerance, OtSolver solver) {
  const OtReduction reduced = ot_reduce(problem);
  OtState<T> s = ot_state<T>(problem, reduced);
  OtResult out;
  SweepOutcome done;
  if (solver == OtSolver::dykstra) {
    ot_set_kernel(s, reduced, problem.epsilon);
    std::shared_ptr<OtHistory> history;
    if (options.keep_history) {
      history = std::make_shared<OtHistory>();
      history->rows = s.n, history->cols = s.m;
      history->row_ids = reduced.rows, history->col_ids = reduced.cols;
      history->kernel.assign(s.kernel.begin(), s.kernel.end());
    }
    done = dykstra_sweeps(s, tolerance, options.max_sweeps ? options.max_sweeps : 1000, history.get());
    out.history = std::move(history);
  } else {
    done = water_filling_path(s, reduced, problem.epsilon, tolerance, options.max_sweeps ? options.max_sweeps : 5000);
  }
  ot_finish(problem, reduced, s, out);
  out.residual = done.residual, out.converged = done.converged;
  out.iterations = out.sweeps = done.sweeps;
  return out;
}

/// Rounding alone moves a sum of the plan by u |log plan|: what no solver can undercut.
inline double ot_rounding(const OtProblem& problem) {
  const auto [low, high] = ot_range(problem.cost.data(), problem.cost.size());
  return std::numeric_limits<double>::epsilon() * (high - low) / problem.epsilon;
}

/// Of a problem that ot_checked has passed.
inline OtResult ot_solve_checked(const OtProblem& problem, const OtOptions& options) {
  const bool large = std::max(problem.p.size(), problem.q.size()) > options.newton_limit;
  const OtSolver solver = options.solver == OtSolver::newton && large ? OtSolver::water_filling : options.solver;
  const bool single = options.precision == OtPrecision::f32;
  const double wanted = options.tolerance != 0 ? options.tolerance : single ? 1e-5 : 1e-12;
  const double tolerance = wanted < 0 || single ? wanted : std::max(wanted, ot_rounding(problem));
  OtResult out;
  if (solver == OtSolver::newton) {
    const OtReduction reduced = ot_reduce(problem);
    OtState<double> s = ot_state<double>(problem, reduced);
    const NewtonOutcome done = newton_path(s, reduced, problem.epsilon, tolerance);
    ot_finish(problem, reduced, s, out);
    out.residual = done.residual, out.converged = done.converged;
    out.iterations = done.steps, out.sweeps = done.sweeps;
  } else {
    out = single ? ot_solve_sweeps<float>(problem, options, tolerance, solver)
                 : ot_solve_sweeps<double>(problem, options, tolerance, solver);
  }
  out.solver = solver;
  return out;
}

inline void ot_check_options(const OtOptions& options) {
  require<ConfigError>(!options.keep_history || options.solver == OtSolver::dykstra,
                       "partial_ot: only the dykstra solver keeps a history of sweeps; set solver = dykstra");
  require<ConfigError>(options.precision == OtPrecision::f64 || options.solver != OtSolver::newton,
                       "partial_ot: Newton works in f64 alone; set solver to water_filling or dykstra for f32 sweeps");
  require<ConfigError>(options.max_sweeps >= 0, "partial_ot: max_sweeps is ", options.max_sweeps,
                       "; expected 0 or more");
}

}  // namespace detail

/// The entropic partial transport plan of one problem.
///
/// The log domain is used throughout: no cost range, epsilon or weight makes it underflow. In the regime mass = sum p =
/// sum q this is Sinkhorn's problem. Throws OtError (its `category` says what is wrong) before any work.
/// Cost: a few Newton steps of (n m^2 + m^3 / 3) multiply-adds, or 2 n m exponentials a sweep. Memory: 3 n m numbers.
inline OtResult solve_partial_ot(const OtProblem& problem, const OtOptions& options = {}) {
  detail::ot_check_options(options);
  return detail::ot_solve_checked(detail::ot_checked(problem), options);
}

/// Many problems over the threads. Each stops on its own and gives the bits of its single solution; all are checked
/// before the first is solved.
inline std::vector<OtResult> solve_partial_ot(std::span<const OtProblem> problems, const OtOptions& options = {}) {
  detail::ot_check_options(options);
  std::vector<OtProblem> checked;
  checked.reserve(problems.size());
  for (const OtProblem& problem : problems) checked.push_back(detail::ot_checked(problem));
  std::vector<OtResult> results(problems.size());
  parallel_for(Index(problems.size()),
               [&](Index k) { results[std::size_t(k)] = detail::ot_solve_checked(checked[std::size_t(k)], options); });
  return results;
}

/// cost [N, n, m] as N problems; p [n], q [m] or undefined are shared, mass and epsilon are one value or N.
inline std::vector<OtProblem> ot_problems(const Tensor<double>& cost,
                                          std::span<const double> mass,
                                          std::span<const double> epsilon,
                                          const Tensor<double>& p = {},
                                          const Tensor<double>& q = {}) {
  ot_require(cost.rank() == 3, "invalid_shape", "ot_problems: the costs have shape ", cost.shape(),
             ", expected [N, n, m]");
  const Index count = cost.shape()[0];
  const auto check = [count](const char* name, std::span<const double> values) {
    ot_require(values.size() == 1 || Index(values.size()) == count, "invalid_shape", "ot_problems: ", values.size(),
               " values of ", name, " for ", count, " problems; give one or one each");
  };
  check("mass", mass);
  check("epsilon", epsilon);
  std::vector<OtProblem> problems;
  for (Index k = 0; k < count; ++k)
    problems.push_back({.cost = cost[k],
                        .p = p,
                        .q = q,
                        .mass = mass[mass.size() == 1 ? 0 : std::size_t(k)],
                        .epsilon = epsilon[epsilon.size() == 1 ? 0 : std::size_t(k)]});
  return problems;
}

}  // namespace M3I_ABI
}  // namespace m3i
