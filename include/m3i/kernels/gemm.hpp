#pragma once
/// Matrix products: C = alpha op(A) op(B) + beta C + bias, all row-major, op an optional transpose.
///
/// On the host register blocks of panels (gemm_host.hpp), on the GPU cuBLASLt (gemm_cublas.hpp); half and bf16 are
/// multiplied in float, on the host by gemm_small_float.hpp. With M3I_COMPILED=1 the host bodies are only declared here
/// and linked from m3i::compiled.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/kernels/gemm_problem.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

inline std::atomic<bool>& tf32_flag() {
  static std::atomic<bool> flag{false};
  return flag;
}

}  // namespace detail

/// Whether GPU products and convolutions of float may round their inputs to TF32 (10 bits of mantissa, several times
/// faster). Off by default: float then means float.
inline bool tf32_allowed() { return detail::tf32_flag().load(std::memory_order_relaxed); }
inline void allow_tf32(bool on) { detail::tf32_flag().store(on, std::memory_order_relaxed); }

namespace detail {
#if M3I_CUDA
template <class T>
void gemm_cublas(Device device, Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c);
#endif

/// Checks a batch of products and hands it to the device's body.
template <class T>
void gemm_run(Device device, Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c) {
  require(batch >= 0 && p.m >= 0 && p.n >= 0 && p.k >= 0, "gemm: negative extent in batch ", batch, ", [", p.m, ", ",
          p.k, "] times [", p.k, ", ", p.n, "]");
  require(p.lda >= (p.trans_a ? p.m : p.k) && p.ldb >= (p.trans_b ? p.k : p.n) && p.ldc >= p.n,
          "gemm: leading dimensions ", p.lda, ", ", p.ldb, ", ", p.ldc, " are too small for [", p.m, ", ", p.k,
          "] times [", p.k, ", ", p.n, "]");
  if (batch == 0 || p.m == 0 || p.n == 0) return;
  if (device.on_host()) {
    if constexpr (is_small_float<T>) gemm_small_float(batch, p, stride_a, stride_b, stride_c);
    else gemm_host(batch, p, stride_a, stride_b, stride_c);
  } else {
#if M3I_CUDA
    gemm_cublas(device, batch, p, stride_a, stride_b, stride_c);
#else
    fail<DeviceError>("gemm: ", device, " needs a build with M3I_CUDA=ON");
#endif
  }
}
}  // namespace detail

/// `batch` products of equal shape: C_i = alpha op(A_i) op(B_i) + beta C_i + bias, X_i at X + i * stride_x.
///
///   op(A) [m, k]   A is [m, k], or [k, m] when trans_a; lda elements between its rows
///   op(B) [k, n]   B is [k, n], or [n, k] when trans_b
///   C     [m, n]   not read when beta = 0
///   bias  [n]      added to each row; may be null
///
/// A stride of 0 shares an operand; outputs must not overlap. Same bits for any number of threads.
/// Throws ShapeError for negative extents and leading dimensions that are too small.
template <class T>
void gemm_batched(Device device,
                  Index batch,
                  bool trans_a,
                  bool trans_b,
                  Index m,
                  Index n,
                  Index k,
                  accumulate_t<T> alpha,
                  const T* a,
                  Index lda,
                  const T* b,
                  Index ldb,
                  accumulate_t<T> beta,
                  T* c,
                  Index ldc,
                  Index stride_a,
                  Index stride_b,
                  Index stride_c,
                  const T* bias = nullptr) {
  detail::gemm_run<T>(device, batch, {trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, bias}, stride_a,
                      stride_b, stride_c);
}

/// C = alpha op(A) op(B) + beta C + bias: one product of gemm_batched.
template <class T>
void gemm(Device device,
          bool trans_a,
          bool trans_b,
          Index m,
          Index n,
          Index k,
          accumulate_t<T> alpha,
          const T* a,
          Index lda,
          const T* b,
          Index ldb,
          accumulate_t<T> beta,
          T* c,
          Index ldc,
          const T* bias = nullptr) {
  detail::gemm_run<T>(device, 1, {trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, bias}, 0, 0, 0);
}

}  // namespace M3I_ABI
}  // namespace m3i

#if M3I_CUDA
#include "m3i/kernels/gemm_cublas.hpp"
#endif
#if !M3I_COMPILED
#include "m3i/kernels/gemm_small_float.hpp"
#endif
