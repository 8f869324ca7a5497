#pragma once
/// Host body of gemm for half and bf16: in pairs where the processor can (gemm_bf16.hpp), else through float matrices.

#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/gemm_bf16.hpp"
#include "m3i/kernels/gemm_host.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

template <class T>
struct MatrixToFloat {  // [rows, cols] with leading dimension ld, densely into y
  const T* x;
  float* y;
  Index cols, ld;
  M3I_HD void operator()(Index i) const { y[i] = float(x[i / cols * ld + i % cols]); }
};
template <class T>
struct MatrixFromFloat {
  const float* x;
  T* y;
  Index cols, ld;
  M3I_HD void operator()(Index i) const { y[i / cols * ld + i % cols] = T(x[i]); }
};

/// Converted to float, multiplied, rounded: one product of the batch at a time.
template <class T>
void gemm_through_float(Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c) {
  const Device cpu = Device::cpu();
  const Index rows_a = p.trans_a ? p.k : p.m, cols_a = p.trans_a ? p.m : p.k;
  const Index rows_b = p.trans_b ? p.n : p.k, cols_b = p.trans_b ? p.k : p.n;
  const Tensor<float> a({rows_a, cols_a}), b({rows_b, cols_b}), c({p.m, p.n}), bias({p.bias ? p.n : 0});
  if (p.bias) for_each(cpu, p.n, MatrixToFloat<T>{p.bias, bias.data(), p.n, p.n});
  for (Index i = 0; i < batch; ++i) {
    T* out = p.c + i * stride_c;
    for_each(cpu, a.size(), MatrixToFloat<T>{p.a + i * stride_a, a.data(), cols_a, p.lda});
    for_each(cpu, b.size(), MatrixToFloat<T>{p.b + i * stride_b, b.data(), cols_b, p.ldb});
    if (p.beta != 0) for_each(cpu, c.size(), MatrixToFloat<T>{out, c.data(), p.n, p.ldc});
    gemm_host<float>(1,
                     {p.trans_a, p.trans_b, p.m, p.n, p.k, p.alpha, a.data(), cols_a, b.data(), cols_b, p.beta,
                      c.data(), p.n, p.bias ? bias.data() : nullptr},
                     0, 0, 0);
    for_each(cpu, c.size(), MatrixFromFloat<T>{c.data(), out, p.n, p.ldc});
  }
}

template <class T>
void gemm_small_float(Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c) {
#if M3I_BF16_DOT
  if constexpr (std::is_same_v<T, bf16>) return gemm_bf16(batch, p, stride_a, stride_b, stride_c);
#endif
  gemm_through_float(batch, p, stride_a, stride_b, stride_c);
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
