#pragma once
/// Host body of gemm for bf16 where the processor multiplies it: one instruction adds two products of neighbours along
/// the sum to a float, twice the work of a float multiplication. Both operands are packed as pairs along k. Against the
/// float path only the order and the rounding of the additions differ.

// Before the includes, one of which asks. Can be switched off: -DM3I_BF16_DOT=0.
#ifndef M3I_BF16_DOT
#if defined(__AVX512BF16__) && defined(__AVX512F__)
#define M3I_BF16_DOT 1
#else
#define M3I_BF16_DOT 0
#endif
#endif

#include <bit>
#include <cstring>

#include "m3i/kernels/gemm_host.hpp"

#if M3I_BF16_DOT

#include <immintrin.h>

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Two neighbours along k: the first in the lower half.
using Bf16Pair = std::int32_t;

inline Bf16Pair bf16_pair(bf16 first, bf16 second) {
  return Bf16Pair(std::uint32_t(first.bits) | std::uint32_t(second.bits) << 16);
}

/// add_register_block for pairs: C = A B over `depth` pairs, or C += A B with `add`.
template <int vectors, Index row_stride, Index depth_stride>
void add_bf16_block(const Bf16Pair* a, Index depth, const Bf16Pair* b, float* c, Index ldc, bool add) {
  constexpr int rows = block_rows<vectors>;
  __m512 sum[std::size_t(rows)][std::size_t(vectors)];
  unrolled<rows>([&](auto r) { unrolled<vectors>([&](auto v) { sum[r][v] = _mm512_setzero_ps(); }); });
  for (Index k = 0; k < depth; ++k, a += depth_stride, b += vectors * 16) {
    __m512i row[std::size_t(vectors)];
    unrolled<vectors>([&](auto v) { row[v] = _mm512_loadu_si512(b + Index(v) * 16); });
    unrolled<rows>([&](auto r) {
      const __m512i value = _mm512_set1_epi32(a[Index(r) * row_stride]);
      unrolled<vectors>([&](auto v) {
        sum[r][v] = _mm512_dpbf16_ps(sum[r][v], std::bit_cast<__m512bh>(value), std::bit_cast<__m512bh>(row[v]));
      });
    });
  }
  unrolled<rows>([&](auto r) {
    unrolled<vectors>([&](auto v) {
      float* to = c + Index(r) * ldc + Index(v) * 16;
      _mm512_storeu_ps(to, add ? _mm512_add_ps(_mm512_loadu_ps(to), sum[r][v]) : sum[r][v]);
    });
  });
}

struct Bf16Block {
  Index rows, cols, row_stride;
  void (*add)(const Bf16Pair* a, Index depth, const Bf16Pair* b, float* c, Index ldc, bool add);

  template <int vectors>
  static Bf16Block of(bool trans_a) {
    constexpr Index rows = block_rows<vectors>, cols = block_cols<float, vectors>;
    if (trans_a) return {rows, cols, 1, add_bf16_block<vectors, 1, tile_stride>};
    return {rows, cols, tile_stride, add_bf16_block<vectors, tile_stride, 1>};
  }
};

/// `pairs` pairs of a line along k; behind `count` values come zeros.
inline void copy_pairs(const bf16* from, Index count, Index pairs, Bf16Pair* to) {
  const Index whole = std::min(pairs, count / 2);
  if (whole > 0) std::memcpy(to, from, std::size_t(whole) * sizeof(Bf16Pair));  // an empty sum may come without data
  for (Index k = whole; k < pairs; ++k) to[k] = 2 * k < count ? bf16_pair(from[2 * k], bf16()) : 0;
}
/// Two lines across k, element by element; `second` may be missing.
inline void interleave_pairs(const bf16* M3I_RESTRICT first,
                             const bf16* M3I_RESTRICT second,
                             Index n,
                             Bf16Pair* M3I_RESTRICT to) {
  if (!second) {
    for (Index j = 0; j < n; ++j) to[j] = bf16_pair(first[j], bf16());
    return;
  }
  M3I_SIMD
  for (Index j = 0; j < n; ++j) to[j] = bf16_pair(first[j], second[j]);
}

