#pragma once
/// The whole problem of a small batch in one team: the plan, the loss and its gradient with respect to the cost, with
/// no word to the host in between. The same method as newton.hpp with the weights 1 / n of mPOT: epsilon scaling,
/// water-filling sweeps, Newton on the dual with a primal-dual active set, and the implicit gradient.

#include <cstdint>
#include <limits>

#include "m3i/ot/block_system.hpp"
#include "m3i/ot/implicit.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// The largest problem that a team solves: its system then fits into the shared memory of a GPU's block.
inline constexpr Index ot_block_limit = 128;

/// What a team reports of a problem, as doubles.
struct OtBlockReport {
  double loss, residual, converged, steps, active_rows, active_cols, diagonal_mass;
  static constexpr Index count = 7;
};

/// One team a problem: costs [P, n, n], plans [P, n, n], gradients of the losses [P, n, n], reports [P].
struct OtBlock {
  Index n;
  double mass, epsilon, tolerance;
  OtLoss kind;
  bool balanced;  ///< the mass is all there is
  const double* costs;
  double *plans, *slopes;
  OtBlockReport* reports;

  /// One side of the problem: its potentials and what belongs to them, [n] each, in units of the present epsilon.
  struct Side {
    double *z, *lse, *tau, *tail, *sums, *d, *h, *rhs, *free, *order;
    M3I_HD void cut(BlockCutter& from, Index size) {
      for (double** const v : {&z, &lse, &tau, &tail, &sums, &d, &h, &rhs, &free, &order}) *v = from.line<double>(size);
    }
  };
  struct State {
    Side rows, cols;
    BlockSystem system;
    const double* cost;
    double* plan;
    Index n, bytes;
    double w, log_w, mass, low;            ///< weight of a row or column; the smallest cost
    double inverse = 0, t = 0, total = 0;  ///< 1 / epsilon of the stage, lambda, sum of the plan
    double dt = 0, ht = 0;
    bool balanced;

    M3I_HD State(const OtBlock& own, Index problem, std::byte* base)
        : cost(own.costs + problem * own.n * own.n),
          plan(own.plans + problem * own.n * own.n),
          n(own.n),
          w((own.balanced ? own.mass : 1.0) / double(own.n)),
          log_w(math::log(w)),
          mass(own.mass),
          low(0),
          balanced(own.balanced) {
      BlockCutter cutter{base};
      rows.cut(cutter, n), cols.cut(cutter, n), system.cut(cutter, n);
      bytes = cutter.bytes;
    }
    M3I_HD BlockHessian hessian(bool has_lambda) const {
      return {plan, rows.sums, cols.sums, total, rows.free, cols.free, has_lambda};
    }
    M3I_HD double kernel(Index i, Index j) const { return (low - cost[i * n + j]) * inverse; }
  };

  template <class Team>
  M3I_HD void operator()(Team team, Index problem, std::byte* scratch) const {
    State s(*this, problem, scratch);
    const double* c = s.cost;
    const Index size = n * n, across = n;
    const double wrong = team.sum(size, [=](Index k) { return c[k] - c[k]; });  // 0, or NaN if any is not finite
    if (wrong != 0) return give_up(team, problem);
    s.low = -team.max(size, [=](Index k) { return -c[k]; });
    const double range = team.max(size, [=](Index k) { return c[k]; }) - s.low;
    const double wanted = math::max(tolerance, std::numeric_limits<double>::epsilon() * range / epsilon);
    const double left = balanced ? 1 : 1 / mass - 1;  // fine enough to see the mass that stays behind
    const double early = math::max(wanted, math::min(1e-2, left / 4));

    const Side rows = s.rows, cols = s.cols;
    team.each(across, [=](Index i) { rows.z[i] = cols.z[i] = 0; });
    OtBlockReport report{};
    for (double now = math::max(epsilon, range / 2);;) {
      s.inverse = 1 / now;
      const bool last = now == epsilon;
      stage(team, s, last ? wanted : early, report);
      if (last) break;
      const double next = math::max(epsilon, now / 2), factor = now / next;
      team.each(across, [=](Index i) { rows.z[i] *= factor, cols.z[i] *= factor; });
      s.t *= factor, now = next;
    }
    finish(team, s, problem, report);
  }

 private:
  /// Costs that are not finite: the loss and its gradient say so.
  template <class Team>
  M3I_HD void give_up(Team team, Index problem) const {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    double *plan = plans + problem * n * n, *slope = slopes + problem * n * n;
    OtBlockReport* const to = reports + problem;
    team.each(n * n, [=](Index k) { plan[k] = slope[k] = nan; });
    team.each(1, [=](Index) { *to = {nan, nan, 0, 0, 0, 0, nan}; });
  }

