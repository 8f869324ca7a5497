#pragma once
/// GPU body of gemm: cuBLASLt, which is column-major. A row-major matrix read column by column is its transpose, so
/// C = op(A) op(B) is asked for as C^T = op(B)^T op(A)^T: operands swapped, flags kept. The bias of our columns is that
/// of cuBLASLt's rows, which its epilogue adds. Empty unless M3I_CUDA.
///
/// Its GELU epilogue is the tanh form, not the erf form of the published networks, and is not used.

#include "m3i/kernels/gemm.hpp"
#include "m3i/kernels/library_handle.hpp"

#if M3I_CUDA
#include <cublasLt.h>

#include <array>
#include <map>
#include <optional>

namespace m3i {
inline namespace M3I_ABI {

/// Throws DeviceError with cuBLAS's own words.
inline void check_cublas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) [[unlikely]]
    detail::fail_on_device(what, "cuBLASLt", cublasLtGetStatusString(status));
}

namespace detail {

/// The most memory that one product may use beside its operands; what NVIDIA advises for Hopper.
inline constexpr std::size_t cublas_workspace_cap = std::size_t(32) << 20;
/// How many shapes a thread remembers the algorithm of; a training step has some hundreds.
inline constexpr std::size_t cublas_plans_kept = 4096;

/// The calling thread's handle for a device, which must be current.
inline cublasLtHandle_t cublas_handle(Device device) {
  return library_handle<cublasLtHandle_t, cublasLtCreate, cublasLtDestroy, check_cublas>(device);
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

/// C = beta C + bias over a batch (bias may be null): for what has to be in C before a product is added to it.
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

/// The largest power of two up to 256 that divides an address: kernels with wide loads ask for it.
inline std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256;
  return std::uint32_t(bits & (~bits + 1));
}

/// A batch of products in cuBLASLt's words. Its names are swapped: what it calls A is our B.
template <class T>
struct CublasLtCase {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, c;

  CublasLtCase(Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c) {
    const cublasComputeType_t compute = cublas_compute_type<T>();
    check_cublas(cublasLtMatmulDescInit(&product, compute, cuda_type<accumulate_t<T>>()), "gemm");
    set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t(p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(CUBLASLT_MATMUL_DESC_TRANSB, std::int32_t(p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (p.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t(CUBLASLT_EPILOGUE_BIAS));
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(p.bias));
    }
    // Rows and columns as column-major: the extents of our matrices in memory, last one first.
    layout(a, p.trans_b ? p.k : p.n, p.trans_b ? p.n : p.k, p.ldb, batch, stride_b);
    layout(b, p.trans_a ? p.m : p.k, p.trans_a ? p.k : p.m, p.lda, batch, stride_a);
    layout(c, p.n, p.m, p.ldc, batch, stride_c);
  }

  /// cuBLASLt's own choice of algorithms for operands of these alignments, the best first; empty when it has none.
  std::vector<cublasLtMatmulHeuristicResult_t> choose(cublasLtHandle_t handle, const GemmProblem<T>& p, int most = 1) {
    cublasLtMatmulPreferenceOpaque_t wish;
    check_cublas(cublasLtMatmulPreferenceInit(&wish), "gemm");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t name, const auto& value) {
      check_cublas(cublasLtMatmulPreferenceSetAttribute(&wish, name, &value, sizeof(value)), "gemm");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t(cublas_workspace_cap));
    // Parts of a sum that is cut are added in the type of the sum, never in half or bf16.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.c));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.c));
    std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(most));
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, &product, &a, &b, &c, &c, &wish, most, found.data(), &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_cublas(status, "gemm");
    found.resize(status == CUBLAS_STATUS_SUCCESS ? std::size_t(count) : 0);
    std::erase_if(found, [](const auto& result) { return result.state != CUBLAS_STATUS_SUCCESS; });
    return found;
  }

