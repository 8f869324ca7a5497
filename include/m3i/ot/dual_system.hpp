#pragma once
/// The Hessian of the dual, restricted to free potentials:
///
///     H = [diag r, plan, r; plan^T, diag c, c; r^T, c^T, sum plan]      r, c = row and column sums
///
/// Eliminating the free rows leaves free columns and lambda. With the sign of lambda turned, what is left is the matrix
/// of a resistor network: off-diagonal entries are <= 0 and each row sums to a conductance to ground >= 0. Storing
/// conductances instead of the diagonal, elimination (the star-mesh transform) only adds and multiplies numbers >= 0:
/// no cancellation, no failing factorisation, however badly the potentials are pinned. Grassmann, Taksar and Heyman
/// 1985.

#include <algorithm>
#include <vector>

#include "m3i/core/config.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// y_j += sum over 8 rows of weight[k] rows[k][j]; the hot loop of both the assembly and the elimination.
inline constexpr Index dual_panel = 8;
inline void add_panel(double* M3I_RESTRICT y, const double* const* rows, const double* weight, Index begin, Index end) {
  const double *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  const double *r4 = rows[4], *r5 = rows[5], *r6 = rows[6], *r7 = rows[7];
  const double w0 = weight[0], w1 = weight[1], w2 = weight[2], w3 = weight[3];
  const double w4 = weight[4], w5 = weight[5], w6 = weight[6], w7 = weight[7];
  M3I_SIMD
  for (Index j = begin; j < end; ++j)
    y[j] +=
        (w0 * r0[j] + w1 * r1[j]) + (w2 * r2[j] + w3 * r3[j]) + (w4 * r4[j] + w5 * r5[j]) + (w6 * r6[j] + w7 * r7[j]);
}

class DualSystem {
 public:
  void resize(Index n, Index m) {
    row_ids_.reserve(std::size_t(n));
    col_ids_.reserve(std::size_t(m));
    free_plan_.resize(std::size_t(n * m));
    links_.resize(std::size_t((m + 1) * (m + 1)));
    for (auto* v : {&ground_, &pivot_, &y_}) v->resize(std::size_t(m + 1));
    row_scale_.resize(std::size_t(n));
    zeros_.assign(std::size_t(m + 1), 0.0);
  }

  /// Factorises H with its diagonal times (1 + ridge) on the free rows, the free columns, and lambda if it is a
  /// variable.
  void factor(const double* plan,
              const double* r,
              const double* c,
              double total,
              Index n,
              Index m,
              const unsigned char* row_free,
              const unsigned char* col_free,
              bool has_lambda,
              double ridge) {
    m_ = m, has_lambda_ = has_lambda, scale_ = 1 / (1 + ridge);
    row_ids_.clear(), col_ids_.clear();
    for (Index i = 0; i < n; ++i)
      if (row_free[i]) row_ids_.push_back(i);
    for (Index j = 0; j < m; ++j)
      if (col_free[j]) col_ids_.push_back(j);
    free_cols_ = Index(col_ids_.size());
    size_ = free_cols_ + (has_lambda ? 1 : 0);
    assemble(plan, r, c, total, n, row_free, ridge);
    eliminate();
  }

  /// Solves H z = g. za [n], zb [m] are written on the free entries only; g likewise is read there only.
  void solve(const double* ga, const double* gb, double gt, double* za, double* zb, double* zt) {
    for (Index k = 0; k < free_cols_; ++k) y_[std::size_t(k)] = gb[col_ids_[std::size_t(k)]];
    double* y = y_.data();
    double level = gt;
    const Index rows = Index(row_ids_.size());
    for (Index i = 0; i < rows; ++i) {
      const double u = ga[row_ids_[std::size_t(i)]], x = u * row_scale_[std::size_t(i)];
      const double* plan = free_plan_.data() + i * free_cols_;
      M3I_SIMD
      for (Index k = 0; k < free_cols_; ++k) y[k] -= x * plan[k];
      level -= u * scale_;
    }
    if (has_lambda_) y[free_cols_] = -level;
    for (Index k = 0; k < size_; ++k) {
      const double x = y[k] / pivot_[std::size_t(k)];
      const double* link = links_.data() + k * size_;
      for (Index j = k + 1; j < size_; ++j) y[j] += x * link[j];
    }
    for (Index k = size_ - 1; k >= 0; --k) {
      double sum = y[k];
      const double* link = links_.data() + k * size_;
      for (Index j = k + 1; j < size_; ++j) sum += link[j] * y[j];
      y[k] = sum / pivot_[std::size_t(k)];
    }
    for (Index k = 0; k < free_cols_; ++k) zb[col_ids_[std::size_t(k)]] = y[k];
    *zt = has_lambda_ ? -y[free_cols_] : 0;
    for (Index i = 0; i < rows; ++i) {
      const double* plan = free_plan_.data() + i * free_cols_;
      double sum = ga[row_ids_[std::size_t(i)]];
      for (Index k = 0; k < free_cols_; ++k) sum -= plan[k] * y[k];
      za[row_ids_[std::size_t(i)]] = sum * row_scale_[std::size_t(i)] - *zt * scale_;
    }
  }

