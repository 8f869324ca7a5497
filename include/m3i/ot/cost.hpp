#pragma once
/// The pairwise cost of mPOT and its gradients: C_ij = sqrt((x_i - y_j)^T M (x_i - y_j)), in double, on the device of
/// the rows.

#include <algorithm>

#include "m3i/core/parallel.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/ot/cost_kernels.hpp"
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
  Tensor<double> cost;     ///< [n, m], after the division
  Tensor<double> largest;  ///< scalar, before the division; 0: all pairs coincide, the cost is 0 and so is its gradient
  Tensor<double> points;   ///< z [N, d]: x, then y; normalised if asked, then less their common mean
  Tensor<double> images;   ///< z M (full, diagonal), z (euclidean) or z L^T [N, k] (factor)
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

/// C [m, n] = alpha op(A) op(B) + beta C.
inline void product(bool trans_a,
                    bool trans_b,
                    double alpha,
                    const Tensor<double>& a,
                    const Tensor<double>& b,
                    double beta,
                    const Tensor<double>& c) {
  gemm<double>(c.device(), trans_a, trans_b, c.shape()[0], c.shape()[1], a.shape()[trans_a ? 0 : 1], alpha, a.data(),
               a.shape()[1], b.data(), b.shape()[1], beta, c.data(), c.shape()[1]);
}

/// out_ij = out_ji = f(m_ij, m_ji) for i >= j, on the host; out may be m. Goes by tiles of a cache line: a whole column
/// of a large matrix falls into few sets of the cache.
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
  const Tensor<double> out(m.shape(), m.device());
  if (m.device().kind == Device::Kind::cpu)
    make_symmetric(m, out, [](double lower, double upper) { return (lower + upper) / 2; });
  else for_each(m.device(), m.size(), SymmetricCell{m.data(), out.data(), m.shape()[0]});
  return out;
}

/// C [d, d] = alpha A^T B + beta C where that is known to be symmetric. On the host only the blocks up to the diagonal
/// are computed.
inline void symmetric_product(
    double alpha, const Tensor<double>& a, const Tensor<double>& b, double beta, const Tensor<double>& c) {
  if (c.device().kind != Device::Kind::cpu) {
    product(true, false, alpha, a, b, beta, c);
    return c.copy_from(symmetric_part(c));
  }
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
  const Device device = x.device();
  const Index n = x.shape()[0], rows = n + y.shape()[0], d = x.shape()[1];
  c.points = Tensor<double>({rows, d}, device);
  c.mean = Tensor<double>({d}, device);
  if (c.options.l2_normalize) c.norms = Tensor<double>({rows}, device);
  for_rows(device, rows, UnitPoint{x.data(), y.data(), n, d, c.points.data(), c.norms.data()}, d);
  if (c.norms.defined() && device.kind == Device::Kind::cpu)
    for (Index i = 0; i < rows; ++i)
      ot_require(c.norms.data()[i] > 0, "zero_row", "mpot_cost: row ", i < n ? i : i - n, " of ", i < n ? "x" : "y",
                 " is zero and has no direction; turn l2_normalize off or look for dead embeddings");
  const auto sums = Tensor<double>::zeros({d}, device);
  add_column_sums(c.points, sums);
  for_rows(device, rows, CentredRow{c.points.data(), sums.data(), c.mean.data(), rows, d}, d);
}

/// z M for full, diagonal and euclidean; z L^T for factor.
inline Tensor<double> apply_metric(const PairwiseCost& c) {
  const Tensor<double>& z = c.points;
  const Index rows = z.shape()[0], d = z.shape()[1];
  if (c.options.metric == Metric::euclidean) return z;
  const bool factor = c.options.metric == Metric::factor;
  const Tensor<double> out({rows, factor ? c.metric.shape()[0] : d}, z.device());
  if (c.options.metric == Metric::diagonal)
    for_rows(z.device(), rows, ScaledRow<false>{z.data(), c.metric.data(), out.data(), d}, d);
  else product(false, factor, 1, z, c.metric, 0, out);
  return out;
}

/// What the images are multiplied with to give squared lengths.
inline const Tensor<double>& image_partner(const PairwiseCost& c) {
  return c.options.metric == Metric::factor ? c.images : c.points;
}

/// Those of all pairs; see SquaredRow.
inline void squared_distances(const PairwiseCost& c, const Tensor<double>& squares) {
  const Tensor<double>& left = image_partner(c);
  const Index n = squares.shape()[0], m = squares.shape()[1], width = left.shape()[1];
  product(false, true, -2, c.images.slice(0, n), left.slice(n, n + m), 0, squares);
  for_rows(squares.device(), n,
           SquaredRow{left.data(), c.images.data(), c.energies.data(), squares.data(), n, m, width}, m);
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
    case Metric::euclidean: break;
  }
}

}  // namespace detail