/// As pack_panel: pairs [first, first + depth) of a panel of op(B), as [depth, cols].
inline void pack_bf16_panel(
    const GemmProblem<bf16>& p, Index panel, Index cols, Index first, Index depth, Bf16Pair* to) {
  const Index begin = panel * cols, used = std::min(cols, p.n - begin);
  if (used < cols) std::fill_n(to, depth * cols, 0);
  if (!p.trans_b) {
    for (Index k = 0; k < depth; ++k) {
      const Index row = 2 * (first + k);
      const bf16* from = p.b + row * p.ldb + begin;
      interleave_pairs(from, row + 1 < p.k ? from + p.ldb : nullptr, used, to + k * cols);
    }
    return;
  }
  constexpr Index strip = 64;
  Bf16Pair line[strip];
  for (Index k0 = 0; k0 < depth; k0 += strip)
    for (Index j = 0; j < used; ++j) {
      const Index at = 2 * (first + k0), pairs = std::min(strip, depth - k0);
      copy_pairs(p.b + (begin + j) * p.ldb + at, p.k - at, pairs, line);
      for (Index k = 0; k < pairs; ++k) to[(k0 + k) * cols + j] = line[k];
    }
}

/// As copy_tile: op(A) [rows, pairs], as it lies.
inline void copy_bf16_tile(const GemmProblem<bf16>& p, Index row, Index rows, Index first, Index depth, Bf16Pair* to) {
  if (!p.trans_a) {
    for (Index i = 0; i < rows; ++i)
      copy_pairs(p.a + (row + i) * p.lda + 2 * first, p.k - 2 * first, depth, to + i * tile_stride);
    return;
  }
  for (Index k = 0; k < depth; ++k) {
    const Index line = 2 * (first + k);
    const bf16* from = p.a + line * p.lda + row;
    interleave_pairs(from, line + 1 < p.k ? from + p.lda : nullptr, rows, to + k * tile_stride);
  }
}

/// C [rows, cols] at (row, col) of a product = alpha sum + beta C + bias, where `parts` sums lie `step` apart. Like the
/// products, the rounding to bf16 takes what is below the smallest normal float for zero.
inline void store_bf16_sums(const GemmProblem<bf16>& p,
                            Index row,
                            Index rows,
                            Index col,
                            Index cols,
                            const float* sums,
                            Index stride,
                            Index parts,
                            Index step) {
  const __m512 alpha = _mm512_set1_ps(p.alpha), beta = _mm512_set1_ps(p.beta);
  const auto wide = [](const bf16* from, __mmask16 used) {
    return _mm512_castsi512_ps(
        _mm512_maskz_slli_epi32(used, _mm512_maskz_cvtepu16_epi32(used, _mm256_maskz_loadu_epi16(used, from)), 16));
  };
  for (Index i = 0; i < rows; ++i, sums += stride) {
    bf16* out = p.c + (row + i) * p.ldc + col;
    for (Index j = 0; j < cols; j += 16) {
      const auto used = __mmask16(cols - j < 16 ? (1 << (cols - j)) - 1 : 0xffff);
      __m512 total = _mm512_maskz_loadu_ps(used, sums + j);
      for (Index part = 1; part < parts; ++part)
        total = _mm512_add_ps(total, _mm512_maskz_loadu_ps(used, sums + part * step + j));
      total = _mm512_mul_ps(total, alpha);
      if (p.beta != 0) total = _mm512_fmadd_ps(beta, wide(out + j, used), total);
      if (p.bias) total = _mm512_add_ps(total, wide(p.bias + col + j, used));
      _mm256_mask_storeu_epi16(out + j, used, std::bit_cast<__m256i>(_mm512_cvtneps_pbh(total)));
    }
  }
}

