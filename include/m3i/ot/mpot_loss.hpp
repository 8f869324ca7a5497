#pragma once
/// The mPOT loss: how far the partial transport plan between paired embeddings is from pairing each with its own.

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/ot/block_solver.hpp"
#include "m3i/ot/cost.hpp"
#include "m3i/ot/implicit.hpp"
#include "m3i/ot/partial_ot.hpp"
#include "m3i/ot/unrolled.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class OtGradient {
  implicit,  ///< of the solution, by its optimality conditions
  unrolled   ///< of the sweeps that were made; needs solver = dykstra
};

struct MpotOptions {
  double mass = 0.95;     ///< share of the batch that is transported, in (0, 1]
  double epsilon = 0.05;  ///< entropy weight, in units of the (scaled) cost
  CostOptions cost = {};
  OtLoss loss = OtLoss::kl;
  OtOptions solver = {};
  OtGradient gradient = OtGradient::implicit;
};

/// What the training log shows of one pair of modalities.
struct MpotPair {
  bool converged = false;
  bool degenerate = false;  ///< all costs are zero: no gradient
  double residual = 0;
  Index iterations = 0, active_rows = 0, active_cols = 0;
  double diagonal_mass = 0;                ///< of the plan; at most the mass, and equal to it for a perfect pairing
  double loss = 0, floor = 0, excess = 0;  ///< floor: what a perfect pairing gives; excess = loss - floor
  Tensor<double> plan;                     ///< [b, b]

  std::string text() const {
    return m3i::text(converged ? "converged" : "not converged", ", ", iterations, " iterations, active ", active_rows,
                     "+", active_cols, ", diagonal ", diagonal_mass, ", excess ", excess);
  }
};

template <class T>
struct MpotResult {
  Var<T> loss;  ///< scalar
  std::function<std::vector<MpotPair>()> report;

  /// One for each target, in their order. What was solved on a GPU is copied from there now, and not before: after the
  /// replay of a recorded step, it is what that replay found.
  std::vector<MpotPair> pairs() const { return report(); }
};

/// Whether mpot_loss() of b pairs stays on their device; see there.
inline bool mpot_stays_on(Device device, Index b, const MpotOptions& options) {
  const OtOptions& solver = options.solver;
  return device.kind != Device::Kind::cpu && b <= std::min(detail::ot_block_limit, solver.newton_limit) &&
         solver.solver == OtSolver::newton && solver.precision == OtPrecision::f64 && solver.tolerance >= 0 &&
         options.gradient == OtGradient::implicit;
}