/// The cost between the rows of x [n, d] and y [m, d], which share a device with the metric. `metric` as options.metric
/// says; ignored for euclidean.
///
/// Time (n + m) d^2 + n m d (full). Throws OtError: invalid_shape and empty_input; and for what lies on the host
/// non_finite_input, zero_row, and not_positive_semidefinite where a square is negative beyond rounding. Elsewhere
/// nobody waits for the device to look at its values: the cost of what is wrong with them is NaN.
inline PairwiseCost pairwise_cost(const Tensor<double>& x,
                                  const Tensor<double>& y,
                                  const Tensor<double>& metric,
                                  const CostOptions& options = {}) {
  ot_require(x.rank() == 2 && y.rank() == 2 && x.shape()[1] == y.shape()[1], "invalid_shape", "mpot_cost: embeddings ",
             x.shape(), " and ", y.shape(), "; expected [n, d] and [m, d]");
  ot_require(x.size() > 0 && y.size() > 0, "empty_input", "mpot_cost: embeddings ", x.shape(), " and ", y.shape(),
             " leave nothing to compare");
  const Device device = x.device();
  const bool host = device.kind == Device::Kind::cpu;
  detail::check_metric_shape(metric, options.metric, x.shape()[1]);
  if (host) {
    detail::ot_require_finite("mpot_cost: x", x);
    detail::ot_require_finite("mpot_cost: y", y);
    if (options.metric != Metric::euclidean) detail::ot_require_finite("mpot_cost: metric", metric);
  }
  PairwiseCost c;
  c.options = options;
  c.metric = options.metric == Metric::full ? detail::symmetric_part(metric) : metric;
  detail::stack_points(c, x, y);
  c.images = detail::apply_metric(c);
  const Tensor<double>& partner = detail::image_partner(c);
  const Index n = x.shape()[0], m = y.shape()[0], rows = n + m, width = c.images.shape()[1];
  c.energies = Tensor<double>({rows}, device);
  for_rows(device, rows, detail::RowProduct{partner.data(), c.images.data(), c.energies.data(), width}, width);
  c.cost = Tensor<double>({n, m}, device);
  detail::squared_distances(c, c.cost);
  if (host) detail::check_squares(c, c.cost);
  c.largest = Tensor<double>({}, device);
  for_rows(device, 1,
           detail::RootsOfSquares{c.energies.data(), c.cost.data(), c.largest.data(), n, m,
                                  options.scale == CostScale::max});
  return c;
}

namespace detail {

/// K v for K = [diag(w 1), -w; -w^T, diag(w^T 1)], the derivative of sum_ij w_ij |z_i - z_j|^2 / 2 by z at z = v.
inline Tensor<double> laplacian(const Tensor<double>& w, const Tensor<double>& sums, const Tensor<double>& v) {
  const Index n = w.shape()[0], rows = v.shape()[0], width = v.shape()[1];
  const Tensor<double> out(v.shape(), v.device());
  for_rows(v.device(), rows, ScaledRow<true>{v.data(), sums.data(), out.data(), width}, width);
  product(false, false, -1, w, v.slice(n, rows), 1, out.slice(0, n));
  product(true, false, -1, w, v.slice(0, n), 1, out.slice(n, rows));
  return out;
}

/// From K z; exactly symmetric for a full metric.
inline Tensor<double> metric_gradient(const PairwiseCost& c, const Tensor<double>& kz) {
  const auto out = Tensor<double>::zeros(c.metric.shape(), c.metric.device());
  const Index rows = kz.shape()[0], d = kz.shape()[1];
  if (c.options.metric == Metric::full) symmetric_product(0.5, c.points, kz, 0, out);
  else if (c.options.metric == Metric::factor) product(true, false, 1, c.images, kz, 0, out);
  else for_columns(out.device(), rows, d, HalfProduct{c.points.data(), kz.data(), d}, out.data());
  return out;
}

}  // namespace detail

/// Gradients from dL/dcost [n, m]. The images kept from the forward pass make 2 n m d of what would be (n + m) d^2.
inline CostGradient pairwise_cost_backward(const PairwiseCost& c, const Tensor<double>& dcost) {
  ot_require(dcost.shape() == c.cost.shape(), "invalid_shape", "pairwise_cost_backward: gradient ", dcost.shape(),
             " for a cost ", c.cost.shape());
  const Device device = c.cost.device();
  const Index n = c.cost.shape()[0], m = c.cost.shape()[1], rows = n + m, d = c.points.shape()[1];
  const Tensor<double> w(c.cost.shape(), device), sums({rows}, device);
  for_rows(device, 1,
           detail::PairWeights{c.cost.data(), dcost.data(), c.largest.data(), w.data(), sums.data(), n, m,
                               c.options.scale == CostScale::max});
  Tensor<double> dz = detail::laplacian(w, sums, c.images);
  if (c.options.metric == Metric::factor) {
    const Tensor<double> back(c.points.shape(), device);
    detail::product(false, false, 1, dz, c.metric, 0, back);
    dz = back;
  }
  CostGradient out;
  if (c.options.metric != Metric::euclidean)
    out.metric = detail::metric_gradient(c, detail::laplacian(w, sums, c.points));
  if (c.norms.defined())
    for_rows(device, rows, detail::NormGradientRow{c.points.data(), c.mean.data(), c.norms.data(), dz.data(), d}, d);
  out.x = dz.slice(0, n), out.y = dz.slice(n, rows);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
