#pragma once
/// GPU body of gemm: cuBLAS, which is column-major. A row-major matrix read column by column is its transpose, so
/// C = op(A) op(B) is asked for as C^T = op(B)^T op(A)^T: operands swapped, flags kept. Empty unless M3I_CUDA.

#include "m3i/kernels/gemm.hpp"

#if M3I_CUDA
#include <cublas_v2.h>

#include <map>
#include <memory>

namespace m3i {
inline namespace M3I_ABI {

/// Throws DeviceError with cuBLAS's own words.
inline void check_cublas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) [[unlikely]]
    fail<DeviceError>(what, ": cuBLAS says \"", cublasGetStatusString(status), "\"");
}

namespace detail {

class CublasHandle {
 public:
  CublasHandle() { check_cublas(cublasCreate(&handle_), "gemm"); }
  ~CublasHandle() { cublasDestroy(handle_); }
  CublasHandle(const CublasHandle&) = delete;
  CublasHandle& operator=(const CublasHandle&) = delete;
  cublasHandle_t get() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

/// The calling thread's handle for the current device, set to the current stream. Handles live until the thread ends.
inline cublasHandle_t cublas_handle(Device device) {
  static thread_local std::map<int, CublasHandle> handles;
  const cublasHandle_t handle = handles[device.number].get();
  check_cublas(cublasSetStream(handle, current_stream()), "gemm");
  return handle;
}

template <class T>
constexpr cudaDataType_t cuda_type() {
  if constexpr (std::is_same_v<T, double>) return CUDA_R_64F;
  else if constexpr (std::is_same_v<T, float>) return CUDA_R_32F;
  else if constexpr (std::is_same_v<T, half>) return CUDA_R_16F;
  else return CUDA_R_16BF;
}
template <class T>
cublasComputeType_t cublas_compute_type() {
  if constexpr (std::is_same_v<T, double>) return CUBLAS_COMPUTE_64F;
  else if constexpr (std::is_same_v<T, float>)
    return tf32_allowed() ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  else return CUBLAS_COMPUTE_32F;
}

/// C = beta C + bias over a batch (bias may be null), so that cuBLAS only has to add to it.
template <class T>
struct AddBiasRows {
  using A = accumulate_t<T>;
  T* c;
  const T* bias;
  Index m, n, ldc, stride_c;
  A beta;
  M3I_HD void operator()(Index i) const {
    const Index col = i % n, row = i / n % m, item = i / n / m;
    T& value = c[item * stride_c + row * ldc + col];
    value = T((beta == 0 ? A(0) : beta * A(value)) + (bias ? A(bias[col]) : A(0)));
  }
};

template <class T>
void gemm_cublas(Device device,
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
                 const T* bias) {
  constexpr Index largest = std::numeric_limits<int>::max();
  require(std::max({batch, m, n, k, lda, ldb, ldc}) <= largest, "gemm: cuBLAS takes extents below 2^31, got batch ",
          batch, ", [", m, ", ", k, "] times [", k, ", ", n, "]");
  DeviceGuard guard(device);
  if (bias || k == 0) {
    for_each(device, batch * m * n, AddBiasRows<T>{c, bias, m, n, ldc, stride_c, beta});
    beta = 1;
  }
  if (k == 0) return;  // an empty sum, whose operands may be null
  check_cublas(
      cublasGemmStridedBatchedEx(cublas_handle(device), trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                 trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, int(n), int(m), int(k), &alpha, b, cuda_type<T>(),
                                 int(ldb), stride_b, a, cuda_type<T>(), int(lda), stride_a, &beta, c, cuda_type<T>(),
                                 int(ldc), stride_c, int(batch), cublas_compute_type<T>(), CUBLAS_GEMM_DEFAULT),
      "gemm");
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
#endif
