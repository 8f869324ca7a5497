#pragma once
/// The pairwise cost of mPOT and its gradients: C_ij = sqrt((x_i - y_j)^T M (x_i - y_j)), in double on the host.

#include <algorithm>
#include <limits>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/ot/problem.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How M is given.
enum class Metric {
  full,      ///< M [d, d]; project_metric after every step keeps it positive semidefinite
  factor,    ///< L [k, d], M = L^T L
  diagonal,  ///< w [d], M = diag(w)
  euclidean  ///< none, M = I
};

enum class CostScale {
  max,  ///< each cost matrix is divided by its own largest entry, and the division is differentiated
  none
};

struct CostOptions {
  Metric metric = Metric::full;
  CostScale scale = CostScale::max;
  bool l2_normalize = true;   ///< divide each row of x and y by its norm first
  Index direct_limit = 1024;  ///< up to this max(n, m) differences are taken one by one, above as a matrix product
};

/// The cost matrix, and what its gradient needs.
struct PairwiseCost {
  Tensor<double> cost;            ///< [n, m], after the division
  double scale = 1;               ///< what it was divided by
  bool degenerate = false;        ///< all pairs coincide: the cost is 0 and so is its gradient
  Tensor<double> x, y;            ///< [n, d], [m, d]: normalised if asked, then less their common mean
  Tensor<double> mx, my;          ///< the other factor of each product: x M (full, diagonal), x L^T (factor: of itself)
  Tensor<double> unit_x, unit_y;  ///< normalised rows; undefined if not asked
  Tensor<double> norm_x, norm_y;  ///< [n], [m]
  Tensor<double> energy_x, energy_y;  ///< x_i M x_i [n], y_j M y_j [m]
  Tensor<double> metric;              ///< symmetric part of M, or L, or w
  CostOptions options;
};

/// Gradients of a scalar with respect to the rows and metric as they were given.
struct CostGradient {
  Tensor<double> x, y, metric;  ///< metric: [d, d] symmetric, [k, d], [d], or undefined
};