 private:
  static constexpr double tiny = 1e-300;  // a row that underflows to zero mass has a huge step, not an infinite one

  /// Conductances between free columns and lambda (upper triangle), and of each to ground.
  void assemble(const double* plan,
                const double* r,
                const double* c,
                double total,
                Index n,
                const unsigned char* row_free,
                double ridge) {
    const double delta = ridge * scale_;  // 1 - 1 / (1 + ridge)
    double *ground = ground_.data(), *links = links_.data();
    std::fill(links, links + size_ * size_, 0.0);
    for (Index k = 0; k < free_cols_; ++k) ground[k] = ridge * c[col_ids_[std::size_t(k)]];
    if (has_lambda_) ground[free_cols_] = ridge * total;
    Index next = 0;
    for (Index i = 0; i < n; ++i) {
      const double* row = plan + i * m_;
      double* packed = free_plan_.data() + next * free_cols_;
      double outside = 0;  // what row i sends to columns that are not free
      for (Index j = 0, k = 0; j < m_; ++j) {
        if (k < free_cols_ && col_ids_[std::size_t(k)] == j) {
          packed[k++] = row[j];
        } else {
          outside += row[j];
        }
      }
      // A free row passes its links on to the columns; what it sends elsewhere becomes their way to ground.
      const double through = row_free[i] ? scale_ * outside / std::max(r[i], tiny) : 0;
      const double aside = row_free[i] ? delta : 1;  // weight of the row's direct link to lambda (or to ground)
      for (Index k = 0; k < free_cols_; ++k) {
        ground[k] += through * packed[k];
        (has_lambda_ ? links[k * size_ + free_cols_] : ground[k]) += aside * packed[k];
      }
      if (has_lambda_) ground[free_cols_] += aside * outside;
      if (row_free[i]) row_scale_[std::size_t(next++)] = scale_ / std::max(r[i], tiny);
    }
    for (Index i = 0; i < next; i += dual_panel) add_rows(i, std::min(i + dual_panel, next));
  }

  /// links[k][j] += sum_i plan_ik plan_ij / r_i over packed rows [begin, end)
  void add_rows(Index begin, Index end) {
    const double* rows[dual_panel];
    double weight[dual_panel];
    std::fill(rows, rows + dual_panel, zeros_.data());
    std::fill(weight, weight + dual_panel, 0.0);
    for (Index i = begin; i < end; ++i) rows[i - begin] = free_plan_.data() + i * free_cols_;
    for (Index k = 0; k + 1 < free_cols_; ++k) {
      for (Index i = begin; i < end; ++i) weight[i - begin] = row_scale_[std::size_t(i)] * rows[i - begin][k];
      add_panel(links_.data() + k * size_, rows, weight, k + 1, free_cols_);
    }
  }

  void eliminate() {
    double *links = links_.data(), *ground = ground_.data(), *pivot = pivot_.data();
    for (Index begin = 0; begin < size_; begin += dual_panel) {
      const Index end = std::min(begin + dual_panel, size_);
      for (Index k = begin; k < end; ++k) {
        double* row = links + k * size_;
        for (Index e = begin; e < k; ++e) {
          const double* gone = links + e * size_;
          const double share = gone[k] / pivot[e];
          M3I_SIMD
          for (Index j = k + 1; j < size_; ++j) row[j] += share * gone[j];
          ground[k] += share * ground[e];
        }
        double sum = ground[k];
        M3I_SIMD_REDUCE(+, sum)
        for (Index j = k + 1; j < size_; ++j) sum += row[j];
        pivot[k] = std::max(sum, tiny);
      }
      const double* rows[dual_panel];
      double weight[dual_panel] = {};
      std::fill(rows, rows + dual_panel, zeros_.data());
      for (Index k = begin; k < end; ++k) rows[k - begin] = links + k * size_;
      for (Index i = end; i < size_; ++i) {
        for (Index k = begin; k < end; ++k) {
          weight[k - begin] = rows[k - begin][i] / pivot[k];
          ground[i] += weight[k - begin] * ground[k];
        }
        add_panel(links + i * size_, rows, weight, i + 1, size_);
      }
    }
  }

  Index m_ = 0, free_cols_ = 0, size_ = 0;
  bool has_lambda_ = false;
  double scale_ = 1;
  std::vector<Index> row_ids_, col_ids_;
  std::vector<double> free_plan_, links_, ground_, pivot_, y_, row_scale_, zeros_;
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
