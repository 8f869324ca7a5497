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

/// What one task multiplies: rows [row, row + rows) of a product of the batch, the panels [first_panel, last_panel),
/// and of the sum what lies in [first, last).
struct GemmTask {
  Index item, row, rows, first_panel, last_panel, part, first, last;
};

/// How a batch of products is cut into tasks. Depends on the sizes alone, never on the number of threads, and so do the
/// bits. `k` and `depth` count steps of the sum: values, or pairs of them.
struct GemmPlan {
  Index m, n, k, cols;    // of a product; columns of a panel
  Index rows, row_tiles;  // of C
  Index panels, shares;   // of B; a task takes the panels of one share
  Index depth, depth_parts, tasks;

  template <class T>
  GemmPlan(Index batch, const GemmProblem<T>& p, Index steps, Index panel) : m(p.m), n(p.n), k(steps), cols(panel) {
    // A tile of A stays in the second-level cache, and has rows enough to repay its copy.
    rows = p.trans_a ? tile_width : std::clamp<Index>((batch * m + 15) / 16, 64, 2 * tile_width);
    row_tiles = (m + rows - 1) / rows;
    panels = (n + cols - 1) / cols;
    shares = std::clamp<Index>(16 / (batch * row_tiles), 1, panels);
    // Few tasks and a long sum, as in the gradients of weights: cut the sum too.
    tasks = batch * row_tiles * shares;
    depth_parts = tasks >= 16 ? 1 : std::clamp<Index>(k / 512, 1, (32 + tasks - 1) / tasks);
    depth = std::max<Index>(1, (k + depth_parts - 1) / depth_parts);
    depth_parts = std::max<Index>(1, (k + depth - 1) / depth);
    tasks *= depth_parts;
  }

  bool whole_sums() const { return depth_parts == 1; }
  GemmTask task(Index t) const {
    const Index part = t % depth_parts, share = t / depth_parts % shares, tile = t / depth_parts / shares;
    const Index row = tile % row_tiles * rows, first = part * depth;
    return {tile / row_tiles,
            row,
            std::min(rows, m - row),
            share * panels / shares,
            (share + 1) * panels / shares,
            part,
            first,
            std::min(k, first + depth)};
  }
  /// f(begin, end) for runs of tasks. Small products are handed out several at a time: a task of less than about 10 us
  /// is not worth the hand-over.
  template <class F>
  void run(F f) const {
    const Index work = std::min(rows, m) * depth * (n / shares + 1);
    parallel_chunks(tasks, std::max<Index>(1, 524288 / work), f);
  }
};

/// Panels of op(B) as [depth, cols], packed once for all tasks; where the sum is cut each task packs its own, which no
/// other needs. pack(item, panel, first, depth, to) packs one.
template <class Element, class Pack>
struct GemmPanels {
  const GemmPlan& plan;
  Pack pack;
  Index copies;
  Tensor<Element> packed;

  GemmPanels(const GemmPlan& cut, Index batch, Pack f) : plan(cut), pack(f), copies(plan.whole_sums() ? batch : 0) {
    packed = Tensor<Element>({copies, plan.panels, plan.k, plan.cols});
    const Index size = plan.k * plan.cols;
    parallel_chunks(copies * plan.panels, std::max<Index>(1, 32768 / (size + 1)), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) pack(i / plan.panels, i % plan.panels, 0, plan.k, packed.data() + i * size);
    });
  }
  /// Memory that at() needs in a task.
  Tensor<Element> own() const { return Tensor<Element>({plan.whole_sums() ? 0 : tile_width, plan.cols}); }
  /// Steps [first, first + depth) of a panel.
  const Element* at(Index item, Index panel, Index first, Index depth, Element* own) const {
    if (plan.whole_sums())
      return packed.data() + (((copies == 1 ? 0 : item) * plan.panels + panel) * plan.k + first) * plan.cols;
    pack(item, panel, first, depth, own);
    return own;
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
  const GemmPlan plan(batch, p, p.k, cols);
  const auto item = [&](Index i) { return p.moved(i * stride_a, i * stride_b, i * stride_c); };
  const auto pack = [&](Index i, Index panel, Index first, Index depth, T* to) {
    pack_panel(item(i), panel, cols, first, depth, to);
  };
  const GemmPanels<T, decltype(pack)> panels(plan, stride_b == 0 ? 1 : batch, pack);
  const Tensor<T> partial({plan.whole_sums() ? 0 : batch, plan.depth_parts, p.m, p.n});

  const auto run = [&](const GemmTask& t, T* tile, T* own) {
    GemmProblem<T> one = item(t.item);
    if (!plan.whole_sums()) {
      one.beta = 0, one.bias = nullptr;
      one.c = partial.data() + (t.item * plan.depth_parts + t.part) * p.m * p.n, one.ldc = p.n;
    }
    const Index begin = t.first_panel * cols, end = std::min(p.n, t.last_panel * cols);
    gemm_start(one.panel(t.row, t.rows, begin, end - begin));
    for (Index k = t.first; k < t.last; k += tile_width) {
      const Index depth = std::min(tile_width, t.last - k);
      copy_tile(one, t.row, t.rows, k, depth, tile);
      for (Index panel = t.first_panel; panel < t.last_panel; ++panel) {
        const T* b = panels.at(t.item, panel, k, depth, own);
        T* c = one.c + t.row * one.ldc + panel * cols;
        for (Index r = 0; r < t.rows; r += block.rows)
          block.add(tile + r * block.row_stride, depth, b, c + r * one.ldc, one.ldc, t.rows - r, p.n - panel * cols);
      }
    }
  };
  const Index tile_rows = p.trans_a ? tile_width : (plan.rows + block.rows - 1) / block.rows * block.rows;
  plan.run([&](Index begin, Index end) {
    const Tensor<T> tile({tile_rows, tile_stride}), own = panels.own();
    for (Index t = begin; t < end; ++t) run(plan.task(t), tile.data(), own.data());
  });
  if (plan.whole_sums()) return;
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
