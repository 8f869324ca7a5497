#pragma once
/// Sweeps in the log domain, in units of eps: kernel L = -C / eps, a = f / eps, b = g / eps, t = lambda / eps,
/// log plan = L_ij + a_i + b_j + t.

#include <algorithm>
#include <limits>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/ot/problem.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// A problem reduced to rows and columns of positive weight, and the state of its solution. All memory that the sweeps
/// need is taken once, by resize.
template <class T>
struct OtState {
  Index n = 0, m = 0;
  bool row_equality = false, col_equality = false;
  T mass = 1, log_mass = 0, t = 0;
  std::vector<T> kernel, p, q, log_p, log_q, a, b;
  std::vector<T> row_lse, col_lse;  ///< LSE_j(L_ij + b_j), LSE_i(L_ij + a_i)
  std::vector<T> top, tau, tail;    ///< scratch, max(n, m)
  std::vector<Index> order;

  /// Is lambda a variable, and not fixed by an equality side?
  bool has_lambda() const { return !row_equality && !col_equality; }

  void resize(Index rows, Index cols) {
    n = rows, m = cols;
    const auto sn = std::size_t(n), sm = std::size_t(m), larger = std::max(sn, sm);
    kernel.resize(sn * sm);
    for (auto* v : {&p, &log_p, &a, &row_lse}) v->assign(sn, T(0));
    for (auto* v : {&q, &log_q, &b, &col_lse}) v->assign(sm, T(0));
    for (auto* v : {&top, &tau, &tail}) v->resize(larger);
    order.resize(larger);
    t = 0;
  }
};

/// out_i = log sum_j exp(L_ij + b_j)
template <class T>
void row_log_sums(const T* kernel, const T* b, T* out, Index n, Index m) {
  for (Index i = 0; i < n; ++i) {
    const T* M3I_RESTRICT row = kernel + i * m;
    T top = -std::numeric_limits<T>::infinity(), sum = 0;
    M3I_SIMD_REDUCE(max, top)
    for (Index j = 0; j < m; ++j) top = math::max(top, row[j] + b[j]);
    M3I_SIMD_REDUCE(+, sum)
    for (Index j = 0; j < m; ++j) sum += math::exp(row[j] + b[j] - top);
    out[i] = top + std::log(sum);
  }
}

/// out_j = log sum_i exp(L_ij + a_i) for m columns of a kernel whose rows are `stride` apart; top is scratch [m].
template <class T>
void col_log_sums(
    const T* kernel, Index stride, const T* a, T* M3I_RESTRICT out, T* M3I_RESTRICT top, Index n, Index m) {
  std::fill(top, top + m, -std::numeric_limits<T>::infinity());
  std::fill(out, out + m, T(0));
  for (Index i = 0; i < n; ++i) {
    const T* M3I_RESTRICT row = kernel + i * stride;
    const T shift = a[i];
    M3I_SIMD
    for (Index j = 0; j < m; ++j) top[j] = math::max(top[j], row[j] + shift);
  }
  for (Index i = 0; i < n; ++i) {
    const T* M3I_RESTRICT row = kernel + i * stride;
    const T shift = a[i];
    M3I_SIMD
    for (Index j = 0; j < m; ++j) out[j] += math::exp(row[j] + shift - top[j]);
  }
  for (Index j = 0; j < m; ++j) out[j] = top[j] + std::log(out[j]);
}

/// log sum_j exp(x_j + y_j)
template <class T>
T log_sum(const T* x, const T* y, Index n) {
  T top = -std::numeric_limits<T>::infinity(), sum = 0;
  for (Index j = 0; j < n; ++j) top = math::max(top, x[j] + y[j]);
  M3I_SIMD_REDUCE(+, sum)
  for (Index j = 0; j < n; ++j) sum += math::exp(x[j] + y[j] - top);
  return top + std::log(sum);
}

/// Entries of the kernel that are worth a thread of their own. A batch of problems is spread over the threads as such,
/// and a pass within it stays on its thread; either way each sum is taken in one order.
inline constexpr Index ot_grain = 16384;

template <class T>
void row_pass(OtState<T>& s) {
  parallel_chunks(s.n, std::max<Index>(1, ot_grain / s.m), [&s](Index begin, Index end) {
    row_log_sums(s.kernel.data() + begin * s.m, s.b.data(), s.row_lse.data() + begin, end - begin, s.m);
  });
}
template <class T>
void col_pass(OtState<T>& s) {
  parallel_chunks(s.m, std::max<Index>(64, ot_grain / s.n), [&s](Index begin, Index end) {
    col_log_sums(s.kernel.data() + begin, s.m, s.a.data(), s.col_lse.data() + begin, s.top.data() + begin, s.n,
                 end - begin);
  });
}