namespace detail {

/// C [m, n] = alpha op(A) op(B) + beta C on the host.
inline void host_gemm(bool trans_a,
                      bool trans_b,
                      double alpha,
                      const Tensor<double>& a,
                      const Tensor<double>& b,
                      double beta,
                      const Tensor<double>& c) {
  gemm<double>(Device::cpu(), trans_a, trans_b, c.shape()[0], c.shape()[1], a.shape()[trans_a ? 0 : 1], alpha, a.data(),
               a.shape()[1], b.data(), b.shape()[1], beta, c.data(), c.shape()[1]);
}

inline double dot(const double* a, const double* b, Index n) {
  double sum = 0;
  M3I_SIMD_REDUCE(+, sum)
  for (Index k = 0; k < n; ++k) sum += a[k] * b[k];
  return sum;
}

inline void divide_by_norms(const char* name, const Tensor<double>& x, Tensor<double>& unit, Tensor<double>& norms) {
  const Index rows = x.shape()[0], d = x.shape()[1];
  unit = Tensor<double>(x.shape());
  norms = Tensor<double>({rows});
  for (Index i = 0; i < rows; ++i) {
    const double* from = x.data() + i * d;
    const double norm = norms.data()[i] = std::sqrt(dot(from, from, d));
    ot_require(norm > 0, "zero_row", "mpot_cost: row ", i, " of ", name,
               " is zero and has no direction; turn "
               "l2_normalize off or look for dead embeddings");
    for (Index k = 0; k < d; ++k) unit.data()[i * d + k] = from[k] / norm;
  }
}

/// x and y less the mean of all their rows: distances do not change, rounding shrinks.
inline void centre_together(Tensor<double>& x, Tensor<double>& y) {
  const Index d = x.shape()[1];
  std::vector<double> mean(std::size_t(d), 0.0);
  const double weight = 1 / double(x.shape()[0] + y.shape()[0]);
  for (const Tensor<double>* t : {&x, &y})
    for (Index k = 0; k < t->size(); ++k) mean[std::size_t(k % d)] += weight * t->data()[k];
  for (Tensor<double>* t : {&x, &y}) {
    Tensor<double> out(t->shape());
    for (Index k = 0; k < t->size(); ++k) out.data()[k] = t->data()[k] - mean[std::size_t(k % d)];
    *t = out;
  }
}

inline Tensor<double> symmetric_part(const Tensor<double>& m) {
  const Index d = m.shape()[0];
  Tensor<double> out(m.shape());
  for (Index i = 0; i < d; ++i)
    for (Index j = 0; j < d; ++j) out.data()[i * d + j] = (m.data()[i * d + j] + m.data()[j * d + i]) / 2;
  return out;
}

/// x M for full, diagonal and euclidean; x L^T for factor.
inline Tensor<double> apply_metric(const PairwiseCost& c, const Tensor<double>& x) {
  const Index rows = x.shape()[0], d = x.shape()[1];
  switch (c.options.metric) {
    case Metric::full: {
      Tensor<double> out(x.shape());
      host_gemm(false, false, 1, x, c.metric, 0, out);
      return out;
    }
    case Metric::factor: {
      Tensor<double> out({rows, c.metric.shape()[0]});
      host_gemm(false, true, 1, x, c.metric, 0, out);
      return out;
    }
    case Metric::diagonal: {
      Tensor<double> out(x.shape());
      for (Index k = 0; k < x.size(); ++k) out.data()[k] = x.data()[k] * c.metric.data()[k % d];
      return out;
    }
    case Metric::euclidean: break;
  }
  return x;
}

/// The pair of vectors whose product is the squared length: (x, x M), or (x L^T, x L^T).
inline const Tensor<double>& first_side(const PairwiseCost& c, const Tensor<double>& x, const Tensor<double>& mx) {
  return c.options.metric == Metric::factor ? mx : x;
}

/// D_ij = (x_i - y_j) . (M x_i - M y_j), difference by difference.
inline void direct_squares(const PairwiseCost& c, double* squares) {
  const Tensor<double>&xa = first_side(c, c.x, c.mx), &ya = first_side(c, c.y, c.my);
  const Index n = xa.shape()[0], m = ya.shape()[0], d = xa.shape()[1];
  const double *x = xa.data(), *u = c.mx.data(), *y = ya.data(), *v = c.my.data();
  parallel_chunks(n, std::max<Index>(1, (Index(1) << 18) / (m * d)), [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index j = 0; j < m; ++j) {
        const double *p = x + i * d, *q = y + j * d, *r = u + i * d, *s = v + j * d;
        double sum = 0;
        M3I_SIMD_REDUCE(+, sum)
        for (Index k = 0; k < d; ++k) sum += (p[k] - q[k]) * (r[k] - s[k]);
        squares[i * m + j] = sum;
      }
  });
}

/// D_ij = x_i M x_i + y_j M y_j - 2 x_i M y_j
inline void expanded_squares(const PairwiseCost& c, const Tensor<double>& squares) {
  host_gemm(false, true, -2, c.mx, first_side(c, c.y, c.my), 0, squares);
  const Index n = squares.shape()[0], m = squares.shape()[1];
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < m; ++j) squares.data()[i * m + j] += c.energy_x.data()[i] + c.energy_y.data()[j];
}

inline Tensor<double> energies(const PairwiseCost& c, const Tensor<double>& x, const Tensor<double>& mx) {
  const Tensor<double>& a = first_side(c, x, mx);
  const Index rows = a.shape()[0], d = a.shape()[1];
  Tensor<double> out({rows});
  for (Index i = 0; i < rows; ++i) out.data()[i] = dot(a.data() + i * d, mx.data() + i * d, d);
  return out;
}

/// Squares below this are rounding, not distance.
inline double square_floor(const PairwiseCost& c, Index i, Index j) {
  const bool direct = std::max(c.x.shape()[0], c.y.shape()[0]) <= c.options.direct_limit;
  if (direct) return 0;
  return 4 * std::numeric_limits<double>::epsilon() * (c.energy_x.data()[i] + c.energy_y.data()[j]);
}

