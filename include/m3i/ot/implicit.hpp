#pragma once
/// The loss KL(target || plan) and its gradient with respect to the cost: implicit, or through the sweeps.

#include <vector>

#include "m3i/ot/dual_system.hpp"
#include "m3i/ot/problem.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class OtLoss {
  kl,            ///< sum W (log W - log plan)
  generalised,   ///< kl - sum W + mass
  cross_entropy  ///< -sum W log plan
};

/// The loss for a target W [n, m] >= 0. The three kinds differ by constants of the cost. Throws OtError if W is
/// negative, sums to zero, or is positive where no plan can be.
inline double ot_loss(const OtResult& result, const Tensor<double>& target, OtLoss kind = OtLoss::kl) {
  ot_require(target.shape() == result.log_plan.shape(), "invalid_shape", "ot_loss: target ", target.shape(),
             " for a plan ", result.log_plan.shape());
  double cross = 0, entropy = 0, total = 0;
  const double *w = target.data(), *log_plan = result.log_plan.data();
  for (Index k = 0; k < target.size(); ++k) {
    if (w[k] == 0) continue;
    ot_require(math::is_finite(w[k]), "non_finite_input", "ot_loss: target element ", k, " is ", w[k]);
    ot_require(w[k] >= 0, "invalid_target", "ot_loss: target element ", k, " = ", w[k], " is negative");
    ot_require(math::is_finite(log_plan[k]), "infinite_loss", "ot_loss: target element ", k, " = ", w[k],
               " where a weight is zero: the plan is zero there and the loss infinite");
    cross -= w[k] * log_plan[k];
    entropy += w[k] * std::log(w[k]);
    total += w[k];
  }
  ot_require(total > 0, "invalid_target", "ot_loss: the target sums to 0; at least one entry must be positive");
  switch (kind) {
    case OtLoss::cross_entropy: return cross;
    case OtLoss::generalised: return cross + entropy - total + result.mass;
    case OtLoss::kl: break;
  }
  return cross + entropy;
}

namespace detail {

/// Which potentials are determined by an active constraint, and whether lambda is one more.
struct ActiveSet {
  std::vector<unsigned char> rows, cols;
  bool has_lambda = true;
};

inline ActiveSet ot_active_set(const OtResult& result) {
  const auto active = [](const Tensor<double>& z, bool equality, std::vector<unsigned char>& out) {
    bool all = true;
    for (const double v : z.span()) {
      const bool present = math::is_finite(v);  // zero weights are not part of the problem
      out.push_back(present && (equality || v < 0));
      all &= !present || out.back();
    }
    return all;
  };
  ActiveSet set;
  const bool all_rows = active(result.f, result.row_equality, set.rows);
  const bool all_cols = active(result.g, result.col_equality, set.cols);
  // When every row is full, the mass constraint says nothing new; when every column is too, one of them neither.
  set.has_lambda = !all_rows && !all_cols;
  if (all_rows && all_cols)
    for (std::size_t j = set.cols.size(); j-- > 0;)
      if (set.cols[j]) {
        set.cols[j] = 0;
        break;
      }
  return set;
}

/// Adds the row sums [n] of x [n, m], its column sums [m] and its sum to `sums` [n + m + 1].
inline void add_marginals(const double* x, Index n, Index m, double* sums) {
  double* M3I_RESTRICT columns = sums + n;
  double all = 0;
  for (Index i = 0; i < n; ++i, x += m) {
    double sum = 0;
    M3I_SIMD_REDUCE(+, sum)
    for (Index j = 0; j < m; ++j) {
      sum += x[j];
      columns[j] += x[j];
    }
    sums[i] += sum;
    all += sum;
  }
  sums[n + m] += all;
}

/// H z = g on the active set, and nothing elsewhere, by conjugate gradients with the diagonal as preconditioner.
class DualConjugateGradient {
 public:
  DualConjugateGradient(const double* plan, const double* r, const double* c, double total, const ActiveSet& set)
      : plan_(plan), total_(total), n_(Index(set.rows.size())), m_(Index(set.cols.size())), set_(set) {
    for (Index i = 0; i < n_; ++i) diagonal_.push_back(r[i]);
    for (Index j = 0; j < m_; ++j) diagonal_.push_back(c[j]);
    diagonal_.push_back(total);
  }

