#pragma once
/// The gradient through every Dykstra sweep, in reverse: what automatic differentiation of the iteration gives, without
/// a tape. Converges to the implicit gradient as the sweeps converge; kept to compare with.

#include <vector>

#include "m3i/core/config.hpp"
#include "m3i/ot/problem.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Bars of L, a, b, t while going backwards.
struct UnrolledState {
  std::vector<double> kernel_bar, a_bar, b_bar, l_bar;
  double t_bar = 0;
};

/// t = log s - LSE_j(l_j + b_j), then b_j = min(0, log q_j - t - l_j)
inline void unroll_mass_and_columns(const OtHistory& h, Index sweep, UnrolledState& u) {
  const Index n = h.rows, m = h.cols;
  const double *a = h.a.data() + sweep * n, *b = h.b.data() + sweep * m, *l = h.col_lse.data() + sweep * m;
  double *b_bar = u.b_bar.data(), *l_bar = u.l_bar.data();
  double top = l[0] + b[0], sum = 0;
  for (Index j = 0; j < m; ++j) top = std::max(top, l[j] + b[j]);
  for (Index j = 0; j < m; ++j) sum += l_bar[j] = math::exp(l[j] + b[j] - top);
  double before = 0;  // t_bar of the sweep before
  for (Index j = 0; j < m; ++j) {
    const double share = u.t_bar * l_bar[j] / sum;
    b_bar[j] -= share;
    l_bar[j] = -share;
    if (b[j] < 0) {
      l_bar[j] -= b_bar[j];
      before -= b_bar[j];
    }
  }
  u.t_bar = before;
  for (Index i = 0; i < n; ++i) {
    const double* kernel = h.kernel.data() + i * m;
    double* M3I_RESTRICT bar = u.kernel_bar.data() + i * m;
    double total = 0;
    M3I_SIMD_REDUCE(+, total)
    for (Index j = 0; j < m; ++j) {
      const double x = math::exp(kernel[j] + a[i] - l[j]) * l_bar[j];
      bar[j] += x;
      total += x;
    }
    u.a_bar[std::size_t(i)] += total;
  }
}

/// a_i = min(0, log p_i - t - LSE_j(L_ij + b_j)) with the b and t of the sweep before
inline void unroll_rows(const OtHistory& h, Index sweep, const double* b_before, UnrolledState& u) {
  const Index n = h.rows, m = h.cols;
  const double *a = h.a.data() + sweep * n, *lse = h.row_lse.data() + sweep * n;
  double* M3I_RESTRICT b_bar = u.b_bar.data();
  std::fill(u.b_bar.begin(), u.b_bar.end(), 0.0);
  for (Index i = 0; i < n; ++i) {
    const double flow = a[i] < 0 ? u.a_bar[std::size_t(i)] : 0;
    u.a_bar[std::size_t(i)] = 0;
    if (flow == 0) continue;
    u.t_bar -= flow;
    const double* kernel = h.kernel.data() + i * m;
    double* M3I_RESTRICT bar = u.kernel_bar.data() + i * m;
    M3I_SIMD
    for (Index j = 0; j < m; ++j) {
      const double x = flow * math::exp(kernel[j] + b_before[j] - lse[i]);
      bar[j] -= x;
      b_bar[j] -= x;
    }
  }
}

}  // namespace detail

/// d/dcost of -sum W log plan, differentiating each sweep of a solve with solver = dykstra and keep_history. Exact for
/// the truncated computation. Cost: 4 n m exponentials a sweep; memory: 2 (n + m) numbers a sweep, kept by the solve.
inline Tensor<double> ot_unrolled_gradient(const OtResult& result, const Tensor<double>& target) {
  require<ConfigError>(result.history != nullptr,
                       "ot_unrolled_gradient: the solve kept no history; set solver = dykstra and keep_history = true");
  ot_require(target.shape() == result.log_plan.shape(), "invalid_shape", "ot_unrolled_gradient: target ",
             target.shape(), " for a plan ", result.log_plan.shape());
  const OtHistory& h = *result.history;
  const Index n = h.rows, m = h.cols, columns = target.shape()[1];
  detail::UnrolledState u;
  u.kernel_bar.assign(std::size_t(n * m), 0.0);
  u.a_bar.assign(std::size_t(n), 0.0);
  u.b_bar.assign(std::size_t(m), 0.0);
  u.l_bar.assign(std::size_t(m), 0.0);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < m; ++j) {
      const double w = target.data()[h.row_ids[std::size_t(i)] * columns + h.col_ids[std::size_t(j)]];
      u.kernel_bar[std::size_t(i * m + j)] = -w;
      u.a_bar[std::size_t(i)] -= w;
      u.b_bar[std::size_t(j)] -= w;
      u.t_bar -= w;
    }
  const std::vector<double> zero(std::size_t(m), 0.0);
  for (Index sweep = h.sweeps - 1; sweep >= 0; --sweep) {
    detail::unroll_mass_and_columns(h, sweep, u);
    detail::unroll_rows(h, sweep, sweep > 0 ? h.b.data() + (sweep - 1) * m : zero.data(), u);
  }
  // The start: t = log s - LSE_ij L.
  double top = h.kernel[0], sum = 0;
  for (const double x : h.kernel) top = std::max(top, x);
  for (const double x : h.kernel) sum += math::exp(x - top);
  Tensor<double> gradient = Tensor<double>::zeros(target.shape());
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < m; ++j) {
      const auto k = std::size_t(i * m + j);
      const double bar = u.kernel_bar[k] - u.t_bar * math::exp(h.kernel[k] - top) / sum;
      gradient.data()[h.row_ids[std::size_t(i)] * columns + h.col_ids[std::size_t(j)]] = -bar / result.epsilon;
    }
  return gradient;
}

}  // namespace M3I_ABI
}  // namespace m3i