/// Maximises the dual over one side's potentials z and, in the partial regime, over t as well: as in filling vessels,
/// those with the smallest tau_i = log w_i - lse_i are full first, and t is the level.
template <class T>
void water_fill(OtState<T>& s, bool rows) {
  const Index n = rows ? s.n : s.m;
  const T* w = rows ? s.p.data() : s.q.data();
  const T* log_w = rows ? s.log_p.data() : s.log_q.data();
  const T* lse = rows ? s.row_lse.data() : s.col_lse.data();
  T* z = rows ? s.a.data() : s.b.data();
  T *tau = s.tau.data(), *tail = s.tail.data();
  for (Index i = 0; i < n; ++i) tau[i] = log_w[i] - lse[i];
  if (rows ? s.row_equality : s.col_equality) {
    std::copy(tau, tau + n, z);
    return;
  }
  if (s.has_lambda()) {
    Index* order = s.order.data();
    for (Index i = 0; i < n; ++i) order[i] = i;
    std::sort(order, order + n, [tau](Index i, Index j) { return tau[i] < tau[j] || (tau[i] == tau[j] && i < j); });
    T top = -std::numeric_limits<T>::infinity(), sum = 0;
    for (Index k = n - 1; k >= 0; --k) {  // tail[k] = log-sum of lse over those not yet full
      const T x = lse[order[k]];
      const T higher = math::max(top, x);
      sum = sum * math::exp(top - higher) + math::exp(x - higher);
      top = higher;
      tail[k] = top + std::log(sum);
    }
    T left = s.mass;
    for (Index k = 0; k < n; ++k) {
      s.t = std::log(left) - tail[k];
      const T next = tau[order[k]];
      if (s.t <= next) break;
      left -= w[order[k]];
      if (!(left > 0)) {  // only by rounding: the level is where this one is just full
        s.t = next;
        break;
      }
    }
  }
  for (Index i = 0; i < n; ++i) z[i] = math::min(T(0), tau[i] - s.t);
}

/// Rows with t, then columns with t.
template <class T>
void water_filling_sweep(OtState<T>& s) {
  row_pass(s);
  water_fill(s, true);
  col_pass(s);
  water_fill(s, false);
}

/// One side of the residual: what is over the weight, and where the potential is active also what is missing.
template <class T>
double side_residual(Index n, const T* sums, const T* w, const T* z, bool equality) {
  double total = 0;
  for (Index i = 0; i < n; ++i) {
    const double gap = double(sums[i]) - double(w[i]);
    total += equality || z[i] < 0 ? std::abs(gap) : std::max(0.0, gap);
  }
  return total;
}

/// The residual from up-to-date log-sums of both sides; turns tau into the sums in passing.
template <class T>
double residual_from_log_sums(OtState<T>& s, bool signed_potentials) {
  T* sums = s.tau.data();
  double mass = 0;
  for (Index i = 0; i < s.n; ++i)
    mass += double(sums[i] = math::exp(s.a[std::size_t(i)] + s.row_lse[std::size_t(i)] + s.t));
  double total = side_residual(s.n, sums, s.p.data(), s.a.data(), s.row_equality && !signed_potentials);
  for (Index j = 0; j < s.m; ++j) sums[j] = math::exp(s.b[std::size_t(j)] + s.col_lse[std::size_t(j)] + s.t);
  total += side_residual(s.m, sums, s.q.data(), s.b.data(), s.col_equality && !signed_potentials);
  return total + std::abs(mass - double(s.mass));
}

template <class T>
void append_sweep(OtHistory& h, const OtState<T>& s) {
  h.a.insert(h.a.end(), s.a.begin(), s.a.end());
  h.b.insert(h.b.end(), s.b.begin(), s.b.end());
  h.row_lse.insert(h.row_lse.end(), s.row_lse.begin(), s.row_lse.end());
  h.col_lse.insert(h.col_lse.end(), s.col_lse.begin(), s.col_lse.end());
  ++h.sweeps;
}

struct SweepOutcome {
  double residual = 0;
  Index sweeps = 0;
  bool converged = false;
};

/// Rows, columns, mass in turn, from zero potentials. The residual of a sweep comes with the row pass of the next one.
template <class T>
SweepOutcome dykstra_sweeps(OtState<T>& s, double tolerance, Index max_sweeps, OtHistory* history) {
  SweepOutcome out;
  row_pass(s);
  std::fill(s.tail.begin(), s.tail.end(), T(0));
  s.t = s.log_mass - log_sum(s.row_lse.data(), s.tail.data(), s.n);
  for (Index k = 0; k < max_sweeps; ++k) {
    if (k > 0) row_pass(s);
    if (k > 0 && tolerance >= 0) {
      out.residual = residual_from_log_sums(s, true);
      if (out.residual <= tolerance * double(s.mass)) {
        out.converged = true;
        return out;
      }
    }
    for (std::size_t i = 0; i < s.a.size(); ++i) s.a[i] = math::min(T(0), s.log_p[i] - s.t - s.row_lse[i]);
    col_pass(s);
    for (std::size_t j = 0; j < s.b.size(); ++j) s.b[j] = math::min(T(0), s.log_q[j] - s.t - s.col_lse[j]);
    s.t = s.log_mass - log_sum(s.col_lse.data(), s.b.data(), s.m);
    ++out.sweeps;
    if (history) append_sweep(*history, s);
  }
  row_pass(s);
  out.residual = residual_from_log_sums(s, true);
  out.converged = tolerance >= 0 && out.residual <= tolerance * double(s.mass);
  return out;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