inline void check_metric_shape(const Tensor<double>& metric, const Metric kind, Index d) {
  const auto& s = metric.shape();
  switch (kind) {
    case Metric::full:
      ot_require(metric.rank() == 2 && s[0] == d && s[1] == d, "invalid_shape", "mpot_cost: metric ", s,
                 " for embeddings of ", d, " numbers; expected [", d, ", ", d, "]");
      break;
    case Metric::factor:
      ot_require(metric.rank() == 2 && s[0] > 0 && s[1] == d, "invalid_shape", "mpot_cost: metric factor ", s,
                 " for embeddings of ", d, " numbers; expected [k, ", d, "]");
      break;
    case Metric::diagonal:
      ot_require(metric.rank() == 1 && s[0] == d, "invalid_shape", "mpot_cost: diagonal metric ", s,
                 " for embeddings of ", d, " numbers; expected [", d, "]");
      break;
    case Metric::euclidean: return;
  }
  ot_require_finite("mpot_cost: metric", metric);
}

}  // namespace detail

/// The cost between the rows of x [n, d] and y [m, d]. `metric` as options.metric says; ignored for euclidean.
///
/// Time n d^2 + n m d (full). Throws OtError: invalid_shape, empty_input, non_finite_input, zero_row, and
/// not_positive_semidefinite where a square is negative beyond rounding.
inline PairwiseCost pairwise_cost(const Tensor<double>& x,
                                  const Tensor<double>& y,
                                  const Tensor<double>& metric,
                                  const CostOptions& options = {}) {
  ot_require(x.rank() == 2 && y.rank() == 2 && x.shape()[1] == y.shape()[1], "invalid_shape", "mpot_cost: embeddings ",
             x.shape(), " and ", y.shape(), "; expected [n, d] and [m, d]");
  ot_require(x.size() > 0 && y.size() > 0, "empty_input", "mpot_cost: embeddings ", x.shape(), " and ", y.shape(),
             " leave nothing to compare");
  PairwiseCost c;
  c.options = options;
  c.x = x.to(Device::cpu()), c.y = y.to(Device::cpu()), c.metric = metric.to(Device::cpu());
  detail::ot_require_finite("mpot_cost: x", c.x);
  detail::ot_require_finite("mpot_cost: y", c.y);
  detail::check_metric_shape(c.metric, options.metric, x.shape()[1]);
  if (options.metric == Metric::full) c.metric = detail::symmetric_part(c.metric);
  if (options.l2_normalize) {
    detail::divide_by_norms("x", c.x, c.unit_x, c.norm_x);
    detail::divide_by_norms("y", c.y, c.unit_y, c.norm_y);
    c.x = c.unit_x, c.y = c.unit_y;
  }
  detail::centre_together(c.x, c.y);
  c.mx = detail::apply_metric(c, c.x), c.my = detail::apply_metric(c, c.y);
  c.energy_x = detail::energies(c, c.x, c.mx), c.energy_y = detail::energies(c, c.y, c.my);
  const Index n = x.shape()[0], m = y.shape()[0];
  c.cost = Tensor<double>({n, m});
  if (std::max(n, m) <= options.direct_limit) {
    detail::direct_squares(c, c.cost.data());
  } else {
    detail::expanded_squares(c, c.cost);
  }
  double largest = 0;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < m; ++j) {
      double& d = c.cost.data()[i * m + j];
      const double size = c.energy_x.data()[i] + c.energy_y.data()[j];
      ot_require(!(d < -1e-6 * size), "not_positive_semidefinite", "mpot_cost: the squared distance of x[", i,
                 "] and y[", j, "] is ", d,
                 ", so the metric has a negative eigenvalue; call project_metric after each step");
      d = std::sqrt(std::max(d, 0.0));
      largest = std::max(largest, d);
    }
  c.degenerate = !(largest > 0);
  if (options.scale == CostScale::max && !c.degenerate) {
    c.scale = largest;
    for (double& d : c.cost.span()) d /= largest;
  }
  return c;
}

