#pragma once
/// What a set of embeddings looks like: gap between modalities, retrieval, collapse.

#include <algorithm>
#include <cmath>
#include <vector>

#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Rows of [N, C] scaled to length 1, in double. Throws NumericError for a row that is zero or not finite.
template <class T>
std::vector<double> unit_rows(const char* operation, const Tensor<T>& embeddings) {
  require(embeddings.rank() == 2 && embeddings.size() > 0, operation, ": needs embeddings [N, C], got ",
          embeddings.shape());
  const Index n = embeddings.shape()[0], c = embeddings.shape()[1];
  std::vector<double> rows(static_cast<std::size_t>(n * c));
  const auto values = embeddings.span();
  for (Index i = 0; i < n; ++i) {
    double squares = 0;
    for (Index k = 0; k < c; ++k) {
      const double v = double(values[std::size_t(i * c + k)]);
      rows[std::size_t(i * c + k)] = v;
      squares += v * v;
    }
    require<NumericError>(std::isfinite(squares) && squares > 0, operation, ": embedding ", i,
                          squares == 0 ? " is zero" : " is not finite");
    for (Index k = 0; k < c; ++k) rows[std::size_t(i * c + k)] /= std::sqrt(squares);
  }
  return rows;
}

inline std::vector<double> mean_row(const std::vector<double>& rows, Index n, Index c) {
  std::vector<double> mean(static_cast<std::size_t>(c));
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < c; ++k) mean[std::size_t(k)] += rows[std::size_t(i * c + k)] / double(n);
  return mean;
}

}  // namespace detail

/// Modality gap: || mean of unit a - mean of unit b ||, in [0, 2].
///
///   a [N, C], b [M, C]   embeddings of two modalities; each row is first scaled to length 1
///
/// Liang et al. 2022, "Mind the gap", arXiv:2203.02053.
template <class T>
double modality_gap(const Tensor<T>& a, const Tensor<T>& b) {
  const auto rows_a = detail::unit_rows("modality gap", a), rows_b = detail::unit_rows("modality gap", b);
  const Index c = a.shape()[1];
  require(b.shape()[1] == c, "modality gap: widths of ", a.shape(), " and ", b.shape(), " differ");
  const auto mean_a = detail::mean_row(rows_a, a.shape()[0], c), mean_b = detail::mean_row(rows_b, b.shape()[0], c);
  double squares = 0;
  for (std::size_t k = 0; k < mean_a.size(); ++k) squares += (mean_a[k] - mean_b[k]) * (mean_a[k] - mean_b[k]);
  return std::sqrt(squares);
}

/// Recall@k of retrieving b[i] with a[i] among all rows of b by cosine similarity.
///
///   a, b [N, C]   row i of both belongs to the same case
///   ->            expected share of cases whose partner is among the first k, ties broken at random, so that a
///                 collapsed embedding scores k / N and not 1
template <class T>
double recall_at_k(const Tensor<T>& a, const Tensor<T>& b, Index k) {
  require(a.shape() == b.shape(), "recall@k: ", a.shape(), " and ", b.shape(), " must be equal");
  const auto rows_a = detail::unit_rows("recall@k", a), rows_b = detail::unit_rows("recall@k", b);
  const Index n = a.shape()[0], c = a.shape()[1];
  require(k > 0 && k <= n, "recall@k: k = ", k, " must lie in [1, ", n, "]");
  // Cosines of equal directions differ by rounding; nearer than this is a tie.
  constexpr double tie = 1e-12;
  double found = 0;
  for (Index i = 0; i < n; ++i) {
    std::vector<double> cosine(static_cast<std::size_t>(n));
    for (Index j = 0; j < n; ++j)
      for (Index m = 0; m < c; ++m)
        cosine[std::size_t(j)] += rows_a[std::size_t(i * c + m)] * rows_b[std::size_t(j * c + m)];
    Index above = 0, tied = 0;
    const double own = cosine[std::size_t(i)];
    for (const double other : cosine) {
      above += other > own + tie;
      tied += std::abs(other - own) <= tie;  // counts the partner itself
    }
    found += std::clamp(double(k - above) / double(tied), 0.0, 1.0);
  }
  return found / double(n);
}

/// Mean cosine over all pairs of different rows of [N >= 2, C], in [-1/(N-1), 1]; 1 means that all embeddings point one
/// way (collapse).
template <class T>
double mean_pairwise_cosine(const Tensor<T>& embeddings) {
  const auto rows = detail::unit_rows("pairwise cosine", embeddings);
  const Index n = embeddings.shape()[0], c = embeddings.shape()[1];
  require(n > 1, "pairwise cosine: needs two rows, got ", embeddings.shape());
  const auto mean = detail::mean_row(rows, n, c);
  double squares = 0;  // |sum of rows|^2 = n + sum over pairs of cosines
  for (const double m : mean) squares += m * m;
  return (squares * double(n) - 1) / double(n - 1);
}

}  // namespace M3I_ABI
}  // namespace m3i