  /// log sum_j exp(L_ij + b_j) for each row, or the same for columns.
  template <bool by_rows, class Team>
  M3I_HD static void log_sums(Team team, const State& s) {
    const Index n = s.n;
    const double* other = by_rows ? s.cols.z : s.rows.z;
    double* out = by_rows ? s.rows.lse : s.cols.lse;
    team.each(n, [=](Index i) {
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      const auto at = [&](Index j) { return (by_rows ? s.kernel(i, j) : s.kernel(j, i)) + other[j]; };
      for (Index j = 0; j < n; ++j) top = math::max(top, at(j));
      for (Index j = 0; j < n; ++j) sum += math::exp(at(j) - top);
      out[i] = top + math::log(sum);
    });
  }

  /// As water_fill() of sweeps.hpp. Weights are equal, so the order of tau is that of the log-sums, falling, and place
  /// k of it and the level that stops there can be found for all k at once.
  template <class Team>
  M3I_HD static void water_fill(Team team, State& s, const Side& side) {
    const Index n = s.n;
    const double w = s.w, log_w = s.log_w, mass = s.mass;
    team.each(n, [=](Index i) { side.tau[i] = log_w - side.lse[i]; });
    if (s.balanced) return team.each(n, [=](Index i) { side.z[i] = side.tau[i]; });
    team.each(n, [=](Index i) {
      Index place = 0;
      for (Index j = 0; j < n; ++j) place += side.tau[j] < side.tau[i] || (side.tau[j] == side.tau[i] && j < i);
      side.order[place] = side.lse[i];
    });
    team.each(n, [=](Index k) {
      double sum = 0;
      for (Index e = k; e < n; ++e) sum += math::exp(side.order[e] - side.order[k]);
      const double tail = side.order[k] + math::log(sum), next = log_w - side.order[k];
      const double level = math::log(mass - double(k) * w) - tail;
      const bool emptied = !(mass - double(k + 1) * w > 0);  // only by rounding: then this one is just full
      side.tail[k] = level <= next ? level : next;
      side.h[k] = level <= next || emptied || k + 1 == n ? 1 : 0;
      if (!emptied && k + 1 == n) side.tail[k] = level;
    });
    const Index stop = Index(-team.max(n, [=](Index k) { return side.h[k] > 0 ? -double(k) : -double(n); }));
    const double level = s.t = side.tail[stop];
    team.each(n, [=](Index i) { side.z[i] = math::min(0.0, side.tau[i] - level); });
  }

  template <class Team>
  M3I_HD static void sweep(Team team, State& s) {
    log_sums<true>(team, s);
    water_fill(team, s, s.rows);
    log_sums<false>(team, s);
    water_fill(team, s, s.cols);
  }

  /// The plan and its sums at the present potentials.
  template <class Team>
  M3I_HD static void make_plan(Team team, State& s) {
    const Index n = s.n;
    const State own = s;
    each_cell(team, n, n, [=](Index i, Index j) {
      own.plan[i * n + j] = math::exp(own.kernel(i, j) + own.cols.z[j] + (own.rows.z[i] + own.t));
    });
    team.each(2 * n, [=](Index e) {
      const Index i = e % n;
      double sum = 0;
      for (Index j = 0; j < n; ++j) sum += own.plan[e < n ? i * n + j : j * n + i];
      (e < n ? own.rows : own.cols).sums[i] = sum;
    });
    s.total = team.sum(n, [=](Index i) { return own.rows.sums[i]; });
  }

  template <class Team>
  M3I_HD static double residual(Team team, const State& s) {
    const Index n = s.n;
    const State own = s;
    const double sides = team.sum(2 * n, [=](Index e) {
      const Side& side = e < n ? own.rows : own.cols;
      const double gap = side.sums[e % n] - own.w;
      return own.balanced || side.z[e % n] < 0 ? math::abs(gap) : math::max(0.0, gap);
    });
    return sides + math::abs(s.total - s.mass);
  }

  /// Two water-filling sweeps, test, Newton step, until the residual is at most `tolerance` times the mass.
  template <class Team>
  M3I_HD static void stage(Team team, State& s, double tolerance, OtBlockReport& report) {
    for (int steps = 0;; ++steps) {
      sweep(team, s);
      sweep(team, s);
      make_plan(team, s);
      report.residual = residual(team, s);
      report.converged = report.residual <= tolerance * s.mass ? 1 : 0;
      if (report.converged > 0 || steps == 40) return;
      newton_step(team, s);
      ++report.steps;
    }
  }