/// gemm_tiles for pairs. Sums are float and lie in a task's own memory, or in parts where the sum over k is cut.
inline void gemm_bf16_tiles(
    Index batch, const GemmProblem<bf16>& p, Index stride_a, Index stride_b, Index stride_c, const Bf16Block& block) {
  const Index cols = block.cols;
  const GemmPlan plan(batch, p, (p.k + 1) / 2, cols);
  const auto item = [&](Index i) { return p.moved(i * stride_a, i * stride_b, i * stride_c); };
  const auto pack = [&](Index i, Index panel, Index first, Index depth, Bf16Pair* to) {
    pack_bf16_panel(item(i), panel, cols, first, depth, to);
  };
  const GemmPanels<Bf16Pair, decltype(pack)> panels(plan, stride_b == 0 ? 1 : batch, pack);
  const Index width = plan.panels * cols;  // of C, filled up
  const Tensor<float> partial({plan.whole_sums() ? 0 : batch, plan.depth_parts, p.m, width});

  const Index tile_rows = (plan.rows + block.rows - 1) / block.rows * block.rows;
  // A panel's sums are rounded as soon as they are whole; where the tile takes the whole sum, that is at once, and the
  // next panel's take their place.
  const bool at_once = plan.depth <= tile_width;
  const auto run = [&](const GemmTask& t, Bf16Pair* tile, Bf16Pair* own, float* sums) {
    const GemmProblem<bf16> one = item(t.item);
    for (Index k = t.first; k < std::max(t.last, t.first + 1); k += tile_width) {
      const Index depth = std::min(tile_width, t.last - k);
      copy_bf16_tile(one, t.row, t.rows, k, depth, tile);
      for (Index panel = t.first_panel; panel < t.last_panel; ++panel) {
        const Bf16Pair* b = panels.at(t.item, panel, k, depth, own);
        float* c = sums + (at_once ? 0 : panel - t.first_panel) * tile_rows * cols;
        for (Index r = 0; r < t.rows; r += block.rows)
          block.add(tile + r * block.row_stride, depth, b, c + r * cols, cols, k > t.first);
        if (k + depth < t.last) continue;
        const Index col = panel * cols, used = std::min(cols, p.n - col);
        if (plan.whole_sums()) {
          store_bf16_sums(one, t.row, t.rows, col, used, c, cols, 1, 0);
          continue;
        }
        for (Index r = 0; r < t.rows; ++r)
          std::copy_n(c + r * cols, used,
                      partial.data() + ((t.item * plan.depth_parts + t.part) * p.m + t.row + r) * width + col);
      }
    }
  };
  const Index share_panels = (plan.panels + plan.shares - 1) / plan.shares;
  plan.run([&](Index begin, Index end) {
    const Tensor<Bf16Pair> tile({tile_rows + block.rows, tile_stride}), own = panels.own();
    const Tensor<float> sums({at_once ? 1 : share_panels, tile_rows, cols});
    for (Index t = begin; t < end; ++t) run(plan.task(t), tile.data(), own.data(), sums.data());
  });
  if (plan.whole_sums()) return;
  parallel_chunks(batch * p.m, std::max<Index>(1, 16384 / p.n), [&](Index begin, Index end) {
    for (Index line = begin; line < end; ++line) {
      const Index i = line / p.m, row = line % p.m;
      store_bf16_sums(item(i), row, 1, 0, p.n, partial.data() + (i * plan.depth_parts * p.m + row) * width, width,
                      plan.depth_parts, p.m * width);
    }
  });
}

inline void gemm_bf16(Index batch, const GemmProblem<bf16>& p, Index stride_a, Index stride_b, Index stride_c) {
  with_panel_width<float>(p.n, [&](auto vectors) {
    gemm_bf16_tiles(batch, p, stride_a, stride_b, stride_c, Bf16Block::of<vectors>(p.trans_a));
  });
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i

#endif
