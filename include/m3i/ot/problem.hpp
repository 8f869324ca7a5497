#pragma once
/// Entropic partial optimal transport: the problem, its options, its result, and what is refused.
///
///     plan = argmin <plan, C> + eps sum plan log plan   over plan >= 0, plan 1 <= p, plan^T 1 <= q, sum plan = mass
///
/// The plan is exp((f_i + g_j + lambda - C_ij) / eps) with f, g <= 0; f_i < 0 only where row i is full, g_j likewise.
/// Benamou et al. 2015, SIAM J. Sci. Comput. 37(2).

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/math.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A transport problem, cost or loss that cannot be worked on. `category` is one of empty_input, invalid_shape,
/// not_square, non_finite_input, invalid_epsilon, invalid_mass, infeasible_mass, negative_weight, invalid_target,
/// infinite_loss, not_positive_semidefinite.
struct OtError : Error {
  OtError(std::string category_, const std::string& message) : Error(message), category(std::move(category_)) {}
  std::string category;
};

template <class... Parts>
void ot_require(bool ok, const char* category, const Parts&... parts) {
  if (!ok) [[unlikely]]
    throw OtError(category, text(parts...));
}

/// One problem. Tensors on any device; the solver works on copies in host memory.
struct OtProblem {
  Tensor<double> cost;    ///< [n, m]
  Tensor<double> p = {};  ///< [n] >= 0, what each row may send; undefined = 1/n each
  Tensor<double> q = {};  ///< [m] >= 0, what each column may receive; undefined = 1/m each
  double mass = 0.95;     ///< what is transported in all: 0 < mass <= min(sum p, sum q)
  double epsilon = 0.05;  ///< entropy weight, in the unit of the cost
};

enum class OtSolver {
  newton,         ///< Newton on the dual with epsilon scaling; above `OtOptions::newton_limit`, water_filling
  water_filling,  ///< alternating exact maximisation over one side and lambda, with epsilon scaling
  dykstra         ///< rows, columns, mass in turn: the iteration of POT's entropic_partial_wasserstein
};

/// What the sweeps compute in. Newton always works in double.
enum class OtPrecision { f64, f32 };

struct OtOptions {
  OtSolver solver = OtSolver::newton;
  OtPrecision precision = OtPrecision::f64;
  double tolerance = 0;  ///< residual / mass at which a problem is solved; 0: 1e-12 in f64, 1e-5 in f32; < 0: never
  Index max_sweeps = 0;  ///< 0: 1000 for dykstra, 5000 for water_filling
  Index newton_limit = 1024;  ///< the largest max(n, m) that Newton is used for
  bool keep_history = false;  ///< dykstra: keep every sweep, for the unrolled gradient
};

/// Every sweep of a Dykstra run, in units of eps, on the rows and columns of positive weight.
struct OtHistory {
  Index rows = 0, cols = 0, sweeps = 0;
  std::vector<Index> row_ids, col_ids;  ///< of the problem's rows and columns
  std::vector<double> kernel;           ///< -C / eps, [rows, cols]
  std::vector<double> a, row_lse;       ///< [sweeps, rows]
  std::vector<double> b, col_lse;       ///< [sweeps, cols]
};

/// The solution, in cost units and host memory. Not converging is a status, not an error.
struct OtResult {
  Tensor<double> log_plan;  ///< [n, m]; -infinity where a weight is zero
  Tensor<double> f, g;      ///< [n], [m]; -infinity where the weight is zero; max f = 0 if every row is full (g alike)
  double lambda = 0;
  double mass = 0, epsilon = 0;
  double residual = 0;  ///< what the optimality conditions are violated by, in all
  bool converged = false;
  Index iterations = 0;  ///< Newton steps, or sweeps for the other solvers
  Index sweeps = 0;
  bool row_equality = false, col_equality = false;  ///< mass = sum p, mass = sum q
  Index active_rows = 0, active_cols = 0;  ///< constraints that hold with f_i < 0, g_j < 0; all on an equality side
  OtSolver solver = OtSolver::newton;      ///< that was used
  std::shared_ptr<const OtHistory> history;

  Tensor<double> plan() const {
    Tensor<double> out(log_plan.shape());
    const double* M3I_RESTRICT from = log_plan.data();
    double* M3I_RESTRICT to = out.data();
    const Index size = out.size();
    M3I_SIMD
    for (Index i = 0; i < size; ++i) to[i] = math::exp(from[i]);
    return out;
  }
};