  /// H d for the whole step.
  template <class Team>
  M3I_HD static void multiply_step(Team team, State& s) {
    const Index n = s.n;
    const State own = s;
    team.each(2 * n, [=](Index e) {
      const Index i = e % n;
      const Side &side = e < n ? own.rows : own.cols, &other = e < n ? own.cols : own.rows;
      double sum = side.sums[i] * (side.d[i] + own.dt);
      for (Index j = 0; j < n; ++j) sum += own.plan[e < n ? i * n + j : j * n + i] * other.d[j];
      side.h[i] = sum;
    });
    s.ht = s.total * s.dt +
           team.sum(n, [=](Index i) { return own.rows.sums[i] * own.rows.d[i] + own.cols.sums[i] * own.cols.d[i]; });
  }

  /// Solves for the free part of the step while the bounded part goes to its bound (or, for the one column that fixes
  /// the gauge of a balanced problem, stays).
  template <class Team>
  M3I_HD static void solve_step(Team team, State& s) {
    const Index n = s.n;
    s.dt = 0;
    const State own = s;
    team.each(2 * n, [=](Index e) {
      const Side& side = e < n ? own.rows : own.cols;
      const bool fixed = own.balanced && e == 2 * n - 1;
      side.d[e % n] = side.free[e % n] > 0 || fixed ? 0 : -side.z[e % n];
    });
    multiply_step(team, s);  // H_FB d_B on the free entries
    team.each(2 * n, [=](Index e) {
      const Side& side = e < n ? own.rows : own.cols;
      side.rhs[e % n] = own.w - side.sums[e % n] - side.h[e % n];
      side.tail[e % n] = side.d[e % n];
    });
    const BlockHessian hessian = s.hessian(!s.balanced);
    s.system.factor(team, hessian);
    s.dt = s.system.solve(team, hessian, s.rows.rhs, s.cols.rhs, s.mass - s.total - s.ht, s.rows.d, s.cols.d);
    team.each(2 * n, [=](Index e) {
      const Side& side = e < n ? own.rows : own.cols;
      if (!(side.free[e % n] > 0)) side.d[e % n] = side.tail[e % n];
    });
  }

  /// As keep_one_bounded() of newton.hpp: of a side that is all free, the highest potential is bounded.
  template <class Team>
  M3I_HD static void keep_one_bounded(Team team, Index n, const Side& side) {
    if (team.sum(n, [=](Index i) { return side.free[i]; }) < double(n)) return;
    const double top = team.max(n, [=](Index i) { return side.z[i] + side.d[i]; });
    const double first = -team.max(n, [=](Index i) { return side.z[i] + side.d[i] == top ? -double(i) : -double(n); });
    team.each(1, [=](Index) { side.free[Index(first) < n ? Index(first) : 0] = 0; });
  }

  /// The set of free potentials as a number, to notice that one comes back.
  template <class Team>
  M3I_HD static std::uint64_t free_set_hash(Team team, const State& s) {
    const Index n = s.n;
    const State own = s;
    return team.sum(2 * n, [=](Index e) {
      const double free = (e < n ? own.rows : own.cols).free[e % n];
      std::uint64_t x = (std::uint64_t(e) + 1) * 0x9e3779b97f4a7c15u;  // splitmix64
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
      x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
      return free > 0 ? x ^ (x >> 31) : std::uint64_t(0);
    });
  }

  /// As newton_direction() of newton.hpp.
  template <class Team>
  M3I_HD static void find_direction(Team team, State& s) {
    const Index n = s.n;
    const State own = s;
    team.each(2 * n, [=](Index e) {
      const Side& side = e < n ? own.rows : own.cols;
      const bool gauge = own.balanced && e == 2 * n - 1;
      side.free[e % n] = !gauge && (own.balanced || side.z[e % n] < 0 || side.sums[e % n] > own.w) ? 1 : 0;
      side.d[e % n] = 0;
    });
    if (!s.balanced) keep_one_bounded(team, n, s.rows), keep_one_bounded(team, n, s.cols);
    constexpr int most = 30;
    std::uint64_t seen[most];
    bool repeated = false;
    for (int round = 0; !repeated && round < most; ++round) {
      seen[round] = free_set_hash(team, s);
      solve_step(team, s);
      multiply_step(team, s);
      if (!s.balanced) {  // potentials move between the free and the bounded set by the signs of the model's solution
        team.each(2 * n, [=](Index e) {
          const Side& side = e < n ? own.rows : own.cols;
          const Index i = e % n;
          const bool stays = side.free[i] > 0 ? side.z[i] + side.d[i] < 0 : side.sums[i] - own.w + side.h[i] > 0;
          side.free[i] = stays ? 1 : 0;
        });
        keep_one_bounded(team, n, s.rows), keep_one_bounded(team, n, s.cols);
      }
      const std::uint64_t now = free_set_hash(team, s);
      for (int k = 0; k <= round; ++k) repeated |= seen[k] == now;
    }
    if (!s.balanced)
      team.each(2 * n, [=](Index e) {
        const Side& side = e < n ? own.rows : own.cols;
        side.d[e % n] = math::min(side.d[e % n], -side.z[e % n]);
      });
  }

