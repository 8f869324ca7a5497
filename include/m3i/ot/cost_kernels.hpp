#pragma once
/// The functors of the pairwise cost and its gradients, for any device; in double.

#include <limits>

#include "m3i/kernels/block.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/math.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Row i of x [n, d], then of y: divided by its norm, which is kept, unless norms is null.
struct UnitPoint {
  const double *x, *y;
  Index n, d;
  double *points, *norms;
  template <class Team>
  M3I_HD void operator()(Team team, Index i) const {
    const double* from = i < n ? x + i * d : y + (i - n) * d;
    double *to = points + i * d, *own = norms + i;
    double factor = 1;
    if (norms) {
      const double norm = math::sqrt(team.sum(d, [=](Index k) { return from[k] * from[k]; }));
      team.each(1, [=](Index) { *own = norm; });
      factor = 1 / norm;
    }
    team.each(d, [=](Index k) { to[k] = from[k] * factor; });
  }
};

/// points -= mean, where `sums` are the column sums of N rows; row 0 keeps the mean.
struct CentredRow {
  double* points;
  const double* sums;
  double* mean;
  Index rows, d;
  template <class Team>
  M3I_HD void operator()(Team team, Index i) const {
    double *to = points + i * d, *kept = i == 0 ? mean : nullptr;
    const double *all = sums, count = double(rows);
    team.each(d, [=](Index k) { to[k] -= all[k] / count; });
    if (kept) team.each(d, [=](Index k) { kept[k] = all[k] / count; });
  }
};

/// to[i, k] = from[i, k] * factor[k], or factor[i].
template <bool by_row>
struct ScaledRow {
  const double *from, *factor;
  double* to;
  Index width;
  template <class Team>
  M3I_HD void operator()(Team team, Index i) const {
    const double *own = from + i * width, *by = factor;
    double* out = to + i * width;
    team.each(width, [=](Index k) { out[k] = own[k] * by[by_row ? i : k]; });
  }
};

/// out[i] = a[i] . b[i]
struct RowProduct {
  const double *a, *b;
  double* out;
  Index width;
  template <class Team>
  M3I_HD void operator()(Team team, Index i) const {
    const double *p = a + i * width, *q = b + i * width;
    const double sum = team.sum(width, [=](Index k) { return p[k] * q[k]; });
    double* own = out + i;
    team.each(1, [=](Index) { *own = sum; });
  }
};

/// From -2 z_i M z_j in `squares` to D_ij = z_i M z_i + z_j M z_j - 2 z_i M z_j. Where rows are close that cancels:
/// those pairs, few in any batch once the mean is gone, are taken difference by difference, (z_i - z_j) . (M z_i - M
/// z_j).
struct SquaredRow {
  static constexpr double close = 1.0 / 64;  // of the energies: no more than 6 bits are lost
  const double *partners, *images, *energies;
  double* squares;
  Index n, m, width;
  template <class Team>
  M3I_HD void operator()(Team team, Index i) const {
    const double own = energies[i], *other = energies + n;
    const double *p = partners + i * width, *r = images + i * width;
    const double *all_q = partners + n * width, *all_s = images + n * width;
    double* row = squares + i * m;
    const Index d = width;
    team.each(m, [=](Index j) { row[j] += own + other[j]; });
    const Index cancelled =
        team.sum(m, [=](Index j) { return row[j] < close * (own + other[j]) ? Index(1) : Index(0); });
    if (cancelled == 0) return;
    each_row(team, m, [=](auto one, Index j) {
      if (!(row[j] < close * (own + other[j]))) return;
      const double *q = all_q + j * d, *s = all_s + j * d;
      row[j] = one.sum(d, [=](Index k) { return (p[k] - q[k]) * (r[k] - s[k]); });
    });
  }
};

/// One team for all cells: squared distances become distances, divided by the largest if that is wanted and not 0.
/// largest[0] is what it was. A square that is negative beyond rounding becomes NaN.
struct RootsOfSquares {
  const double* energies;
  double *cost, *largest;
  Index n, m;
  bool divides;
  template <class Team>
  M3I_HD void operator()(Team team, Index) const {
    const double *own = energies, *other = energies + n, nan = std::numeric_limits<double>::quiet_NaN();
    double *c = cost, *kept = largest;
    const Index across = m;
    each_cell(team, n, m, [=](Index i, Index j) {
      const double square = c[i * across + j];
      // written so that NaN stays NaN
      c[i * across + j] =
          square < -1e-6 * (own[i] + other[j]) ? nan : math::sqrt(square > 0 || square != square ? square : 0.0);
    });
    const double top = team.max(n * m, [=](Index k) { return c[k]; });
    team.each(1, [=](Index) { *kept = top; });
    if (divides && top > 0) team.each(n * m, [=](Index k) { c[k] /= top; });
  }
};

/// One team for all cells. w_ij = dL/dC_ij / C_ij, twice the derivative of L by the squared distance, and its sums over
/// rows and columns [n + m]. What was divided by the largest entries owes them a share, each the same. Where two rows
/// coincide the distance has a kink; its subgradient there is 0.
struct PairWeights {
  const double *cost, *dcost, *largest;
  double *weights, *sums;
  Index n, m;
  bool divides;
  template <class Team>
  M3I_HD void operator()(Team team, Index) const {
    const double *c = cost, *dc = dcost;
    double *w = weights, *rows = sums, *columns = sums + n;
    const Index size = n * m, across = m;
    const bool divided = divides && *largest > 0;
    const double divisor = divided ? *largest : 1, unit = 1 / (divisor * divisor);
    double share = 0;
    if (divided) {
      const double product = team.sum(size, [=](Index k) { return dc[k] * c[k]; });
      share = product / team.sum(size, [=](Index k) { return c[k] == 1 ? 1.0 : 0.0; });
    }
    each_row(team, n, [=](auto one, Index i) {
      const double *own = c + i * across, *slope = dc + i * across;
      double* to = w + i * across;
      rows[i] = one.sum(across, [=](Index j) {
        const double owed = divided && own[j] == 1 ? share : 0;
        return to[j] = own[j] > 0 ? (slope[j] - owed) * unit / own[j] : 0;
      });
    });
    team.each(m, [=](Index j) { columns[j] = 0; });
    fold_columns(
        team, n, m, columns, [=](Index i, Index j) { return w[i * across + j]; }, Plus{});
  }
};

/// Through z / |z|: the part along the row vanishes.
struct NormGradientRow {
  const double *points, *mean, *norms;
  double* slopes;
  Index d;
  template <class Team>
  M3I_HD void operator()(Team team, Index i) const {
    const double *u = points + i * d, *centre = mean, factor = 1 / norms[i];
    double* g = slopes + i * d;
    const double along = team.sum(d, [=](Index k) { return (u[k] + centre[k]) * g[k]; });
    team.each(d, [=](Index k) { g[k] = (g[k] - along * (u[k] + centre[k])) * factor; });
  }
};

/// out_ij = (m_ij + m_ji) / 2
struct SymmetricCell {
  const double* m;
  double* out;
  Index d;
  M3I_HD void operator()(Index i) const { out[i] = (m[i] + m[i % d * d + i / d]) / 2; }
};

/// Element (i, k) of half the elementwise product of two matrices: the terms of a diagonal metric's gradient.
struct HalfProduct {
  const double *a, *b;
  Index cols;
  M3I_HD double operator()(Index i, Index k) const { return a[i * cols + k] * b[i * cols + k] / 2; }
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