namespace detail {

inline Tensor<double> ot_uniform(Index n) { return Tensor<double>::full({n}, 1 / double(n)); }

/// Throws OtError at the first NaN or infinity.
inline void ot_require_finite(const char* what, const Tensor<double>& x) {
  const double* values = x.data();
  const Index size = x.size();
  double rest = 0;  // v - v is 0 for every finite v, and NaN else
  M3I_SIMD_REDUCE(+, rest)
  for (Index i = 0; i < size; ++i) rest += values[i] - values[i];
  if (rest == 0) return;
  for (Index i = 0; i < size; ++i) {
    if (math::is_finite(values[i])) [[likely]]
      continue;
    std::string where;
    for (Index axis = x.rank() - 1, inner = i; axis >= 0; --axis) {
      const Index extent = x.shape()[int(axis)];
      where = text(inner % extent, where.empty() ? "" : ", ", where);
      inner /= extent;
    }
    ot_require(false, "non_finite_input", what, "[", where, "] is ", values[i],
               "; every value must be finite (leave a pair out by a weight of zero, not by an infinite cost)");
  }
}

inline double ot_sum(const Tensor<double>& x) {
  double total = 0;
  for (const double v : x.span()) total += v;
  return total;
}

/// The smallest and the largest of n > 0 values.
inline std::pair<double, double> ot_range(const double* values, Index n) {
  double low = values[0], high = values[0];
  M3I_SIMD_REDUCE(min, low)
  for (Index k = 0; k < n; ++k) low = math::min(low, values[k]);
  M3I_SIMD_REDUCE(max, high)
  for (Index k = 0; k < n; ++k) high = math::max(high, values[k]);
  return {low, high};
}

inline void ot_check_weight(const char* name, const char* side, const Tensor<double>& w, Index n) {
  ot_require(w.rank() == 1 && w.size() == n, "invalid_shape", "partial_ot: ", name, " has shape ", w.shape(),
             ", the cost has ", n, " ", side);
  ot_require_finite(text("partial_ot: ", name).c_str(), w);
  for (Index i = 0; i < n; ++i)
    ot_require(w.data()[i] >= 0, "negative_weight", "partial_ot: ", name, "[", i, "] = ", w.data()[i],
               " is negative; a weight is the mass that a point may carry");
}

inline void ot_check_scalars(double mass, double epsilon) {
  ot_require(epsilon > 0 && math::is_finite(epsilon), "invalid_epsilon", "partial_ot: epsilon is ", epsilon,
             "; expected a positive number in the unit of the cost, such as 0.05");
  ot_require(mass > 0 && math::is_finite(mass), "invalid_mass", "partial_ot: the mass is ", mass,
             "; expected a positive number");
}
inline void ot_check_feasible(double mass, double sum_p, double sum_q) {
  ot_require(mass <= std::min(sum_p, sum_q) * (1 + 1e-9), "infeasible_mass", "partial_ot: a mass of ", mass,
             " cannot be transported, p sums to ", sum_p, " and q to ", sum_q);
}

/// Copies in host memory with the defaults filled in, after every check that needs no target.
inline OtProblem ot_checked(const OtProblem& given) {
  ot_require(given.cost.size() > 0, "empty_input", "partial_ot: the cost has shape ", given.cost.shape(),
             "; it needs at least one row and one column");
  ot_require(given.cost.rank() == 2, "invalid_shape", "partial_ot: the cost has shape ", given.cost.shape(),
             ", expected [n, m]");
  OtProblem problem = given;
  problem.cost = given.cost.to(Device::cpu());
  const Index n = problem.cost.shape()[0], m = problem.cost.shape()[1];
  problem.p = given.p.defined() ? given.p.to(Device::cpu()) : ot_uniform(n);
  problem.q = given.q.defined() ? given.q.to(Device::cpu()) : ot_uniform(m);
  ot_check_scalars(given.mass, given.epsilon);
  ot_check_weight("p", "rows", problem.p, n);
  ot_check_weight("q", "columns", problem.q, m);
  ot_require_finite("partial_ot: cost", problem.cost);
  const double sum_p = ot_sum(problem.p), sum_q = ot_sum(problem.q);
  ot_check_feasible(given.mass, sum_p, sum_q);
  return problem;
}

/// The regime rule of the whole library: is the mass all that this side has?
inline bool ot_is_equality(double mass, double total) { return std::abs(mass - total) <= 1e-9 * total; }

}  // namespace detail

/// The default target: the identity over b, which asks that sample i goes to sample i.
inline Tensor<double> ot_identity_target(Index n, Index m) {
  ot_require(n == m, "not_square", "ot_loss: the default target pairs row i with column i, the cost is [", n, ", ", m,
             "]; give a target");
  Tensor<double> target = Tensor<double>::zeros({n, n});
  for (Index i = 0; i < n; ++i) target.data()[i * (n + 1)] = 1 / double(n);
  return target;
}

}  // namespace M3I_ABI
}  // namespace m3i
