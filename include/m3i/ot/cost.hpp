#pragma once
/// The pairwise cost of mPOT and its gradients: C_ij = sqrt((x_i - y_j)^T M (x_i - y_j)), in double on the host.

#include <algorithm>
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
  bool l2_normalize = true;  ///< divide each row of x and y by its norm first
};

/// The cost matrix, and what its gradient needs. Rows of x and of y lie in one matrix, so that each product with the
/// metric is one product: N = n + m.
struct PairwiseCost {
  Tensor<double> cost;      ///< [n, m], after the division
  double scale = 1;         ///< what it was divided by
  bool degenerate = false;  ///< all pairs coincide: the cost is 0 and so is its gradient
  Tensor<double> points;    ///< z [N, d]: x, then y; normalised if asked, then less their common mean
  Tensor<double> images;    ///< z M (full, diagonal), z (euclidean) or z L^T [N, k] (factor)
  Tensor<double> energies;  ///< z M z [N]
  Tensor<double> mean;      ///< [d]
  Tensor<double> norms;     ///< [N]; undefined if not asked
  Tensor<double> metric;    ///< symmetric part of M, or L, or w
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

/// Rows [begin, end) of a matrix to each thread, several at a time.
template <class F>
void for_row_chunks(const Tensor<double>& x, const F& f) {
  parallel_chunks(x.shape()[0], std::max<Index>(1, 65536 / x.shape()[1]), f);
}

/// out_ij = out_ji = f(m_ij, m_ji) for i >= j; out may be m. Goes by tiles of a cache line: a whole column of a large
/// matrix falls into few sets of the cache.
template <class F>
void make_symmetric(const Tensor<double>& m, const Tensor<double>& out, const F& f) {
  constexpr Index side = 8;
  const Index d = m.shape()[0];
  const double* from = m.data();
  double* to = out.data();
  parallel_chunks((d + side - 1) / side, std::max<Index>(1, 32768 / (d * side)), [=](Index first, Index last) {
    for (Index i0 = first * side; i0 < std::min(d, last * side); i0 += side)
      for (Index j0 = 0; j0 <= i0; j0 += side) {
        const Index rows = std::min(side, d - i0), cols = std::min(side, d - j0);
        double tile[side][side];
        for (Index i = 0; i < rows; ++i)
          for (Index j = 0; j < cols; ++j) tile[i][j] = f(from[(i0 + i) * d + j0 + j], from[(j0 + j) * d + i0 + i]);
        if (i0 == j0)
          for (Index i = 0; i < rows; ++i)
            for (Index j = i + 1; j < cols; ++j) tile[i][j] = tile[j][i];
        for (Index i = 0; i < rows; ++i)
          for (Index j = 0; j < cols; ++j) to[(i0 + i) * d + j0 + j] = tile[i][j];
        if (i0 != j0)
          for (Index j = 0; j < cols; ++j)
            for (Index i = 0; i < rows; ++i) to[(j0 + j) * d + i0 + i] = tile[i][j];
      }
  });
}

inline Tensor<double> symmetric_part(const Tensor<double>& m) {
  Tensor<double> out(m.shape());
  make_symmetric(m, out, [](double lower, double upper) { return (lower + upper) / 2; });
  return out;
}

/// C [d, d] = alpha A^T B + beta C where that is known to be symmetric: only the blocks up to the diagonal are
/// computed.
inline void symmetric_product(
    double alpha, const Tensor<double>& a, const Tensor<double>& b, double beta, const Tensor<double>& c) {
  constexpr Index block = 128;
  const Index d = c.shape()[0], k = a.shape()[0];
  for (Index i = 0; i < d; i += block) {
    const Index rows = std::min(block, d - i);
    gemm<double>(Device::cpu(), true, false, rows, i + rows, k, alpha, a.data() + i, d, b.data(), d, beta,
                 c.data() + i * d, d);
  }
  make_symmetric(c, c, [](double lower, double) { return lower; });
}

/// The rows of x and then of y: divided by their norms if asked, less the mean of all of them. Distances do not change
/// by that, rounding shrinks.
inline void stack_points(PairwiseCost& c, const Tensor<double>& x, const Tensor<double>& y) {
  const Index n = x.shape()[0], rows = n + y.shape()[0], d = x.shape()[1];
  const auto given = [&](Index i) { return i < n ? x.data() + i * d : y.data() + (i - n) * d; };
  if (c.options.l2_normalize) {
    c.norms = Tensor<double>({rows});
    for (Index i = 0; i < rows; ++i) {
      const double norm = c.norms.data()[i] = std::sqrt(dot(given(i), given(i), d));
      ot_require(norm > 0, "zero_row", "mpot_cost: row ", i < n ? i : i - n, " of ", i < n ? "x" : "y",
                 " is zero and has no direction; turn l2_normalize off or look for dead embeddings");
    }
  }
  const double* norms = c.options.l2_normalize ? c.norms.data() : nullptr;
  c.points = Tensor<double>({rows, d});
  c.mean = Tensor<double>::zeros({d});
  double* M3I_RESTRICT mean = c.mean.data();
  for (Index i = 0; i < rows; ++i) {
    const double* M3I_RESTRICT from = given(i);
    double* M3I_RESTRICT to = c.points.data() + i * d;
    const double factor = norms ? 1 / norms[i] : 1;
    M3I_SIMD
    for (Index k = 0; k < d; ++k) mean[k] += to[k] = from[k] * factor;
  }
  for (Index k = 0; k < d; ++k) mean[k] /= double(rows);
  for (Index i = 0; i < rows; ++i) {
    double* M3I_RESTRICT to = c.points.data() + i * d;
    M3I_SIMD
    for (Index k = 0; k < d; ++k) to[k] -= mean[k];
  }
}

/// z M for full, diagonal and euclidean; z L^T for factor.
inline Tensor<double> apply_metric(const PairwiseCost& c) {
  const Tensor<double>& z = c.points;
  const Index rows = z.shape()[0], d = z.shape()[1];
  if (c.options.metric == Metric::euclidean) return z;
  const bool factor = c.options.metric == Metric::factor;
  Tensor<double> out({rows, factor ? c.metric.shape()[0] : d});
  if (c.options.metric != Metric::diagonal) {
    host_gemm(false, factor, 1, z, c.metric, 0, out);
    return out;
  }
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < d; ++k) out.data()[i * d + k] = z.data()[i * d + k] * c.metric.data()[k];
  return out;
}

