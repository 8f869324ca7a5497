#pragma once
/// The Hessian of the dual as in dual_system.hpp, solved by one team: the same elimination, where potentials that are
/// not free are columns without links instead of columns left out.

#include "m3i/kernels/block.hpp"
#include "m3i/kernels/math.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// H at a plan [n, n] with row sums r and column sums c, on the free rows and columns (1, else 0) and lambda if it is a
/// variable.
struct BlockHessian {
  const double *plan, *r, *c;
  double total;
  const double *row_free, *col_free;
  bool has_lambda;
};

/// n rows and n columns. All arrays lie in a team's scratch memory.
struct BlockSystem {
  static constexpr double ridge = 1e-14, scale = 1 / (1 + ridge), tiny = 1e-300;
  Index n = 0;
  double *links = nullptr, *ground = nullptr, *pivot = nullptr, *y = nullptr;         ///< [n + 1, n + 1], [n + 1] each
  double *row_scale = nullptr, *aside = nullptr, *through = nullptr, *out = nullptr;  ///< [n] each

  M3I_HD void cut(BlockCutter& from, Index size) {
    n = size;
    links = from.take<double>(n + 1, n + 1);
    for (double** const v : {&ground, &pivot, &y}) *v = from.line<double>(n + 1);
    for (double** const v : {&row_scale, &aside, &through, &out}) *v = from.line<double>(n);
  }

  /// Factorises H with its diagonal times (1 + ridge).
  template <class Team>
  M3I_HD void factor(Team team, const BlockHessian& h) const {
    assemble(team, h);
    eliminate(team);
  }

  /// Solves H z = g with the factors of H: za and zb [n], 0 where not free, and z for lambda, which is returned. g is
  /// read where free.
  template <class Team>
  M3I_HD double solve(
      Team team, const BlockHessian& h, const double* ga, const double* gb, double gt, double* za, double* zb) const {
    const BlockSystem s = *this;
    const Index m = n, step = block_step<double>(n + 1);
    team.each(m, [=](Index k) {
      double sum = gb[k];
      for (Index i = 0; i < m; ++i) sum -= ga[i] * s.row_scale[i] * h.plan[i * m + k];
      s.y[k] = h.col_free[k] > 0 ? sum : 0;
    });
    const double level = gt - team.sum(m, [=](Index i) { return h.row_free[i] > 0 ? ga[i] * scale : 0; });
    team.each(1, [=](Index) { s.y[m] = h.has_lambda ? -level : 0; });
    for (Index k = 0; k < m; ++k)
      team.each(m - k, [=](Index e) {
        const Index j = k + 1 + e;
        s.y[j] += s.y[k] / s.pivot[k] * s.links[k * step + j];
      });
    for (Index k = m; k > 0; --k)
      team.each(k, [=](Index i) { s.y[i] += s.links[i * step + k] * (s.y[k] / s.pivot[k]); });
    team.each(m + 1, [=](Index k) { s.y[k] /= s.pivot[k]; });
    const double lambda = h.has_lambda ? -s.y[m] : 0;
    team.each(m, [=](Index i) {
      double sum = ga[i];
      for (Index k = 0; k < m; ++k) sum -= h.plan[i * m + k] * s.y[k];
      za[i] = h.row_free[i] > 0 ? sum * s.row_scale[i] - lambda * scale : 0;
      zb[i] = s.y[i];
    });
    return lambda;
  }

 private:
  /// Conductances between free columns and lambda (upper triangle), and of each to ground.
  template <class Team>
  M3I_HD void assemble(Team team, const BlockHessian& h) const {
    constexpr double delta = ridge * scale;  // 1 - 1 / (1 + ridge)
    const BlockSystem s = *this;
    const Index m = n, step = block_step<double>(n + 1);
    team.each(m, [=](Index i) {
      double outside = 0;  // what row i sends to columns that are not free
      for (Index j = 0; j < m; ++j) outside += h.col_free[j] > 0 ? 0 : h.plan[i * m + j];
      const bool free = h.row_free[i] > 0;
      // A free row passes its links on to the columns; what it sends elsewhere becomes their way to ground.
      s.row_scale[i] = free ? scale / math::max(h.r[i], tiny) : 0;
      s.through[i] = outside * s.row_scale[i];
      s.aside[i] = free ? delta : 1;  // weight of the row's direct link to lambda (or to ground)
      s.out[i] = outside;
    });
    team.each(m, [=](Index k) {
      double own = ridge * h.c[k], direct = 0;
      for (Index i = 0; i < m; ++i) own += s.through[i] * h.plan[i * m + k], direct += s.aside[i] * h.plan[i * m + k];
      const bool free = h.col_free[k] > 0;
      s.ground[k] = free ? own + (h.has_lambda ? 0 : direct) : 0;
      s.links[k * step + m] = free && h.has_lambda ? direct : 0;
    });
    const double escaped = team.sum(m, [=](Index i) { return s.aside[i] * s.out[i]; });
    team.each(1, [=](Index) { s.ground[m] = h.has_lambda ? ridge * h.total + escaped : 0; });
    each_cell(team, m, m, [=](Index k, Index j) {
      if (j <= k) return;
      double sum = 0;
      if (h.col_free[k] > 0 && h.col_free[j] > 0)
        for (Index i = 0; i < m; ++i) sum += s.row_scale[i] * h.plan[i * m + k] * h.plan[i * m + j];
      s.links[k * step + j] = sum;
    });
  }

  /// The star-mesh transform, node after node: its neighbours are linked to each other.
  template <class Team>
  M3I_HD void eliminate(Team team) const {
    const BlockSystem s = *this;
    const Index size = n + 1, step = block_step<double>(n + 1);
    for (Index k = 0; k < size; ++k) {
      const double* row = s.links + k * step + k + 1;
      const Index left = size - k - 1;
      const double ways = s.ground[k] + (left > 0 ? team.sum(left, [=](Index e) { return row[e]; }) : 0.0);
      const double pivot_k = math::max(ways, tiny), ground_k = s.ground[k];
      double* const share = s.through;  // which assemble() needs no more; a division for each cell would take most time
      team.each(left + 1, [=](Index e) {
        if (e < left) share[e] = row[e] / pivot_k;
        else s.pivot[k] = pivot_k;
      });
      each_cell(team, left, left + 1, [=](Index e, Index f) {  // column 0 is the way to ground
        const Index i = k + 1 + e;
        if (f == 0) s.ground[i] += share[e] * ground_k;
        else if (f - 1 > e) s.links[i * step + k + f] += share[e] * row[f - 1];
      });
    }
  }
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