namespace detail {

/// dL/dC of the undivided cost from that of the divided one: the largest entries carry the derivative of the divisor.
inline Tensor<double> undivided_gradient(const PairwiseCost& c, const Tensor<double>& dcost) {
  Tensor<double> out = dcost.clone();
  if (c.options.scale == CostScale::none) return out;
  double product = 0, ties = 0;
  for (Index k = 0; k < out.size(); ++k) {
    product += dcost.data()[k] * c.cost.data()[k];
    ties += c.cost.data()[k] == 1;
  }
  for (Index k = 0; k < out.size(); ++k) {
    const double share = c.cost.data()[k] == 1 ? product / ties : 0;
    out.data()[k] = (out.data()[k] - share) / c.scale;
  }
  return out;
}

/// 2 a M for the rows of a; `factor` metrics apply L twice.
inline Tensor<double> twice_through_metric(const PairwiseCost& c, const Tensor<double>& a) {
  Tensor<double> out = apply_metric(c, a);
  if (c.options.metric == Metric::factor) {
    Tensor<double> back(a.shape());
    host_gemm(false, false, 1, out, c.metric, 0, back);
    out = back;
  }
  if (c.options.metric == Metric::euclidean) out = out.clone();
  for (double& v : out.span()) v *= 2;
  return out;
}

inline Tensor<double> metric_gradient(const PairwiseCost& c, const Tensor<double>& a, const Tensor<double>& b) {
  const Index d = a.shape()[1];
  switch (c.options.metric) {
    case Metric::full: {
      Tensor<double> out({d, d});
      host_gemm(true, false, 1, c.x, a, 0, out);
      host_gemm(true, false, 1, c.y, b, 1, out);
      return symmetric_part(out);
    }
    case Metric::factor: {
      Tensor<double> out(c.metric.shape());
      host_gemm(true, false, 2, c.mx, a, 0, out);
      host_gemm(true, false, 2, c.my, b, 1, out);
      return out;
    }
    case Metric::diagonal: {
      Tensor<double> out = Tensor<double>::zeros({d});
      for (Index k = 0; k < a.size(); ++k) out.data()[k % d] += c.x.data()[k] * a.data()[k];
      for (Index k = 0; k < b.size(); ++k) out.data()[k % d] += c.y.data()[k] * b.data()[k];
      return out;
    }
    case Metric::euclidean: break;
  }
  return {};
}

/// Through x / |x|: the part along the row vanishes.
inline void undo_normalisation(const Tensor<double>& unit, const Tensor<double>& norms, const Tensor<double>& dx) {
  if (!unit.defined()) return;
  const Index rows = unit.shape()[0], d = unit.shape()[1];
  for (Index i = 0; i < rows; ++i) {
    const double* u = unit.data() + i * d;
    double* g = dx.data() + i * d;
    const double along = dot(u, g, d);
    for (Index k = 0; k < d; ++k) g[k] = (g[k] - along * u[k]) / norms.data()[i];
  }
}

}  // namespace detail

/// Gradients from dL/dcost [n, m]. Where two rows coincide the distance has a kink; its subgradient there is 0.
inline CostGradient pairwise_cost_backward(const PairwiseCost& c, const Tensor<double>& dcost) {
  ot_require(dcost.shape() == c.cost.shape(), "invalid_shape", "pairwise_cost_backward: gradient ", dcost.shape(),
             " for a cost ", c.cost.shape());
  const Index n = c.x.shape()[0], m = c.y.shape()[0], d = c.x.shape()[1];
  CostGradient out;
  const Tensor<double> dc = detail::undivided_gradient(c, dcost);
  Tensor<double> w({n, m}), a(c.x.shape()), b(c.y.shape());
  std::vector<double> row(std::size_t(n), 0.0), col(std::size_t(m), 0.0);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < m; ++j) {
      const double distance = c.cost.data()[i * m + j] * c.scale;
      const bool clear = !c.degenerate && distance > 0 && distance * distance > detail::square_floor(c, i, j);
      const double v = w.data()[i * m + j] = clear ? dc.data()[i * m + j] / (2 * distance) : 0;
      row[std::size_t(i)] += v;
      col[std::size_t(j)] += v;
    }
  // a = diag(w 1) x - w y, b = diag(w^T 1) y - w^T x: everything else follows from them.
  for (Index k = 0; k < a.size(); ++k) a.data()[k] = row[std::size_t(k / d)] * c.x.data()[k];
  for (Index k = 0; k < b.size(); ++k) b.data()[k] = col[std::size_t(k / d)] * c.y.data()[k];
  detail::host_gemm(false, false, -1, w, c.y, 1, a);
  detail::host_gemm(true, false, -1, w, c.x, 1, b);
  out.x = detail::twice_through_metric(c, a), out.y = detail::twice_through_metric(c, b);
  out.metric = detail::metric_gradient(c, a, b);
  detail::undo_normalisation(c.unit_x, c.norm_x, out.x);
  detail::undo_normalisation(c.unit_y, c.norm_y, out.y);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