/// What the images are multiplied with to give squared lengths.
inline const Tensor<double>& image_partner(const PairwiseCost& c) {
  return c.options.metric == Metric::factor ? c.images : c.points;
}

/// D_ij = z_i M z_i + z_j M z_j - 2 z_i M z_j as one product. Where rows are close that cancels: those pairs, few in
/// any batch once the mean is gone, are taken difference by difference, (z_i - z_j) . (M z_i - M z_j).
inline void squared_distances(const PairwiseCost& c, const Tensor<double>& squares) {
  constexpr double close = 1.0 / 64;  // of the energies: no more than 6 bits are lost
  const Tensor<double>& left = image_partner(c);
  const Index n = squares.shape()[0], m = squares.shape()[1], d = left.shape()[1];
  host_gemm(false, true, -2, c.images.slice(0, n), left.slice(n, n + m), 0, squares);
  const double *z = left.data(), *image = c.images.data(), *energy = c.energies.data();
  for_row_chunks(squares, [=, to = squares.data()](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      double* M3I_RESTRICT row = to + i * m;
      const double own = energy[i];
      Index cancelled = 0;
      M3I_SIMD_REDUCE(+, cancelled)
      for (Index j = 0; j < m; ++j) {
        const double both = own + energy[n + j];
        row[j] += both;
        cancelled += row[j] < close * both;
      }
      for (Index j = 0; cancelled > 0 && j < m; ++j) {
        if (!(row[j] < close * (own + energy[n + j]))) continue;
        const double *p = z + i * d, *q = z + (n + j) * d, *r = image + i * d, *s = image + (n + j) * d;
        double sum = 0;
        M3I_SIMD_REDUCE(+, sum)
        for (Index k = 0; k < d; ++k) sum += (p[k] - q[k]) * (r[k] - s[k]);
        row[j] = sum;
        --cancelled;
      }
    }
  });
}