namespace detail {

inline double mpot_floor(OtLoss kind, double mass, Index b) {
  const double kl = -std::log(mass);
  return kind == OtLoss::cross_entropy ? kl + std::log(double(b)) : kind == OtLoss::generalised ? kl + mass - 1 : kl;
}

/// x += dx, whatever the type and device of x.
template <class T>
void add_gradient(const Var<T>& x, const Tensor<double>& dx) {
  if (x.needs_grad()) gather_add(cast<T>(dx).to(x.device()), x.grad(), SameIndex{});
}

/// sum += x, which a first term becomes.
inline void add_term(const Tensor<double>& x, Tensor<double>& sum) {
  if (!sum.defined()) sum = x;
  else gather_add(x, sum, SameIndex{});
}

/// The shape [b, d] that all embeddings share.
template <class T>
void mpot_check_input(const std::string& name, const Var<T>& x, const Shape& expected) {
  ot_require(x.defined() && x.rank() == 2, "invalid_shape", "mpot_loss: ", name, " has shape ",
             x.defined() ? x.shape() : Shape{}, ", expected [b, d]");
  ot_require(x.size() > 0, "empty_input", "mpot_loss: ", name, " has shape ", x.shape(), " and holds nothing");
  ot_require(x.shape()[0] == expected[0], "not_square", "mpot_loss: ", name, " has ", x.shape()[0], " rows, x has ",
             expected[0], "; row i is paired with row i");
  ot_require(x.shape() == expected, "invalid_shape", "mpot_loss: ", name, " is ", x.shape(), ", x is ", expected);
}
/// Its values in double, on the device that works on them; on the host they are looked at.
template <class T>
Tensor<double> mpot_input(const std::string& name, const Var<T>& x, Device work) {
  const Tensor<double> values = cast<double>(x.value().to(work));
  if (work.kind == Device::Kind::cpu) ot_require_finite(("mpot_loss: " + name).c_str(), values);
  return values;
}

/// The problems of one loss, solved: the sum of their losses, its gradient by the cost of each, and what is reported.
struct MpotSolution {
  Tensor<double> loss;  ///< scalar, on the device that worked
  std::function<Tensor<double>(std::size_t)> slope;
  std::function<std::vector<MpotPair>()> report;
};

inline MpotSolution mpot_on_host(const std::vector<PairwiseCost>& costs, const MpotOptions& options) {
  std::vector<OtProblem> problems;
  for (const PairwiseCost& c : costs)
    problems.push_back({.cost = c.cost, .mass = options.mass, .epsilon = options.epsilon});
  OtOptions solver = options.solver;
  solver.keep_history = options.gradient == OtGradient::unrolled;
  const auto results =
      std::make_shared<const std::vector<OtResult>>(solve_partial_ot(std::span<const OtProblem>(problems), solver));
  const Index b = costs[0].cost.shape()[0];
  const Tensor<double> identity = ot_identity_target(b, b);
  std::vector<MpotPair> pairs;
  double total = 0;
  for (std::size_t k = 0; k < costs.size(); ++k) {
    const OtResult& r = (*results)[k];
    MpotPair pair;
    pair.converged = r.converged, pair.degenerate = !(costs[k].largest.item() > 0);
    pair.residual = r.residual, pair.iterations = r.iterations;
    pair.active_rows = r.active_rows, pair.active_cols = r.active_cols;
    pair.plan = r.plan();
    for (Index i = 0; i < b; ++i) pair.diagonal_mass += pair.plan.data()[i * (b + 1)];
    pair.loss = ot_loss(r, identity, options.loss);
    pair.floor = mpot_floor(options.loss, r.mass, b);
    pair.excess = pair.loss - pair.floor;
    total += pair.loss;
    pairs.push_back(std::move(pair));
  }
  const auto slope = [results, identity, implicit = options.gradient == OtGradient::implicit](std::size_t k) {
    const OtResult& r = (*results)[k];
    return implicit ? ot_implicit_gradient(r, identity) : ot_unrolled_gradient(r, identity);
  };
  return {Tensor<double>::scalar(total), slope, [pairs = std::move(pairs)] { return pairs; }};
}

/// The same by one team a problem, without a word to the host.
struct SumOfLosses {
  const OtBlockReport* reports;
  double* loss;
  Index count;
  M3I_HD void operator()(Index) const {
    *loss = 0;
    for (Index k = 0; k < count; ++k) *loss += reports[k].loss;
  }
};

inline MpotSolution mpot_in_blocks(const std::vector<PairwiseCost>& costs, const MpotOptions& options) {
  ot_check_scalars(options.mass, options.epsilon);
  ot_check_feasible(options.mass, 1, 1);
  const Device device = costs[0].cost.device();
  const Index count = Index(costs.size()), b = costs[0].cost.shape()[0];
  const Tensor<double> all({count, b, b}, device), plans(all.shape(), device), slopes(all.shape(), device);
  const Tensor<double> reports({count, OtBlockReport::count}, device), loss({}, device);
  for (Index k = 0; k < count; ++k) all[k].copy_from(costs[std::size_t(k)].cost);
  const double tolerance = options.solver.tolerance != 0 ? options.solver.tolerance : 1e-12;
  auto* const found = reinterpret_cast<OtBlockReport*>(reports.data());
  const OtBlock block{
      b,          options.mass, options.epsilon, tolerance, options.loss, ot_is_equality(options.mass, 1),
      all.data(), plans.data(), slopes.data(),   found};
  device_rows_with_scratch(device, count, OtBlock::State(block, 0, nullptr).bytes, block);
  for_each(device, 1, SumOfLosses{found, loss.data(), count});
  const auto report = [=, kind = options.loss, mass = options.mass] {
    std::vector<MpotPair> pairs;
    const Tensor<double> host = reports.to(Device::cpu());
    for (Index k = 0; k < count; ++k) {
      const auto& r = reinterpret_cast<const OtBlockReport*>(host.data())[k];
      MpotPair pair;
      pair.converged = r.converged > 0, pair.degenerate = !(costs[std::size_t(k)].largest.item() > 0);
      pair.residual = r.residual, pair.iterations = Index(r.steps);
      pair.active_rows = Index(r.active_rows), pair.active_cols = Index(r.active_cols);
      pair.diagonal_mass = r.diagonal_mass, pair.loss = r.loss;
      pair.floor = mpot_floor(kind, mass, b);
      pair.excess = pair.loss - pair.floor;
      pair.plan = plans[k].to(Device::cpu()).clone();
      pairs.push_back(std::move(pair));
    }
    return pairs;
  };
  return {loss, [slopes](std::size_t k) { return slopes[Index(k)]; }, report};
}

/// to = x * factor[0]
struct TimesScalar {
  const double *x, *factor;
  double* to;
  M3I_HD void operator()(Index i) const { to[i] = x[i] * *factor; }
};

template <class T>
void mpot_backward(const std::vector<PairwiseCost>& costs,
                   const MpotSolution& solution,
                   const Tensor<T>& dy,
                   const Var<T>& x,
                   const std::vector<Var<T>>& targets,
                   const Var<T>& metric) {
  const Device work = costs[0].cost.device();
  const Tensor<double> upstream = cast<double>(dy.to(work));
  Tensor<double> dx, dmetric;
  for (std::size_t k = 0; k < costs.size(); ++k) {
    const Tensor<double> slope = solution.slope(k), dcost(slope.shape(), work);
    for_each(work, slope.size(), TimesScalar{slope.data(), upstream.data(), dcost.data()});
    const CostGradient g = pairwise_cost_backward(costs[k], dcost);
    add_term(g.x, dx);
    if (g.metric.defined()) add_term(g.metric, dmetric);
    add_gradient(targets[k], g.y);
  }
  add_gradient(x, dx);
  if (metric.defined()) add_gradient(metric, dmetric);
}

}  // namespace detail

