#pragma once
/// Host body of gemm: tiles of A, copied to where a register block can read them, times panels of B.

#include "m3i/core/parallel.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/kernels/gemm_problem.hpp"
#include "m3i/kernels/register_block.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

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

/// How a product is cut into tasks. Depends on the sizes alone, never on the number of threads, and so do the bits.
struct GemmPlan {
  Index rows, row_tiles;  // of C
  Index panels, shares;   // of B; a task takes the panels of one share
  Index depth, depth_parts;

  GemmPlan(Index batch, bool trans_a, Index m, Index n, Index k, Index cols) {
    // A tile of A stays in the second-level cache, and has rows enough to repay its copy.
    rows = trans_a ? tile_width : std::clamp<Index>((batch * m + 15) / 16, 64, 2 * tile_width);
    row_tiles = (m + rows - 1) / rows;
    panels = (n + cols - 1) / cols;
    shares = std::clamp<Index>(16 / (batch * row_tiles), 1, panels);
    // Few tasks and a long sum, as in the gradients of weights: cut the sum too.
    const Index tasks = batch * row_tiles * shares;
    depth_parts = tasks >= 16 ? 1 : std::clamp<Index>(k / 512, 1, (32 + tasks - 1) / tasks);
    depth = std::max<Index>(1, (k + depth_parts - 1) / depth_parts);
    depth_parts = std::max<Index>(1, (k + depth - 1) / depth);
  }
};

/// Panel `panel` of op(B), rows [first, first + depth), as [depth, cols], filled up with zeros.
template <class T>
void pack_panel(const GemmProblem<T>& p, Index panel, Index cols, Index first, Index depth, T* M3I_RESTRICT to) {
  const Index begin = panel * cols, used = std::min(cols, p.n - begin);
  if (used < cols) std::fill_n(to, depth * cols, T(0));
  if (!p.trans_b) {
    const T* M3I_RESTRICT from = p.b + first * p.ldb + begin;
    for (Index k = 0; k < depth; ++k)
      for (Index j = 0; j < used; ++j) to[k * cols + j] = from[k * p.ldb + j];
    return;
  }
  constexpr Index strip = 64;  // its lines stay in the first-level cache while the columns are filled one by one
  for (Index k0 = 0; k0 < depth; k0 += strip)
    for (Index j = 0; j < used; ++j) {
      const T* M3I_RESTRICT from = p.b + (begin + j) * p.ldb + first;
      for (Index k = k0; k < std::min(depth, k0 + strip); ++k) to[k * cols + j] = from[k];
    }
}

/// op(A) [rows, depth] of a product times alpha, as it lies: rows of A beside each other, tile_stride apart.
template <class T>
void copy_tile(const GemmProblem<T>& p, Index row, Index rows, Index first, Index depth, T* M3I_RESTRICT to) {
  const Index lines = p.trans_a ? depth : rows, length = p.trans_a ? rows : depth;
  const T* from = p.trans_a ? p.a + first * p.lda + row : p.a + row * p.lda + first;
  const T alpha = p.alpha;
  for (Index i = 0; i < lines; ++i, from += p.lda, to += tile_stride) {
    const T* M3I_RESTRICT line = from;
    M3I_SIMD
    for (Index j = 0; j < length; ++j) to[j] = alpha * line[j];
  }
}

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

/// What the tiles need to know of the register block that a product was given, so that they are compiled once for all.
template <class T>
struct GemmBlock {
  Index rows, cols, row_stride;  // of the block; between the rows of a tile of A
  void (*add)(const T* a, Index depth, const T* b, T* c, Index ldc, Index rows, Index cols);

  template <int vectors>
  static GemmBlock of(bool trans_a) {
    constexpr Index rows = block_rows<vectors>, cols = block_cols<T, vectors>;
    if (trans_a) return {rows, cols, 1, add_register_block<vectors, 1, tile_stride, T>};
    return {rows, cols, tile_stride, add_register_block<vectors, tile_stride, 1, T>};
  }
};

