#pragma once
/// Dense symmetric problems on the host: a Cholesky factorisation, and eigenvectors by Householder reflections and QL
/// iterations. The inner loops run along rows, so that they are vectors.
///
/// Golub and Van Loan 2013, "Matrix computations", 4.2 and 8.3.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "m3i/core/config.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

template <class T>
T row_dot(Index n, const T* M3I_RESTRICT x, const T* M3I_RESTRICT y) {
  T sum = 0;
  M3I_SIMD_REDUCE(+, sum)
  for (Index i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}
/// y += alpha x
template <class T>
void add_row(Index n, T alpha, const T* M3I_RESTRICT x, T* M3I_RESTRICT y) {
  M3I_SIMD
  for (Index i = 0; i < n; ++i) y[i] += alpha * x[i];
}

/// Householder's reduction Q^T A Q of a symmetric a [n, n] to the tridiagonal matrix of `diagonal` [n] and `off` [n],
/// where off[i] couples i - 1 and i. Overwrites a with Q^T: row k is column k of Q.
template <class T>
void to_tridiagonal(Index n, T* a, T* diagonal, T* off) {
  std::vector<T> beta(std::size_t(n), T(0)), p(static_cast<std::size_t>(n));
  // From the last row up, the row left of the diagonal is reflected onto its last entry. Its vector v stays in the row.
  for (Index i = n - 1; i > 0; --i) {
    T* v = a + i * n;
    const T top = *std::max_element(v, v + i, [](T x, T y) { return std::abs(x) < std::abs(y); });
    off[i] = 0;
    if (top == 0) continue;
    const T scale = 1 / std::abs(top);  // no overflow in the squares
    for (Index j = 0; j < i; ++j) v[j] *= scale;
    const T norm = std::copysign(std::sqrt(row_dot(i, v, v)), v[i - 1]);
    v[i - 1] += norm;
    off[i] = -norm / scale;
    beta[std::size_t(i)] = 1 / (norm * v[i - 1]);  // 2 / v^T v
    // A' = (1 - beta v v^T) A (1 - beta v v^T) = A - v q^T - q v^T, of which the lower triangle is kept.
    std::fill_n(p.begin(), i, T(0));
    for (Index j = 0; j < i; ++j) {
      p[std::size_t(j)] += row_dot(j + 1, a + j * n, v);
      add_row(j, v[j], a + j * n, p.data());
    }
    for (Index j = 0; j < i; ++j) p[std::size_t(j)] *= beta[std::size_t(i)];
    add_row(i, -beta[std::size_t(i)] / 2 * row_dot(i, p.data(), v), v, p.data());
    for (Index j = 0; j < i; ++j) {
      add_row(j + 1, -v[j], p.data(), a + j * n);
      add_row(j + 1, -p[std::size_t(j)], v, a + j * n);
    }
  }
  // Q^T grows from the first row down: the reflection of row i turns the i rows above, which it is not part of.
  for (Index i = 0; i < n; ++i) {
    T* v = a + i * n;
    diagonal[i] = v[i];
    if (beta[std::size_t(i)] != 0)
      for (Index k = 0; k < i; ++k) add_row(i, -beta[std::size_t(i)] * row_dot(i, a + k * n, v), v, a + k * n);
    std::fill_n(v, i, T(0));
    v[i] = 1;
    for (Index k = 0; k < i; ++k) a[k * n + i] = 0;
  }
}

/// Rows x and y turned by an angle.
template <class T>
void rotate_rows(Index n, T cosine, T sine, T* M3I_RESTRICT x, T* M3I_RESTRICT y) {
  M3I_SIMD
  for (Index k = 0; k < n; ++k) {
    const T below = y[k];
    y[k] = sine * x[k] + cosine * below;
    x[k] = cosine * x[k] - sine * below;
  }
}

/// Implicit QL iterations with Wilkinson's shift on a tridiagonal matrix; the rows of `vectors` turn with it. False if
/// an eigenvalue needs more than 60 iterations, which only values that are not finite do.
template <class T>
bool tridiagonal_eigen(Index n, T* diagonal, T* off, T* vectors) {
  std::copy(off + 1, off + n, off);  // off[i] now couples i and i + 1
  off[n - 1] = 0;
  for (Index first = 0; first < n; ++first)
    for (int iteration = 0;; ++iteration) {
      Index last = first;  // the block first..last does not fall into smaller ones
      const T eps = std::numeric_limits<T>::epsilon();
      while (last < n - 1 && !(std::abs(off[last]) <= eps * (std::abs(diagonal[last]) + std::abs(diagonal[last + 1]))))
        ++last;
      if (last == first) break;
      if (iteration == 60) return false;
      const T half = (diagonal[first + 1] - diagonal[first]) / (2 * off[first]);
      T g = diagonal[last] - diagonal[first] + off[first] / (half + std::copysign(std::hypot(half, T(1)), half));
      T sine = 1, cosine = 1, shift = 0;
      Index i = last - 1;
      for (; i >= first; --i) {
        const T f = sine * off[i], b = cosine * off[i], r = std::hypot(f, g);
        off[i + 1] = r;
        if (r == 0) {  // the block falls apart here
          diagonal[i + 1] -= shift;
          off[last] = 0;
          break;
        }
        sine = f / r;
        cosine = g / r;
        g = diagonal[i + 1] - shift;
        const T t = (diagonal[i] - g) * sine + 2 * cosine * b;
        shift = sine * t;
        diagonal[i + 1] = g + shift;
        g = cosine * t - b;
        rotate_rows(n, cosine, sine, vectors + i * n, vectors + (i + 1) * n);
      }
      if (i >= first) continue;
      diagonal[first] -= shift;
      off[first] = g;
      off[last] = 0;
    }
  return true;
}

}  // namespace detail

/// Replaces the lower triangle of a symmetric a [n, n] by its Cholesky factor. Only the lower triangle is read. False
/// if a is not positive definite to rounding: a is then partly overwritten.
template <class T>
bool cholesky(Index n, T* a) {
  for (Index i = 0; i < n; ++i) {
    T* row = a + i * n;
    for (Index j = 0; j < i; ++j) row[j] = (row[j] - detail::row_dot(j, row, a + j * n)) / a[j * (n + 1)];
    const T rest = row[i] - detail::row_dot(i, row, row);
    if (!(rest > 0)) return false;
    row[i] = std::sqrt(rest);
  }
  return true;
}

/// Eigenvalues [n] of a symmetric a [n, n], ascending, and eigenvectors: row k of `vectors` [n, n] belongs to
/// values[k]. Only the lower triangle is read. False if the iteration did not converge (a value that is not finite).
template <class T>
bool symmetric_eigen(Index n, const T* a, T* values, T* vectors) {
  if (n == 0) return true;
  std::vector<T> turned(a, a + n * n), diagonal(static_cast<std::size_t>(n)), off(static_cast<std::size_t>(n));
  detail::to_tridiagonal(n, turned.data(), diagonal.data(), off.data());
  if (!detail::tridiagonal_eigen(n, diagonal.data(), off.data(), turned.data())) return false;
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index(0));
  std::sort(order.begin(), order.end(),
            [&](Index i, Index j) { return diagonal[std::size_t(i)] < diagonal[std::size_t(j)]; });
  for (Index k = 0; k < n; ++k) {
    const Index from = order[std::size_t(k)];
    values[k] = diagonal[std::size_t(from)];
    std::copy_n(turned.data() + from * n, n, vectors + k * n);
  }
  return true;
}

}  // namespace M3I_ABI
}  // namespace m3i