  void run(Device device, const cublasLtMatmulHeuristicResult_t& plan, const GemmProblem<T>& p) {
    const Tensor<std::uint8_t> workspace({Index(plan.workspaceSize)}, device);
    check_cublas(cublasLtMatmul(cublas_handle(device), &product, &p.alpha, p.b, &a, p.a, &b, &p.beta, p.c, &c, p.c, &c,
                                &plan.algo, workspace.data(), plan.workspaceSize, current_stream()),
                 "gemm");
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t name, const Value& value) {
    check_cublas(cublasLtMatmulDescSetAttribute(&product, name, &value, sizeof(value)), "gemm");
  }
  static void layout(
      cublasLtMatrixLayoutOpaque_t& matrix, Index rows, Index cols, Index ld, Index batch, Index stride) {
    check_cublas(cublasLtMatrixLayoutInit(&matrix, cuda_type<T>(), std::uint64_t(rows), std::uint64_t(cols), ld),
                 "gemm");
    const auto set = [&](cublasLtMatrixLayoutAttribute_t name, const auto& value) {
      check_cublas(cublasLtMatrixLayoutSetAttribute(&matrix, name, &value, sizeof(value)), "gemm");
    };
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int32_t(batch));
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, std::int64_t(stride));
  }
};

/// The algorithm for a case, asked for once a shape, thread and device. The table starts anew when it is full.
template <class T>
std::optional<cublasLtMatmulHeuristicResult_t> cublas_plan(Device device,
                                                           CublasLtCase<T>& product,
                                                           Index batch,
                                                           const GemmProblem<T>& p,
                                                           Index stride_a,
                                                           Index stride_b,
                                                           Index stride_c) {
  using Key = std::array<Index, 17>;
  static thread_local std::map<Key, std::optional<cublasLtMatmulHeuristicResult_t>> plans;
  const Key key{device.number,
                cublas_compute_type<T>(),
                p.trans_a * 2 + p.trans_b,
                p.m,
                p.n,
                p.k,
                p.lda,
                p.ldb,
                p.ldc,
                batch,
                stride_a,
                stride_b,
                stride_c,
                alignment_of(p.a),
                alignment_of(p.b),
                alignment_of(p.c),
                p.bias != nullptr};
  if (const auto known = plans.find(key); known != plans.end()) return known->second;
  if (plans.size() >= cublas_plans_kept) plans.clear();
  const auto best = product.choose(cublas_handle(device), p);
  return plans[key] = best.empty() ? std::nullopt : std::optional(best.front());
}

template <class T>
void gemm_cublas(Device device, Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c) {
  require(batch <= std::numeric_limits<std::int32_t>::max(), "gemm: cuBLASLt takes fewer than 2^31 products at once, ",
          "got ", batch);
  DeviceGuard guard(device);
  // Its choice of algorithm does not ask where the bias lies, and some read it by 16 bytes.
  if (p.k > 0 && (!p.bias || alignment_of(p.bias) >= 16)) {
    CublasLtCase<T> product(batch, p, stride_a, stride_b, stride_c);
    if (const auto plan = cublas_plan(device, product, batch, p, stride_a, stride_b, stride_c)) {
      product.run(device, *plan, p);
      return;
    }
    require<DeviceError>(p.bias != nullptr, "gemm: cuBLASLt has no algorithm for batch ", batch, " of [", p.m, ", ",
                         p.k, "] times [", p.k, ", ", p.n, "] with leading dimensions ", p.lda, ", ", p.ldb, ", ",
                         p.ldc);
  }
  // An empty sum, whose operands may be null, or no algorithm for this bias: it is put into C before the product.
  for_each(device, batch * p.m * p.n, AddBiasRows<T>{p.c, p.bias, p.m, p.n, p.ldc, stride_c, p.beta});
  if (p.k == 0) return;
  GemmProblem<T> rest = p;
  rest.bias = nullptr;
  rest.beta = 1;
  gemm_cublas(device, batch, rest, stride_a, stride_b, stride_c);
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
#endif
