#pragma once
/// The mPOT loss: how far the partial transport plan between paired embeddings is from pairing each with its own.

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/gather.hpp"
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
  Var<T> loss;                  ///< scalar
  std::vector<MpotPair> pairs;  ///< one for each target, in their order
};

namespace detail {

/// One pair between forward and backward.
struct MpotState {
  PairwiseCost cost;
  OtResult result;
};

inline double mpot_floor(OtLoss kind, double mass, Index b) {
  const double kl = -std::log(mass);
  return kind == OtLoss::cross_entropy ? kl + std::log(double(b)) : kind == OtLoss::generalised ? kl + mass - 1 : kl;
}

inline MpotPair mpot_report(const MpotState& state, const Tensor<double>& target, OtLoss kind) {
  const OtResult& r = state.result;
  const Index b = target.shape()[0];
  MpotPair pair;
  pair.converged = r.converged, pair.degenerate = !(state.cost.largest.item() > 0);
  pair.residual = r.residual, pair.iterations = r.iterations;
  pair.active_rows = r.active_rows, pair.active_cols = r.active_cols;
  pair.plan = r.plan();
  for (Index i = 0; i < b; ++i) pair.diagonal_mass += pair.plan.data()[i * (b + 1)];
  pair.loss = ot_loss(r, target, kind);
  pair.floor = mpot_floor(kind, r.mass, b);
  pair.excess = pair.loss - pair.floor;
  return pair;
}

/// x += dx, whatever the type and device of x.
template <class T>
void add_host_gradient(const Var<T>& x, const Tensor<double>& dx) {
  if (x.needs_grad()) gather_add(cast<T>(dx).to(x.device()), x.grad(), SameIndex{});
}

/// sum += x, which a first term becomes.
inline void add_term(const Tensor<double>& x, Tensor<double>& sum) {
  if (!sum.defined()) sum = x;
  else gather_add(x, sum, SameIndex{});
}

template <class T>
Tensor<double> mpot_input(const std::string& name, const Var<T>& x, const Shape& expected) {
  ot_require(x.defined() && x.rank() == 2, "invalid_shape", "mpot_loss: ", name, " has shape ",
             x.defined() ? x.shape() : Shape{}, ", expected [b, d]");
  ot_require(x.size() > 0, "empty_input", "mpot_loss: ", name, " has shape ", x.shape(), " and holds nothing");
  ot_require(x.shape()[0] == expected[0], "not_square", "mpot_loss: ", name, " has ", x.shape()[0], " rows, x has ",
             expected[0], "; row i is paired with row i");
  ot_require(x.shape() == expected, "invalid_shape", "mpot_loss: ", name, " is ", x.shape(), ", x is ", expected);
  const Tensor<double> host = cast<double>(x.value().to(Device::cpu()));
  ot_require_finite(("mpot_loss: " + name).c_str(), host);
  return host;
}

template <class T>
void mpot_backward(const std::vector<MpotState>& states,
                   const Tensor<double>& identity,
                   OtGradient kind,
                   double scale,
                   const Var<T>& x,
                   const std::vector<Var<T>>& targets,
                   const Var<T>& metric) {
  Tensor<double> dx, dmetric;
  for (std::size_t k = 0; k < states.size(); ++k) {
    const MpotState& s = states[k];
    const Tensor<double> dcost = kind == OtGradient::implicit ? ot_implicit_gradient(s.result, identity)
                                                              : ot_unrolled_gradient(s.result, identity);
    for (double& v : dcost.span()) v *= scale;
    const CostGradient g = pairwise_cost_backward(s.cost, dcost);
    add_term(g.x, dx);
    if (g.metric.defined()) add_term(g.metric, dmetric);
    add_host_gradient(targets[k], g.y);
  }
  add_host_gradient(x, dx);
  if (metric.defined()) add_host_gradient(metric, dmetric);
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
/// Gradients: x, each target, metric. Host work in double for any T; on a GPU only the embeddings are copied. The pairs
/// are solved in parallel; bits do not depend on the threads. Throws OtError before any work.
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
  const Index b = x.rank() == 2 ? x.shape()[0] : 0;
  const Tensor<double> host_x = detail::mpot_input("x", x, x.shape());
  const Tensor<double> host_metric = used.defined() ? cast<double>(used.value().to(Device::cpu())) : Tensor<double>();
  const auto states = std::make_shared<std::vector<detail::MpotState>>();
  std::vector<OtProblem> problems;
  for (std::size_t k = 0; k < targets.size(); ++k) {
    const Tensor<double> y = detail::mpot_input(text("target ", k), targets[k], x.shape());
    states->push_back({pairwise_cost(host_x, y, host_metric, options.cost), {}});
    problems.push_back({.cost = states->back().cost.cost, .mass = options.mass, .epsilon = options.epsilon});
  }
  OtOptions solver = options.solver;
  solver.keep_history = options.gradient == OtGradient::unrolled;
  std::vector<OtResult> results = solve_partial_ot(std::span<const OtProblem>(problems), solver);
  const Tensor<double> identity = ot_identity_target(b, b);
  MpotResult<T> out;
  double total = 0;
  for (std::size_t k = 0; k < targets.size(); ++k) {
    (*states)[k].result = std::move(results[k]);
    out.pairs.push_back(detail::mpot_report((*states)[k], identity, options.loss));
    total += out.pairs.back().loss;
  }
  std::vector<Var<T>> inputs{x};
  inputs.insert(inputs.end(), targets.begin(), targets.end());
  if (used.defined()) inputs.push_back(used);
  out.loss = record<T>("mpot_loss", cast<T>(Tensor<double>::scalar(total)).to(x.device()), inputs,
                       [=, kind = options.gradient](const Tensor<T>& dy) {
                         const double scale = cast<double>(dy.to(Device::cpu())).item();
                         detail::mpot_backward(*states, identity, kind, scale, x, targets, used);
                       });
  return out;
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
