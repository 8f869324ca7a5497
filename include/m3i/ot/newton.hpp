#pragma once
/// Newton on the dual of partial transport, with bounds by a primal-dual active set and epsilon scaling.

#include <array>
#include <cstdint>
#include <vector>

#include "m3i/ot/dual_system.hpp"
#include "m3i/ot/sweeps.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

struct NewtonWorkspace {
  std::vector<double> plan, r, c;                    ///< exp(L + a + b + t) and its sums
  std::vector<double> da, db, rhs_a, rhs_b, ha, hb;  ///< step, right-hand side, H times step
  std::vector<unsigned char> row_free, col_free;
  double total = 0, dt = 0, ht = 0;
  DualSystem system;

  void resize(Index n, Index m) {
    plan.resize(std::size_t(n * m));
    for (auto* v : {&r, &da, &rhs_a, &ha}) v->assign(std::size_t(n), 0.0);
    for (auto* v : {&c, &db, &rhs_b, &hb}) v->assign(std::size_t(m), 0.0);
    row_free.assign(std::size_t(n), 0);
    col_free.assign(std::size_t(m), 0);
    system.resize(n, m);
  }
};

/// The plan and its sums at the present potentials.
inline void newton_plan(const OtState<double>& s, NewtonWorkspace& w) {
  std::fill(w.c.begin(), w.c.end(), 0.0);
  w.total = 0;
  const double* b = s.b.data();
  double* M3I_RESTRICT c = w.c.data();
  for (Index i = 0; i < s.n; ++i) {
    const double* row = s.kernel.data() + i * s.m;
    double* M3I_RESTRICT out = w.plan.data() + i * s.m;
    const double shift = s.a[std::size_t(i)] + s.t;
    double sum = 0;
    M3I_SIMD_REDUCE(+, sum)
    for (Index j = 0; j < s.m; ++j) {
      out[j] = math::exp(row[j] + b[j] + shift);
      sum += out[j];
      c[j] += out[j];
    }
    w.r[std::size_t(i)] = sum;
    w.total += sum;
  }
}

inline double newton_residual(const OtState<double>& s, const NewtonWorkspace& w) {
  return side_residual(s.n, w.r.data(), s.p.data(), s.a.data(), s.row_equality) +
         side_residual(s.m, w.c.data(), s.q.data(), s.b.data(), s.col_equality) + std::abs(w.total - s.mass);
}

/// Minus the dual at the present potentials plus h times the step.
inline double newton_objective(const OtState<double>& s, const NewtonWorkspace& w, double h) {
  double value = -(s.has_lambda() ? (s.t + h * w.dt) * s.mass : 0);
  for (std::size_t i = 0; i < s.a.size(); ++i) value -= (s.a[i] + h * w.da[i]) * s.p[i];
  for (std::size_t j = 0; j < s.b.size(); ++j) value -= (s.b[j] + h * w.db[j]) * s.q[j];
  const double *b = s.b.data(), *db = w.db.data();
  double total = 0;
  for (Index i = 0; i < s.n; ++i) {
    const double* row = s.kernel.data() + i * s.m;
    const double shift = s.a[std::size_t(i)] + s.t + h * (w.da[std::size_t(i)] + w.dt);
    double sum = 0;
    M3I_SIMD_REDUCE(+, sum)
    for (Index j = 0; j < s.m; ++j) sum += math::exp(row[j] + (b[j] + h * db[j]) + shift);
    total += sum;
  }
  return value + total;
}

/// The set of free potentials as a number, to notice that one comes back.
inline std::uint64_t free_set_hash(const NewtonWorkspace& w) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const auto* side : {&w.row_free, &w.col_free})
    for (const unsigned char f : *side) h = (h ^ (f + 1u)) * 0x100000001b3u;
  return h;
}

/// H d for the whole step.
inline void newton_product(const OtState<double>& s, NewtonWorkspace& w) {
  const double *r = w.r.data(), *c = w.c.data(), *da = w.da.data(), *db = w.db.data();
  double* M3I_RESTRICT hb = w.hb.data();
  w.ht = w.total * w.dt;
  for (Index j = 0; j < s.m; ++j) {
    hb[j] = c[j] * (db[j] + w.dt);
    w.ht += c[j] * db[j];
  }
  for (Index i = 0; i < s.n; ++i) {
    const double* row = w.plan.data() + i * s.m;
    const double d = da[i];
    double sum = r[i] * (d + w.dt);
    M3I_SIMD_REDUCE(+, sum)
    for (Index j = 0; j < s.m; ++j) {
      sum += row[j] * db[j];
      hb[j] += row[j] * d;
    }
    w.ha[std::size_t(i)] = sum;
    w.ht += r[i] * d;
  }
}

/// Solves for the free part of the step while the bounded part goes to its bound (or, for the one column that fixes the
/// gauge of a balanced problem, stays).
inline void newton_solve(const OtState<double>& s, NewtonWorkspace& w) {
  const bool balanced = s.row_equality && s.col_equality;
  const auto fixed = [&](std::size_t j) { return balanced && Index(j) == s.m - 1; };
  for (std::size_t i = 0; i < w.da.size(); ++i) w.da[i] = w.row_free[i] ? 0 : -s.a[i];
  for (std::size_t j = 0; j < w.db.size(); ++j) w.db[j] = w.col_free[j] || fixed(j) ? 0 : -s.b[j];
  w.dt = 0;
  newton_product(s, w);  // H_FB d_B on the free entries
  for (std::size_t i = 0; i < w.da.size(); ++i) w.rhs_a[i] = s.p[i] - w.r[i] - w.ha[i];
  for (std::size_t j = 0; j < w.db.size(); ++j) w.rhs_b[j] = s.q[j] - w.c[j] - w.hb[j];
  w.system.factor(w.plan.data(), w.r.data(), w.c.data(), w.total, s.n, s.m, w.row_free.data(), w.col_free.data(),
                  s.has_lambda(), 1e-14);
  w.system.solve(w.rhs_a.data(), w.rhs_b.data(), s.mass - w.total - w.ht, w.da.data(), w.db.data(), &w.dt);
}

