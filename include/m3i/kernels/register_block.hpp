#pragma once
/// The innermost product of the host's matrix products and convolutions: a few rows by a few vectors of C, held in
/// registers over the whole depth. It reads its left operand where it lies (the strides are known at compile time), so
/// that nothing is packed twice, and the right one from panels of exactly its width.

#include <algorithm>
#include <type_traits>
#include <utility>

#include "m3i/core/config.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int vector_registers = 32;
#else
inline constexpr int vector_registers = 16;
#endif

/// As many values as a register holds, wherever they lie: the compiler's vector extension, arithmetic included.
template <class A>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(M3I_VECTOR_BYTES), aligned(4), may_alias));
  static constexpr Index count = M3I_VECTOR_BYTES / 4;
};
template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(M3I_VECTOR_BYTES), aligned(8), may_alias));
  static constexpr Index count = M3I_VECTOR_BYTES / 8;
};

/// Rows of a block that is `vectors` wide: all registers but those for one row of B and a broadcast value.
template <int vectors>
inline constexpr int block_rows = std::min(14, (vector_registers - vectors - 1) / vectors);

/// Its columns.
template <class T, int vectors>
inline constexpr Index block_cols = Index(vectors) * Lanes<T>::count;

/// Tiles of the left operand: at most so wide, rows so far apart. No power of two, which would crowd a few cache sets,
/// and room for the block that begins at the last column.
inline constexpr Index tile_width = 192, tile_stride = tile_width + 16;

template <class F, std::size_t... i>
[[gnu::always_inline]] inline void unrolled(F f, std::index_sequence<i...>) {
  (f(std::integral_constant<std::size_t, i>{}), ...);
}
template <int n, class F>
[[gnu::always_inline]] inline void unrolled(F f) {
  unrolled(f, std::make_index_sequence<std::size_t(n)>{});
}

/// A block of C, `rows` by `vectors`, in registers.
template <class T, int vectors, int rows = block_rows<vectors>>
struct RegisterBlock {
  using Vector = typename Lanes<T>::Vector;
  static constexpr Index lanes = Lanes<T>::count;
  Vector sum[std::size_t(rows)][std::size_t(vectors)] = {};

  /// += A B over `depth`.
  ///   a  element (r, k) at a[r * row_stride + k * depth_stride]
  ///   b  [depth, vectors * lanes], dense
  template <Index row_stride, Index depth_stride>
  [[gnu::always_inline]] void add_product(const T* a, Index depth, const T* b) {
    for (Index k = 0; k < depth; ++k, a += depth_stride, b += vectors * lanes) {
      Vector row[std::size_t(vectors)];
      unrolled<vectors>([&](auto v) { row[v] = *reinterpret_cast<const Vector*>(b + Index(v) * lanes); });
      unrolled<rows>([&](auto r) {
        const T value = a[Index(r) * row_stride];
        unrolled<vectors>([&](auto v) { sum[r][v] += value * row[v]; });
      });
    }
  }
  /// c has its rows ldc apart.
  [[gnu::always_inline]] void add_to(T* c, Index ldc) const {
    each([&](auto r, auto v) { *reinterpret_cast<Vector*>(c + Index(r) * ldc + Index(v) * lanes) += sum[r][v]; });
  }
  [[gnu::always_inline]] void store(T* c, Index ldc) const {
    each([&](auto r, auto v) { *reinterpret_cast<Vector*>(c + Index(r) * ldc + Index(v) * lanes) = sum[r][v]; });
  }

 private:
  template <class F>
  [[gnu::always_inline]] static void each(F f) {
    unrolled<rows>([&](auto r) { unrolled<vectors>([&](auto v) { f(r, v); }); });
  }
};

/// C [block_rows, block_cols] += A B over `depth`; strides as above, rows of C ldc apart.
template <int vectors, Index row_stride, Index depth_stride, class T>
void add_register_block(const T* a, Index depth, const T* b, T* c, Index ldc) {
  RegisterBlock<T, vectors> block;
  block.template add_product<row_stride, depth_stride>(a, depth, b);
  block.add_to(c, ldc);
}

/// The same for the first `rows` and `cols` of the block only; all of A and B is read nonetheless.
template <int vectors, Index row_stride, Index depth_stride, class T>
void add_register_block(const T* a, Index depth, const T* b, T* c, Index ldc, Index rows, Index cols) {
  constexpr Index all_rows = block_rows<vectors>, all_cols = block_cols<T, vectors>;
  if (rows >= all_rows && cols >= all_cols)
    return add_register_block<vectors, row_stride, depth_stride>(a, depth, b, c, ldc);
  T edge[std::size_t(all_rows * all_cols)] = {};
  add_register_block<vectors, row_stride, depth_stride>(a, depth, b, edge, all_cols);
  for (Index r = 0; r < std::min(rows, all_rows); ++r)
    for (Index j = 0; j < std::min(cols, all_cols); ++j) c[r * ldc + j] += edge[r * all_cols + j];
}

/// Calls f with the number of vectors (1, 2 or 3, a compile-time constant) whose panels cover `cols` with least waste;
/// the wider ones do more with each value of A.
template <class T, class F>
void with_panel_width(Index cols, F f) {
  const Index vectors = (cols + Lanes<T>::count - 1) / Lanes<T>::count;
  if (vectors == 1) f(std::integral_constant<int, 1>{});
  else if ((vectors + 2) / 3 * 3 <= (vectors + 1) / 2 * 2) f(std::integral_constant<int, 3>{});
  else f(std::integral_constant<int, 2>{});
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