/// Sum over the targets Y of KL(I / b || plan(x, Y)), the plan being partial optimal transport of `mass` between the
/// rows of x and of Y, weights 1 / b each, cost the Mahalanobis distance of the shared metric.
///
///   x        [b, d]   volume embeddings
///   targets  [b, d] each, row i paired with row i of x (slice and text embeddings)
///   metric   [d, d], [k, d] or [d] as options.cost.metric says; undefined for euclidean
///   ->       scalar, and a report for each target
///
/// Gradients: x, each target, metric. Work in double for any T. On a GPU, batches of up to 128 are solved there, one
/// block of threads a pair, and nobody waits for the host, so that a CUDA graph can record the loss; what is wrong with
/// their values (infinity, a zero row, a metric with a negative eigenvalue) makes the loss NaN. Larger ones, and other
/// solvers than Newton's, work on copies on the host. There the pairs are solved in parallel, bits do not depend on the
/// threads, and such values throw OtError before any work.
/// Source: the Med3DInsight paper, section 3.4.1, with the entropy's sign turned (see OtProblem).
template <class T>
MpotResult<T> mpot_loss(const Var<T>& x,
                        const std::vector<Var<T>>& targets,
                        const Var<T>& metric,
                        const MpotOptions& options = {}) {
  const Operation operation("mpot_loss", x, metric);
  ot_require(!targets.empty(), "empty_input", "mpot_loss: no targets to pair x with");
  require<ConfigError>(options.gradient == OtGradient::implicit || options.solver.solver == OtSolver::dykstra,
                       "mpot_loss: the unrolled gradient differentiates dykstra sweeps; set solver = dykstra");
  const Var<T> used = options.cost.metric == Metric::euclidean ? Var<T>() : metric;
  require(used.defined() || options.cost.metric == Metric::euclidean, "mpot_loss: the metric is not defined");
  detail::mpot_check_input("x", x, x.shape());
  for (std::size_t k = 0; k < targets.size(); ++k) detail::mpot_check_input(text("target ", k), targets[k], x.shape());

  const bool in_blocks = mpot_stays_on(x.device(), x.shape()[0], options);
  const Device work = in_blocks ? x.device() : Device::cpu();
  const Tensor<double> rows = detail::mpot_input("x", x, work);
  const Tensor<double> weights = used.defined() ? cast<double>(used.value().to(work)) : Tensor<double>();
  std::vector<PairwiseCost> costs;
  for (std::size_t k = 0; k < targets.size(); ++k)
    costs.push_back(
        pairwise_cost(rows, detail::mpot_input(text("target ", k), targets[k], work), weights, options.cost));
  const auto solution = in_blocks ? detail::mpot_in_blocks(costs, options) : detail::mpot_on_host(costs, options);

  std::vector<Var<T>> inputs{x};
  inputs.insert(inputs.end(), targets.begin(), targets.end());
  if (used.defined()) inputs.push_back(used);
  const Var<T> loss = record<T>("mpot_loss", cast<T>(solution.loss).to(x.device()), inputs, [=](const Tensor<T>& dy) {
    detail::mpot_backward(costs, solution, dy, x, targets, used);
  });
  return {loss, solution.report};
}

/// The paper's two pairs: volume with slice, volume with text.
template <class T>
MpotResult<T> mpot_loss(
    const Var<T>& x, const Var<T>& slices, const Var<T>& texts, const Var<T>& metric, const MpotOptions& options = {}) {
  return mpot_loss(x, std::vector<Var<T>>{slices, texts}, metric, options);
}

/// The same for frozen slice and text embeddings.
template <class T>
MpotResult<T> mpot_loss(const Var<T>& x,
                        const Tensor<T>& slices,
                        const Tensor<T>& texts,
                        const Var<T>& metric,
                        const MpotOptions& options = {}) {
  return mpot_loss(x, std::vector<Var<T>>{Var<T>(slices), Var<T>(texts)}, metric, options);
}

/// The identity [d, d]: the metric that training starts from.
template <class T>
Tensor<T> identity_metric(Index d, Device device = Device::cpu()) {
  std::vector<T> values(std::size_t(d * d), T(0.0f));
  for (Index i = 0; i < d; ++i) values[std::size_t(i * (d + 1))] = T(1.0f);
  return Tensor<T>::from(values, {d, d}, device);
}

}  // namespace M3I_ABI
}  // namespace m3i