  /// Minus the dual at the present potentials plus h times the step.
  template <class Team>
  M3I_HD static double objective(Team team, const State& s, double h) {
    const Index n = s.n;
    const State own = s;
    const double bounds = team.sum(2 * n, [=](Index e) {
      const Side& side = e < n ? own.rows : own.cols;
      return (side.z[e % n] + h * side.d[e % n]) * own.w;
    });
    const double all = team.sum(n * n, [=](Index k) {
      const Index i = k / n, j = k % n;
      return math::exp(own.kernel(i, j) + (own.cols.z[j] + h * own.cols.d[j]) + own.rows.z[i] + own.t +
                       h * (own.rows.d[i] + own.dt));
    });
    return all - bounds - (s.balanced ? 0 : (s.t + h * s.dt) * s.mass);
  }

  /// One damped step: no entry of the log plan moves by more than 20; halved until the objective falls enough.
  template <class Team>
  M3I_HD static void newton_step(Team team, State& s) {
    find_direction(team, s);
    const Index n = s.n;
    const State own = s;
    const double slope = s.dt * (s.total - s.mass) + team.sum(2 * n, [=](Index e) {
      const Side& side = e < n ? own.rows : own.cols;
      return side.d[e % n] * (side.sums[e % n] - own.w);
    });
    const auto highest = [&](const Side& side, double sign) {
      return sign * team.max(n, [=](Index i) { return sign * side.d[i]; });
    };
    const double up = highest(s.rows, 1) + highest(s.cols, 1) + s.dt,
                 down = highest(s.rows, -1) + highest(s.cols, -1) + s.dt;
    const double largest = math::max(math::abs(up), math::abs(down));
    if (!math::is_finite(largest)) return;
    double h = largest > 20 ? 20 / largest : 1;
    const double before = objective(team, s, 0);
    for (int halving = 0; halving < 60; ++halving, h /= 2) {
      if (!(objective(team, s, h) <= before + 1e-4 * h * slope + 4e-16 * math::abs(before))) continue;
      team.each(2 * n, [=](Index e) {
        const Side& side = e < n ? own.rows : own.cols;
        side.z[e % n] += h * side.d[e % n];
      });
      s.t += h * s.dt;
      return;
    }
  }

  /// Loss, gradient and report at the solution, whose plan is there.
  template <class Team>
  M3I_HD void finish(Team team, State& s, Index problem, OtBlockReport report) const {
    const Index m = n;
    const State own = s;
    const double target = 1 / double(m), unit = 1 / epsilon, log_target = -math::log(double(m));
    const double cross =
        -target * team.sum(m, [=](Index i) { return own.kernel(i, i) + (own.rows.z[i] + own.cols.z[i] + own.t); });
    report.diagonal_mass = team.sum(m, [=](Index i) { return own.plan[i * m + i]; });
    report.loss =
        kind == OtLoss::cross_entropy ? cross : cross + log_target + (kind == OtLoss::generalised ? mass - 1 : 0.0);

    // The active constraints determine the potentials; when all of a side are, lambda is none more, and when all of
    // both are, neither is one of the columns.
    team.each(2 * m, [=](Index e) {
      const Side& side = e < m ? own.rows : own.cols;
      side.free[e % m] = own.balanced || side.z[e % m] < 0 ? 1 : 0;
      side.rhs[e % m] = target;
    });
    report.active_rows = team.sum(m, [=](Index i) { return own.rows.free[i]; });
    report.active_cols = team.sum(m, [=](Index i) { return own.cols.free[i]; });
    const bool all_rows = report.active_rows == double(m), all_cols = report.active_cols == double(m);
    if (all_rows && all_cols) team.each(1, [=](Index) { own.cols.free[m - 1] = 0; });
    const BlockHessian hessian = s.hessian(!all_rows && !all_cols);
    s.system.factor(team, hessian);
    const double lambda = s.system.solve(team, hessian, s.rows.rhs, s.cols.rhs, 1, s.rows.d, s.cols.d);
    double* slope = slopes + problem * m * m;
    each_cell(team, m, m, [=](Index i, Index j) {
      const double level = own.rows.d[i] + own.cols.d[j] + lambda;
      slope[i * m + j] = ((i == j ? target : 0.0) - own.plan[i * m + j] * level) * unit;
    });
    OtBlockReport* const to = reports + problem;
    team.each(1, [=](Index) { *to = report; });
  }
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