/// The error for the first square that is negative beyond rounding, if there is one.
inline void check_squares(const PairwiseCost& c, const Tensor<double>& squares) {
  const Index n = squares.shape()[0], m = squares.shape()[1];
  const double* energy = c.energies.data();
  for (Index i = 0; i < n; ++i) {
    const double* row = squares.data() + i * m;
    Index bad = 0;
    M3I_SIMD_REDUCE(+, bad)
    for (Index j = 0; j < m; ++j) bad += row[j] < -1e-6 * (energy[i] + energy[n + j]);
    for (Index j = 0; bad > 0 && j < m; ++j)
      ot_require(!(row[j] < -1e-6 * (energy[i] + energy[n + j])), "not_positive_semidefinite",
                 "mpot_cost: the squared distance of x[", i, "] and y[", j, "] is ", row[j],
                 ", so the metric has a negative eigenvalue; call project_metric after each step");
  }
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
/// Time (n + m) d^2 + n m d (full). Throws OtError: invalid_shape, empty_input, non_finite_input, zero_row, and
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
  const Tensor<double> host_x = x.to(Device::cpu()), host_y = y.to(Device::cpu());
  c.metric = metric.to(Device::cpu());
  detail::ot_require_finite("mpot_cost: x", host_x);
  detail::ot_require_finite("mpot_cost: y", host_y);
  detail::check_metric_shape(c.metric, options.metric, x.shape()[1]);
  if (options.metric == Metric::full) c.metric = detail::symmetric_part(c.metric);
  detail::stack_points(c, host_x, host_y);
  c.images = detail::apply_metric(c);
  const Tensor<double>& partner = detail::image_partner(c);
  const Index rows = c.points.shape()[0], width = c.images.shape()[1];
  c.energies = Tensor<double>({rows});
  for (Index i = 0; i < rows; ++i)
    c.energies.data()[i] = detail::dot(partner.data() + i * width, c.images.data() + i * width, width);
  c.cost = Tensor<double>({x.shape()[0], y.shape()[0]});
  detail::squared_distances(c, c.cost);
  detail::check_squares(c, c.cost);
  double* M3I_RESTRICT cost = c.cost.data();
  const Index size = c.cost.size();
  double largest = 0;
  M3I_SIMD_REDUCE(max, largest)
  for (Index k = 0; k < size; ++k) {
    cost[k] = std::sqrt(math::max(cost[k], 0.0));
    largest = math::max(largest, cost[k]);
  }
  c.degenerate = !(largest > 0);
  if (options.scale == CostScale::max && !c.degenerate) {
    c.scale = largest;
    M3I_SIMD
    for (Index k = 0; k < size; ++k) cost[k] /= largest;
  }
  return c;
}

namespace detail {

/// What the largest entries of the cost owe for having been the divisor of all, each its share; 0 if none was.
inline double divisor_share(const PairwiseCost& c, const Tensor<double>& dcost) {
  if (c.options.scale == CostScale::none) return 0;
  const double *cost = c.cost.data(), *dc = dcost.data();
  const Index size = c.cost.size();
  double product = 0, ties = 0;
  M3I_SIMD_REDUCE(+, product)
  for (Index k = 0; k < size; ++k) product += dc[k] * cost[k];
  M3I_SIMD_REDUCE(+, ties)
  for (Index k = 0; k < size; ++k) ties += cost[k] == 1 ? 1.0 : 0.0;
  return ties > 0 ? product / ties : 0;
}

/// w_ij = dL/dC_ij / C_ij, twice the derivative of L by the squared distance, and its sums over rows and columns [N].
/// Where two rows coincide the distance has a kink; its subgradient there is 0.
inline void weigh_pairs(const PairwiseCost& c,
                        const Tensor<double>& dcost,
                        const Tensor<double>& weights,
                        const Tensor<double>& sums) {
  const Index n = weights.shape()[0], m = weights.shape()[1];
  const double share = divisor_share(c, dcost), unit = 1 / (c.scale * c.scale);
  const bool divided = c.options.scale == CostScale::max;
  double* M3I_RESTRICT columns = sums.data() + n;
  for (Index i = 0; i < n; ++i) {
    const double *cost = c.cost.data() + i * m, *dc = dcost.data() + i * m;
    double* M3I_RESTRICT w = weights.data() + i * m;
    double sum = 0;
    M3I_SIMD_REDUCE(+, sum)
    for (Index j = 0; j < m; ++j) {
      const double owed = divided && cost[j] == 1 ? share : 0;
      w[j] = cost[j] > 0 ? (dc[j] - owed) * unit / cost[j] : 0;
      sum += w[j];
      columns[j] += w[j];
    }
    sums.data()[i] = sum;
  }
}

/// K v for K = [diag(w 1), -w; -w^T, diag(w^T 1)], the derivative of sum_ij w_ij |z_i - z_j|^2 / 2 by z at z = v.
inline Tensor<double> laplacian(const Tensor<double>& w, const Tensor<double>& sums, const Tensor<double>& v) {
  const Index n = w.shape()[0], rows = v.shape()[0], width = v.shape()[1];
  Tensor<double> out(v.shape());
  for_row_chunks(v, [=, from = v.data(), to = out.data(), sum = sums.data()](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index k = 0; k < width; ++k) to[i * width + k] = sum[i] * from[i * width + k];
  });
  host_gemm(false, false, -1, w, v.slice(n, rows), 1, out.slice(0, n));
  host_gemm(true, false, -1, w, v.slice(0, n), 1, out.slice(n, rows));
  return out;
}