/// Not all constraints of an inequality side are active at the optimum: raising the whole side while lowering lambda
/// (or the other side) leaves the plan as it is and gains until a potential reaches 0. So the highest one is bounded.
inline void keep_one_bounded(std::vector<unsigned char>& free,
                             const std::vector<double>& z,
                             const std::vector<double>& d) {
  std::size_t highest = 0;
  for (std::size_t i = 0; i < free.size(); ++i) {
    if (!free[i]) return;
    if (z[i] + d[i] > z[highest] + d[highest]) highest = i;
  }
  free[highest] = 0;
}

/// Moves potentials between the free and the bounded set by the signs of the model's solution.
inline void update_free_set(const OtState<double>& s, NewtonWorkspace& w) {
  if (!s.row_equality) {
    for (std::size_t i = 0; i < w.da.size(); ++i)
      w.row_free[i] = w.row_free[i] ? s.a[i] + w.da[i] < 0 : w.r[i] - s.p[i] + w.ha[i] > 0;
    keep_one_bounded(w.row_free, s.a, w.da);
  }
  if (!s.col_equality) {
    for (std::size_t j = 0; j < w.db.size(); ++j)
      w.col_free[j] = w.col_free[j] ? s.b[j] + w.db[j] < 0 : w.c[j] - s.q[j] + w.hb[j] > 0;
    keep_one_bounded(w.col_free, s.b, w.db);
  }
}

/// Minimises the quadratic model under the bounds a + da <= 0, b + db <= 0: solve on the free set, correct the set,
/// until a set comes back (an unchanged one does at once).
inline void newton_direction(const OtState<double>& s, NewtonWorkspace& w) {
  for (std::size_t i = 0; i < w.da.size(); ++i) w.row_free[i] = s.row_equality || s.a[i] < 0 || w.r[i] > s.p[i];
  for (std::size_t j = 0; j < w.db.size(); ++j) w.col_free[j] = s.col_equality || s.b[j] < 0 || w.c[j] > s.q[j];
  std::fill(w.da.begin(), w.da.end(), 0.0);
  std::fill(w.db.begin(), w.db.end(), 0.0);
  if (!s.row_equality) keep_one_bounded(w.row_free, s.a, w.da);
  if (!s.col_equality) keep_one_bounded(w.col_free, s.b, w.db);
  if (s.row_equality && s.col_equality) w.col_free.back() = 0;
  std::array<std::uint64_t, 30> seen{};
  auto last = seen.begin();
  for (bool repeated = false; !repeated && last != seen.end();) {
    *last++ = free_set_hash(w);
    newton_solve(s, w);
    newton_product(s, w);
    update_free_set(s, w);
    repeated = std::find(seen.begin(), last, free_set_hash(w)) != last;
  }
  if (!s.row_equality)
    for (std::size_t i = 0; i < w.da.size(); ++i) w.da[i] = std::min(w.da[i], -s.a[i]);
  if (!s.col_equality)
    for (std::size_t j = 0; j < w.db.size(); ++j) w.db[j] = std::min(w.db[j], -s.b[j]);
}

/// One damped step: no entry of the log plan moves by more than 20; halved until the objective falls enough.
inline void newton_step(OtState<double>& s, NewtonWorkspace& w) {
  newton_direction(s, w);
  double slope = w.dt * (w.total - s.mass);
  for (std::size_t i = 0; i < w.da.size(); ++i) slope += w.da[i] * (w.r[i] - s.p[i]);
  for (std::size_t j = 0; j < w.db.size(); ++j) slope += w.db[j] * (w.c[j] - s.q[j]);
  const auto [low_a, high_a] = std::minmax_element(w.da.begin(), w.da.end());
  const auto [low_b, high_b] = std::minmax_element(w.db.begin(), w.db.end());
  const double largest = std::max(std::abs(*high_a + *high_b + w.dt), std::abs(*low_a + *low_b + w.dt));
  if (!math::is_finite(largest)) return;
  double h = largest > 20 ? 20 / largest : 1;
  const double before = newton_objective(s, w, 0);
  for (int halving = 0; halving < 60; ++halving, h /= 2) {
    if (!(newton_objective(s, w, h) <= before + 1e-4 * h * slope + 4e-16 * std::abs(before))) continue;
    for (std::size_t i = 0; i < w.da.size(); ++i) s.a[i] += h * w.da[i];
    for (std::size_t j = 0; j < w.db.size(); ++j) s.b[j] += h * w.db[j];
    s.t += h * w.dt;
    return;
  }
}

struct NewtonOutcome {
  double residual = 0;
  Index steps = 0, sweeps = 0;
  bool converged = false;
};

/// Two water-filling sweeps, test, Newton step, until the residual is at most `tolerance` times the mass.
inline NewtonOutcome newton_stage(OtState<double>& s, NewtonWorkspace& w, double tolerance) {
  NewtonOutcome out;
  for (;;) {
    water_filling_sweep(s);
    water_filling_sweep(s);
    out.sweeps += 2;
    newton_plan(s, w);
    out.residual = newton_residual(s, w);
    out.converged = out.residual <= tolerance * s.mass;
    if (out.converged || out.steps == 40) return out;
    newton_step(s, w);
    ++out.steps;
  }
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