template <class T>
void gemm_tiles(
    Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c, const GemmBlock<T>& block) {
  const Index cols = block.cols;
  const GemmPlan plan(batch, p.trans_a, p.m, p.n, p.k, cols);
  const auto item = [&](Index i) {
    GemmProblem<T> one = p;
    one.a += i * stride_a, one.b += i * stride_b, one.c += i * stride_c;
    return one;
  };
  // Panels are packed once for all tasks; where the sum is cut each task packs its own, which no other needs.
  const bool shared = plan.depth_parts == 1;
  const Index copies = stride_b == 0 ? 1 : batch;
  const Tensor<T> packed({shared ? copies : 0, plan.panels, p.k, cols});
  if (shared)
    parallel_chunks(copies * plan.panels, std::max<Index>(1, 32768 / (p.k * cols + 1)), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        pack_panel(item(i / plan.panels), i % plan.panels, cols, 0, p.k, packed.data() + i * p.k * cols);
    });
  const Tensor<T> partial({shared ? 0 : batch, plan.depth_parts, p.m, p.n});

  const Index tile_rows = p.trans_a ? tile_width : (plan.rows + block.rows - 1) / block.rows * block.rows;
  const auto task = [&](Index t, T* tile, T* own) {
    const Index part = t % plan.depth_parts, share = t / plan.depth_parts % plan.shares;
    const Index row = t / plan.depth_parts / plan.shares % plan.row_tiles * plan.rows;
    const Index i = t / plan.depth_parts / plan.shares / plan.row_tiles, rows = std::min(plan.rows, p.m - row);
    const Index first_panel = share * plan.panels / plan.shares, last_panel = (share + 1) * plan.panels / plan.shares;
    GemmProblem<T> one = item(i);
    if (!shared) {
      one.beta = 0, one.bias = nullptr;
      one.c = partial.data() + (i * plan.depth_parts + part) * p.m * p.n, one.ldc = p.n;
    }
    gemm_start(one.panel(row, rows, first_panel * cols, std::min(p.n, last_panel * cols) - first_panel * cols));
    const Index last = std::min(p.k, (part + 1) * plan.depth);
    for (Index k = part * plan.depth; k < last; k += tile_width) {
      const Index depth = std::min(tile_width, last - k);
      copy_tile(one, row, rows, k, depth, tile);
      for (Index panel = first_panel; panel < last_panel; ++panel) {
        const T* b = packed.data() + ((copies == 1 ? 0 : i) * plan.panels + panel) * p.k * cols + k * cols;
        if (!shared) {
          pack_panel(one, panel, cols, k, depth, own);
          b = own;
        }
        T* c = one.c + row * one.ldc + panel * cols;
        for (Index r = 0; r < rows; r += block.rows)
          block.add(tile + r * block.row_stride, depth, b, c + r * one.ldc, one.ldc, rows - r, p.n - panel * cols);
      }
    }
  };
  // Small products are handed out several at a time: a task of less than about 10 us is not worth the hand-over.
  const Index tasks = batch * plan.row_tiles * plan.shares * plan.depth_parts;
  const Index work = std::min(plan.rows, p.m) * plan.depth * (p.n / plan.shares + 1);
  parallel_chunks(tasks, std::max<Index>(1, 524288 / work), [&](Index begin, Index end) {
    const Tensor<T> tile({tile_rows, tile_stride}), own({shared ? 0 : tile_width, cols});
    for (Index t = begin; t < end; ++t) task(t, tile.data(), own.data());
  });
  if (shared) return;
  for (Index i = 0; i < batch; ++i)
    gemm_add_parts(item(i), partial.data() + i * plan.depth_parts * p.m * p.n, plan.depth_parts);
}

template <class T>
void gemm_host(Index batch, const GemmProblem<T>& p, Index stride_a, Index stride_b, Index stride_c) {
  with_panel_width<T>(p.n, [&](auto vectors) {
    gemm_tiles(batch, p, stride_a, stride_b, stride_c, GemmBlock<T>::template of<vectors>(p.trans_a));
  });
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