/// From K z; exactly symmetric for a full metric.
inline Tensor<double> metric_gradient(const PairwiseCost& c, const Tensor<double>& kz) {
  Tensor<double> out(c.metric.shape());
  if (c.options.metric == Metric::full) symmetric_product(0.5, c.points, kz, 0, out);
  if (c.options.metric == Metric::factor) host_gemm(true, false, 1, c.images, kz, 0, out);
  if (c.options.metric == Metric::diagonal) {
    out.zero();
    const Index rows = kz.shape()[0], d = kz.shape()[1];
    for (Index i = 0; i < rows; ++i)
      for (Index k = 0; k < d; ++k) out.data()[k] += c.points.data()[i * d + k] * kz.data()[i * d + k] / 2;
  }
  return out;
}

/// Through z / |z|: the part along the row vanishes.
inline void undo_normalisation(const PairwiseCost& c, const Tensor<double>& dz) {
  if (!c.norms.defined()) return;
  const Index d = dz.shape()[1];
  const double *z = c.points.data(), *mean = c.mean.data(), *norms = c.norms.data();
  for_row_chunks(dz, [=, to = dz.data()](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const double* u = z + i * d;
      double* M3I_RESTRICT g = to + i * d;
      double along = 0;
      M3I_SIMD_REDUCE(+, along)
      for (Index k = 0; k < d; ++k) along += (u[k] + mean[k]) * g[k];
      const double factor = 1 / norms[i];
      M3I_SIMD
      for (Index k = 0; k < d; ++k) g[k] = (g[k] - along * (u[k] + mean[k])) * factor;
    }
  });
}

}  // namespace detail

/// Gradients from dL/dcost [n, m]. The images kept from the forward pass make 2 n m d of what would be (n + m) d^2.
inline CostGradient pairwise_cost_backward(const PairwiseCost& c, const Tensor<double>& dcost) {
  ot_require(dcost.shape() == c.cost.shape(), "invalid_shape", "pairwise_cost_backward: gradient ", dcost.shape(),
             " for a cost ", c.cost.shape());
  const Index n = c.cost.shape()[0], rows = c.points.shape()[0];
  const Tensor<double> w(c.cost.shape()), sums = Tensor<double>::zeros({rows});
  detail::weigh_pairs(c, dcost, w, sums);
  Tensor<double> dz = detail::laplacian(w, sums, c.images);
  if (c.options.metric == Metric::factor) {
    const Tensor<double> back(c.points.shape());
    detail::host_gemm(false, false, 1, dz, c.metric, 0, back);
    dz = back;
  }
  CostGradient out;
  if (c.options.metric != Metric::euclidean)
    out.metric = detail::metric_gradient(c, detail::laplacian(w, sums, c.points));
  detail::undo_normalisation(c, dz);
  out.x = dz.slice(0, n), out.y = dz.slice(n, rows);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
