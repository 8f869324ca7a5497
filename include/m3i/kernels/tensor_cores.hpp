#pragma once
/// Products of half and bf16 blocks on tensor cores, summed in float. M3I_TENSOR_CORES is 1 in device code that has
/// them (sm_80 and newer). Empty unless M3I_CUDA.

#include "m3i/core/config.hpp"

#if M3I_CUDA && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define M3I_TENSOR_CORES 1
#else
#define M3I_TENSOR_CORES 0
#endif

#if M3I_CUDA
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include "m3i/core/dtype.hpp"
#include "m3i/core/shape.hpp"
#endif

#if M3I_TENSOR_CORES
namespace m3i {
inline namespace M3I_ABI {

template <class E, class A>
struct BlockGemm;  // block.hpp

namespace detail {

/// CUDA's name for an element.
template <class E>
using tensor_core_t = std::conditional_t<std::is_same_v<E, half>, __half, __nv_bfloat16>;

template <class Use, class X, class Layout>
using Operand = nvcuda::wmma::fragment<Use, 16, 16, 16, X, Layout>;

/// wmma::load_matrix_sync from shared memory. For bf16 nvcc (13.0) does not see that by itself, and reads pair by pair
/// what is one LDSM if it is said.
template <class Use, class X, class Layout>
__device__ inline void load_operand(Operand<Use, X, Layout>& to, const X* from, unsigned step) {
  if constexpr (std::is_same_v<X, __nv_bfloat16>) {
    const auto at = unsigned(__cvta_generic_to_shared(from));
    auto* const pair = reinterpret_cast<unsigned*>(to.x);
#define M3I_LOAD_OPERAND(part)                                                        \
  asm volatile("wmma.load." part ".m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;" \
               : "=r"(pair[0]), "=r"(pair[1]), "=r"(pair[2]), "=r"(pair[3])           \
               : "r"(at), "r"(step)                                                   \
               : "memory")
    constexpr bool left = std::is_same_v<Use, nvcuda::wmma::matrix_a>;
    constexpr bool by_rows = std::is_same_v<Layout, nvcuda::wmma::row_major>;
    if constexpr (left && by_rows) M3I_LOAD_OPERAND("a.sync.aligned.row");
    else if constexpr (left) M3I_LOAD_OPERAND("a.sync.aligned.col");
    else if constexpr (by_rows) M3I_LOAD_OPERAND("b.sync.aligned.row");
    else M3I_LOAD_OPERAND("b.sync.aligned.col");
#undef M3I_LOAD_OPERAND
  } else {
    nvcuda::wmma::load_matrix_sync(to, from, step);
  }
}

/// One tile: sum += A B over the inner extent, from row m of A and column n of B on.
template <class Left, class Right, class X, class E, class Sum>
__device__ inline void add_tile(Sum& sum, const BlockGemm<E, float>& p, Index m, Index n) {
  using namespace nvcuda;
  Operand<wmma::matrix_a, X, Left> left;
  Operand<wmma::matrix_b, X, Right> right;
  const X *a = reinterpret_cast<const X*>(p.a + m * p.a_row), *b = reinterpret_cast<const X*>(p.b + n * p.b_col);
  const auto a_step = unsigned(std::is_same_v<Left, wmma::row_major> ? p.a_row : p.a_col);
  const auto b_step = unsigned(std::is_same_v<Right, wmma::row_major> ? p.b_row : p.b_col);
  for (int k = 0; k < int(p.k); k += 16, a += 16 * p.a_col, b += 16 * p.b_row) {
    load_operand(left, a, a_step);
    load_operand(right, b, b_step);
    wmma::mma_sync(sum, left, right, sum);
  }
}

/// multiply() of block.hpp for operands in shared memory: a warp a tile of 16 x 16 sums.
template <class E>
__device__ inline void tensor_core_multiply(const BlockGemm<E, float>& p) {
  using namespace nvcuda;
  using X = tensor_core_t<E>;
  const int across = (int(p.n) + 15) / 16, tiles = across * ((int(p.m) + 15) / 16);
  for (int tile = int(threadIdx.x) / 32; tile < tiles; tile += int(blockDim.x) / 32) {
    const Index m = tile / across * 16, n = tile % across * 16;
    float* const to = p.c + m * p.ldc + n;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    if (p.add) wmma::load_matrix_sync(sum, to, unsigned(p.ldc), wmma::mem_row_major);
    else wmma::fill_fragment(sum, 0.0f);
    if (p.a_col == 1 && p.b_col == 1) add_tile<wmma::row_major, wmma::row_major, X>(sum, p, m, n);
    else if (p.a_col == 1) add_tile<wmma::row_major, wmma::col_major, X>(sum, p, m, n);
    else if (p.b_col == 1) add_tile<wmma::col_major, wmma::row_major, X>(sum, p, m, n);
    else add_tile<wmma::col_major, wmma::col_major, X>(sum, p, m, n);
    wmma::store_matrix_sync(to, sum, unsigned(p.ldc), wmma::mem_row_major);
  }
  __syncthreads();
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
#endif
