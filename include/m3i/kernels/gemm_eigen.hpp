#pragma once
/// Host body of gemm: Eigen's product on panels of C, shared out over threads. The only file that includes Eigen.

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
#include <Eigen/Core>
#pragma GCC diagnostic pop
#else
#include <Eigen/Core>
#endif

#include "m3i/kernels/gemm.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

template <class T, int OrderA, int OrderB>
void eigen_product(const GemmProblem<T>& p) {
  using A = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, OrderA>;
  using B = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, OrderB>;
  using C = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Stride = Eigen::OuterStride<>;
  const Eigen::Map<const A, 0, Stride> a(p.a, p.m, p.k, Stride(p.lda));
  const Eigen::Map<const B, 0, Stride> b(p.b, p.k, p.n, Stride(p.ldb));
  Eigen::Map<C, 0, Stride> c(p.c, p.m, p.n, Stride(p.ldc));
  c.noalias() += p.alpha * a * b;
}

/// C = beta C + bias: what the product is added to.
template <class T>
void gemm_start(const GemmProblem<T>& p) {
  if (p.beta == 1 && !p.bias) return;
  for (Index i = 0; i < p.m; ++i) {
    T* M3I_RESTRICT row = p.c + i * p.ldc;
    if (p.beta == 0) {
      if (p.bias) std::copy_n(p.bias, p.n, row);
      else std::fill_n(row, p.n, T(0));
      continue;
    }
    M3I_SIMD
    for (Index j = 0; j < p.n; ++j) row[j] = p.beta * row[j] + (p.bias ? p.bias[j] : T(0));
  }
}

template <class T>
void gemm_serial(const GemmProblem<T>& p) {
  gemm_start(p);
  if (p.k == 0 || p.alpha == 0) return;
  if (p.trans_a && p.trans_b) eigen_product<T, Eigen::ColMajor, Eigen::ColMajor>(p);
  else if (p.trans_a) eigen_product<T, Eigen::ColMajor, Eigen::RowMajor>(p);
  else if (p.trans_b) eigen_product<T, Eigen::RowMajor, Eigen::ColMajor>(p);
  else eigen_product<T, Eigen::RowMajor, Eigen::RowMajor>(p);
}

/// How a product is cut into tasks. Depends on the sizes alone, never on the number of threads, and so do the bits.
struct GemmPlan {
  Index rows, cols, depth;  // of one task
  Index row_panels, col_panels, depth_parts;

  GemmPlan(Index batch, Index m, Index n, Index k) {
    // A panel of C stays in the second-level cache (64 Ki elements), and has rows enough to repay packing B.
    col_panels = (n + 479) / 480;
    cols = ((n + col_panels - 1) / col_panels + 15) / 16 * 16;
    const Index wanted = std::max<Index>(1, 64 / (batch * col_panels));
    rows = std::min(65536 / cols, (m + wanted - 1) / wanted);
    rows = (std::clamp<Index>(rows, 96, 2048) + 3) / 4 * 4;
    row_panels = (m + rows - 1) / rows;
    col_panels = (n + cols - 1) / cols;
    // Few panels and a long sum, as in the gradients of weights: cut the sum too.
    const Index panels = batch * row_panels * col_panels;
    depth_parts = panels >= 16 ? 1 : std::clamp<Index>(k / 512, 1, (32 + panels - 1) / panels);
    depth = std::max<Index>(1, (k + depth_parts - 1) / depth_parts);
    depth_parts = std::max<Index>(1, (k + depth - 1) / depth);
  }
};

/// The parts of a sum over k, added in order.
template <class T>
void gemm_add_parts(const GemmProblem<T>& p, const T* partial, Index parts) {
  gemm_start(p);
  parallel_chunks(p.m, std::max<Index>(1, 16384 / p.n), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      T* M3I_RESTRICT row = p.c + i * p.ldc;
      for (Index part = 0; part < parts; ++part) {
        const T* M3I_RESTRICT add = partial + (part * p.m + i) * p.n;
        M3I_SIMD
        for (Index j = 0; j < p.n; ++j) row[j] += add[j];
      }
    }
  });
}

template <class T>
void gemm_host(Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c) {
  const GemmPlan plan(batch, p.m, p.n, p.k);
  const auto item = [&](Index i) {
    GemmProblem<T> one = p;
    one.a += i * stride_a;
    one.b += i * stride_b;
    one.c += i * stride_c;
    return one;
  };
  const Tensor<T> partial({plan.depth_parts > 1 ? plan.depth_parts : 0, batch, p.m, p.n});
  const Index panels = plan.row_panels * plan.col_panels, tasks = batch * panels * plan.depth_parts;
  const auto task = [&](Index t) {
    const Index part = t % plan.depth_parts, panel = t / plan.depth_parts % panels, i = t / plan.depth_parts / panels;
    const Index row = panel / plan.col_panels * plan.rows, col = panel % plan.col_panels * plan.cols;
    GemmProblem<T> one = item(i);
    if (plan.depth_parts > 1) {
      one.beta = 0;
      one.bias = nullptr;
      one.c = partial.data() + (i * plan.depth_parts + part) * p.m * p.n;
      one.ldc = p.n;
      one = one.depth(part * plan.depth, std::min(plan.depth, p.k - part * plan.depth));
    }
    gemm_serial(one.panel(row, std::min(plan.rows, p.m - row), col, std::min(plan.cols, p.n - col)));
  };
  // Small products are handed out several at a time: a task of less than about 10 us is not worth the hand-over.
  const Index work = std::min(plan.rows, p.m) * std::min(plan.cols, p.n) * plan.depth;
  parallel_chunks(tasks, std::max<Index>(1, 524288 / std::max<Index>(1, work)), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) task(t);
  });
  if (plan.depth_parts > 1)
    for (Index i = 0; i < batch; ++i)
      gemm_add_parts(item(i), partial.data() + i * plan.depth_parts * p.m * p.n, plan.depth_parts);
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
