#pragma once
/// What the bodies of gemm are given, and which there are on the host.

#include "m3i/core/dtype.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// One product: C [m, n] = alpha op(A) [m, k] op(B) [k, n] + beta C + bias [n]. `ld` is the distance between the rows
/// of a matrix as it lies in memory. beta = 0 does not read C; bias may be null. Every body takes one, with the size of
/// the batch and the strides from product to product.
template <class T>
struct GemmProblem {
  bool trans_a, trans_b;
  Index m, n, k;
  accumulate_t<T> alpha;
  const T* a;
  Index lda;
  const T* b;
  Index ldb;
  accumulate_t<T> beta;
  T* c;
  Index ldc;
  const T* bias;

  /// The product that lies so many elements further on, as the next ones of a batch do.
  GemmProblem moved(Index along_a, Index along_b, Index along_c) const {
    GemmProblem p = *this;
    p.a += along_a, p.b += along_b, p.c += along_c;
    return p;
  }
  /// The part of the product that gives rows [i, i + rows) and columns [j, j + cols).
  GemmProblem panel(Index i, Index rows, Index j, Index cols) const {
    GemmProblem p = *this;
    p.m = rows;
    p.n = cols;
    p.a += trans_a ? i : i * lda;
    p.b += trans_b ? j * ldb : j;
    p.c += i * ldc + j;
    if (bias) p.bias += j;
    return p;
  }
};

// Host body for float and double, on all threads; inside parallel work on the calling one.
template <class T>
void gemm_host(Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c);

// The same for half and bf16.
template <class T>
void gemm_small_float(Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c);

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