  /// x and g [n + m + 1]. Stops at 1e-10 of the first residual, or after 10 (n + m) steps.
  void solve(const std::vector<double>& g, std::vector<double>& x) const {
    const std::size_t size = diagonal_.size();
    std::vector<double> residual = g, z(size), direction(size), image(size);
    x.assign(size, 0.0);
    restrict_to_active(residual);
    const auto precondition = [&] {
      double product = 0;
      for (std::size_t k = 0; k < size; ++k) {
        z[k] = residual[k] == 0 ? 0 : residual[k] / diagonal_[k];
        product += residual[k] * z[k];
      }
      return product;
    };
    double rho = precondition();
    const double enough = 1e-20 * rho;
    direction = z;
    for (Index step = 0; step < 10 * (n_ + m_) && rho > enough; ++step) {
      multiply(direction, image);
      double curvature = 0;
      for (std::size_t k = 0; k < size; ++k) curvature += direction[k] * image[k];
      if (!(curvature > 0)) return;
      const double length = rho / curvature;
      for (std::size_t k = 0; k < size; ++k) x[k] += length * direction[k], residual[k] -= length * image[k];
      const double next = precondition();
      for (std::size_t k = 0; k < size; ++k) direction[k] = z[k] + next / rho * direction[k];
      rho = next;
    }
  }

 private:
  void restrict_to_active(std::vector<double>& v) const {
    for (Index i = 0; i < n_; ++i) v[std::size_t(i)] *= set_.rows[std::size_t(i)];
    for (Index j = 0; j < m_; ++j) v[std::size_t(n_ + j)] *= set_.cols[std::size_t(j)];
    v.back() *= set_.has_lambda;
  }
  void multiply(const std::vector<double>& x, std::vector<double>& y) const {
    const double *xa = x.data(), *xb = xa + n_, *diagonal = diagonal_.data();
    double *ya = y.data(), *yb = ya + n_;
    const double level = x.back();
    double all = total_ * level;
    for (Index j = 0; j < m_; ++j) {
      yb[j] = diagonal[n_ + j] * (xb[j] + level);
      all += diagonal[n_ + j] * xb[j];
    }
    for (Index i = 0; i < n_; ++i) {
      const double* row = plan_ + i * m_;
      double sum = diagonal[i] * (xa[i] + level);
      M3I_SIMD_REDUCE(+, sum)
      for (Index j = 0; j < m_; ++j) {
        sum += row[j] * xb[j];
        yb[j] += row[j] * xa[i];
      }
      ya[i] = sum;
      all += diagonal[i] * xa[i];
    }
    y.back() = all;
    restrict_to_active(y);
  }

  const double* plan_;
  double total_;
  Index n_, m_;
  const ActiveSet& set_;
  std::vector<double> diagonal_;
};

}  // namespace detail

/// d/dcost of -sum W log plan at the solution, by differentiating its optimality conditions:
///
///     H z = (W 1, W^T 1, sum W) on the active constraints;   dL/dC_ij = (W_ij - plan_ij (z_i + z_j + z_lambda)) / eps
///
/// One factorisation up to `direct_limit` = max(n, m), conjugate gradients above. Assumes a converged result: with a
/// residual above 1e-6 of the mass it is the gradient of a nearby problem (look at result.converged).
inline Tensor<double> ot_implicit_gradient(const OtResult& result,
                                           const Tensor<double>& target,
                                           Index direct_limit = 1024) {
  ot_require(target.shape() == result.log_plan.shape(), "invalid_shape", "ot_implicit_gradient: target ",
             target.shape(), " for a plan ", result.log_plan.shape());
  const Index n = result.f.size(), m = result.g.size();
  const Tensor<double> plan = result.plan();
  const double *p = plan.data(), *w = target.data();
  std::vector<double> sums(std::size_t(n + m + 1), 0.0), rhs(sums.size(), 0.0), z(sums.size(), 0.0);
  detail::add_marginals(p, n, m, sums.data());
  detail::add_marginals(w, n, m, rhs.data());
  const detail::ActiveSet set = detail::ot_active_set(result);
  if (std::max(n, m) <= direct_limit) {
    detail::DualSystem system;
    system.resize(n, m);
    system.factor(p, sums.data(), sums.data() + n, sums.back(), n, m, set.rows.data(), set.cols.data(), set.has_lambda,
                  1e-14);
    system.solve(rhs.data(), rhs.data() + n, rhs.back(), z.data(), z.data() + n, &z.back());
  } else {
    detail::DualConjugateGradient(p, sums.data(), sums.data() + n, sums.back(), set).solve(rhs, z);
  }
  Tensor<double> gradient(target.shape());
  const double *columns = z.data() + n, unit = 1 / result.epsilon;
  for (Index i = 0; i < n; ++i) {
    const double *plan_row = p + i * m, *target_row = w + i * m;
    double* M3I_RESTRICT out = gradient.data() + i * m;
    const double level = z[std::size_t(i)] + z.back();
    M3I_SIMD
    for (Index j = 0; j < m; ++j) out[j] = (target_row[j] - plan_row[j] * (level + columns[j])) * unit;
  }
  return gradient;
}

}  // namespace M3I_ABI
}  // namespace m3i
