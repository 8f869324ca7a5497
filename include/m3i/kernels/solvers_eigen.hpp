#pragma once
/// Dense symmetric problems on the host: Cholesky test and eigenvectors, by Eigen: the only file
/// that includes Eigen. Templates, so that who does not call them does not compile them.

#ifndef EIGEN_DONT_PARALLELIZE
#define EIGEN_DONT_PARALLELIZE
#endif
#if defined(__CUDACC__) && !defined(EIGEN_NO_CUDA)
#define EIGEN_NO_CUDA
#endif
#if defined(__GNUC__) && !defined(__clang__)  // g++ 12's AVX-512 intrinsics initialise a value with itself
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#pragma GCC diagnostic pop
#else
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#endif

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Replaces the lower triangle of a symmetric a [n, n] by its Cholesky factor. Only the lower triangle is read. False
/// if a is not positive definite to rounding: a is then partly overwritten.
template <class T>
bool cholesky(Index n, T* a) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<Matrix> map(a, n, n);
  Eigen::LLT<Eigen::Ref<Matrix, 0, Eigen::OuterStride<>>, Eigen::Lower> factor(map);
  return factor.info() == Eigen::Success;
}

/// Eigenvalues [n] of a symmetric a [n, n], ascending, and eigenvectors: row k of `vectors` [n, n] belongs to
/// values[k]. Only the lower triangle is read. False if the iteration did not converge (a value that is not finite).
template <class T>
bool symmetric_eigen(Index n, const T* a, T* values, T* vectors) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  const Matrix copy = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(a, n, n);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(copy);
  if (solver.info() != Eigen::Success) return false;
  Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1>>(values, n) = solver.eigenvalues();
  Eigen::Map<Matrix>(vectors, n, n) = solver.eigenvectors();  // columns there are rows here
  return true;
}

}  // namespace M3I_ABI
}  // namespace m3i
