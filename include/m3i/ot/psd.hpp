#pragma once
/// What keeps a learned metric a metric: projection onto the positive semidefinite matrices after every step.

#include <algorithm>
#include <cmath>
#include <vector>

#include "m3i/kernels/gather.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/kernels/solvers.hpp"
#include "m3i/ot/cost.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct PsdProjection {
  bool inside = false;  ///< the matrix was positive definite (above the floor) already: only made symmetric
  Index clamped = 0;    ///< eigenvalues, or diagonal entries, that were raised to the floor
};

namespace detail {

/// out = base + sum_k weight_k v_k v_k^T over rows [begin, end) of `vectors` [d, d], exactly symmetric.
inline Tensor<double> add_outer_products(const Tensor<double>& base,
                                         const Tensor<double>& vectors,
                                         const std::vector<double>& weight,
                                         Index begin,
                                         Index end) {
  const Index d = base.shape()[0];
  Tensor<double> out = base.clone(), scaled = vectors.slice(begin, end).clone();
  for (Index k = 0; k < scaled.size(); ++k) scaled.data()[k] *= weight[std::size_t(begin + k / d)];
  if (end > begin) symmetric_product(1, vectors.slice(begin, end), scaled, 1, out);
  return out;
}

/// A template, so that only programs that project compile the solvers; Real is double.
template <class Real>
PsdProjection project_symmetric(Tensor<Real>& m, Real floor) {
  const Index d = m.shape()[0];
  m = symmetric_part(m);
  Tensor<double> shifted = m.clone();
  for (Index i = 0; i < d; ++i) shifted.data()[i * (d + 1)] -= floor;
  if (cholesky(d, shifted.data())) return {true, 0};
  std::vector<double> values(static_cast<std::size_t>(d));
  Tensor<double> vectors({d, d});
  require<NumericError>(symmetric_eigen(d, m.data(), values.data(), vectors.data()),
                        "project_psd: the eigenvalues of a metric ", m.shape(), " did not converge; is it finite?");
  const Index low = Index(std::lower_bound(values.begin(), values.end(), floor) - values.begin());
  for (double& v : values) v = std::abs(v - floor);
  if (2 * low <= d) {  // add what is missing below the floor, or build from what is above: whichever is less
    m = add_outer_products(m, vectors, values, 0, low);
  } else {
    Tensor<double> base = Tensor<double>::zeros(m.shape());
    for (Index i = 0; i < d; ++i) base.data()[i * (d + 1)] = floor;
    m = add_outer_products(base, vectors, values, low, d);
  }
  return {false, low};
}

}  // namespace detail

/// The nearest matrix (Frobenius) to the symmetric part of m [d, d] with no eigenvalue below `floor`, written to m.
///
/// Works in double for any T and device. A Cholesky factorisation first tells whether there is anything to do, which
/// early in training there is not (d^3 / 3 operations against about 10 d^3). Throws ShapeError, NumericError.
template <class T>
PsdProjection project_psd(const Tensor<T>& m, double floor = 0) {
  const Operation operation("project_psd", m);
  require(m.rank() == 2 && m.shape()[0] == m.shape()[1] && m.size() > 0, "project_psd: metric ", m.shape(),
          ", expected [d, d]");
  Tensor<double> host = cast<double>(m.to(Device::cpu()));
  for (Index k = 0; k < host.size(); ++k)
    require<NumericError>(math::is_finite(host.data()[k]), "project_psd: element ", k, " of the metric ", m.shape(),
                          " is ", host.data()[k], "; skip the step that made it so");
  const PsdProjection done = detail::project_symmetric(host, floor);
  m.copy_from(cast<T>(host).to(m.device()));
  return done;
}

struct MetricProjection {
  double floor = 0;         ///< smallest eigenvalue (full) or entry (diagonal)
  bool unit_trace = false;  ///< then scale to trace M = d: the loss with CostScale::max does not see the scale of M
};

/// To be called after every optimiser step on the metric; a factor L stays as it is, L^T L cannot leave the cone.
template <class T>
PsdProjection project_metric(const Tensor<T>& metric, Metric kind, const MetricProjection& options = {}) {
  const Operation operation("project_metric", metric);
  PsdProjection done{true, 0};
  if (kind == Metric::euclidean || !metric.defined()) return done;
  if (kind == Metric::full) done = project_psd(metric, options.floor);
  if (kind != Metric::diagonal && !options.unit_trace) return done;
  Tensor<double> host = cast<double>(metric.to(Device::cpu())).clone();
  if (kind == Metric::diagonal)
    for (double& w : host.span())
      if (w < options.floor) {
        w = options.floor;
        done.inside = false;
        ++done.clamped;
      }
  if (options.unit_trace) {
    const Index d = host.shape()[-1];
    double trace = 0;
    for (Index i = 0; i < host.size(); ++i)
      trace += kind == Metric::factor                         ? host.data()[i] * host.data()[i]
               : kind == Metric::diagonal || i % (d + 1) == 0 ? host.data()[i]
                                                              : 0;
    const double scale = trace > 0 ? double(d) / trace : 1;
    for (double& v : host.span()) v *= kind == Metric::factor ? std::sqrt(scale) : scale;
  }
  metric.copy_from(cast<T>(host).to(metric.device()));
  return done;
}

}  // namespace M3I_ABI
}  // namespace m3i
