#pragma once
/// Work on small dense blocks that a team keeps in scratch memory: cells, folds along columns, and products.
///
/// On the host a block lies in the first-level cache and products are blocked for registers; elsewhere each thread of
/// the team takes cells. Every call is one phase: it ends with the team's barrier.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/register_block.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// f(r, c) for all cells of a block; a cell may only touch what belongs to it.
template <class Team, class F>
M3I_HD inline void each_cell(Team team, Index rows, Index cols, F f) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    for (Index r = 0; r < rows; ++r) team.each(cols, [=](Index c) { f(r, c); });
  } else {
    team.each(rows * cols, [=](Index i) { f(i / cols, i % cols); });
  }
}

/// f(r, c) as each_cell, with what belongs to a row found once: f(row(r), r, c), skipped where row(r) is null.
template <class Team, class Row, class F>
M3I_HD inline void each_cell_of(Team team, Index rows, Index cols, Row row, F f) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    for (Index r = 0; r < rows; ++r)
      if (auto* own = row(r)) team.each(cols, [=](Index c) { f(own, r, c); });
  } else {
    team.each(rows * cols, [=](Index i) {
      if (auto* own = row(i / cols)) f(own, i / cols, i % cols);
    });
  }
}

/// f(one, r) for each row, where `one` is a team of one thread.
template <class Team, class F>
M3I_HD inline void each_row(Team team, Index rows, F f) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    for (Index r = 0; r < rows; ++r) f(team, r);
  } else {
    team.each(rows, [=](Index r) { f(HostTeam{}, r); });
  }
}

/// total[c] = combine(total[c], f(r, c)) over the rows in order.
template <class Team, class A, class F, class Combine>
M3I_HD inline void fold_columns(Team team, Index rows, Index cols, A* total, F f, Combine combine) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    for (Index r = 0; r < rows; ++r) team.each(cols, [=](Index c) { total[c] = combine(total[c], f(r, c)); });
  } else {
    team.each(cols, [=](Index c) {
      A own = total[c];
      for (Index r = 0; r < rows; ++r) own = combine(own, f(r, c));
      total[c] = own;
    });
  }
}

namespace detail {

/// Rows of a tile: enough sums in registers to hide the latency of additions.
inline constexpr Index multiply_rows = vector_registers == 32 ? 8 : 4;

/// multiply_rows by `lanes` vectors of C (+)= A B; the sums stay in registers. That needs every lambda inlined, which
/// the compiler gives up on inside of large functors: so a function of its own, flattened.
template <int lanes, class A>
[[gnu::noinline, gnu::flatten]] void multiply_tile(
    Index inner, const A* a, Index a_row, Index a_col, const A* b, Index ldb, A* c, Index ldc, bool add) {
  using V = typename Lanes<A>::Vector;
  constexpr int quads = multiply_rows / 4;
  constexpr Index width = Lanes<A>::count;
  const auto at = [=](auto q, auto r, auto l) -> V& {
    return *reinterpret_cast<V*>(c + (4 * Index(q) + Index(r)) * ldc + Index(l) * width);
  };
  const auto each = [](auto f) {
    unrolled<quads>([&](auto q) { unrolled<4>([&](auto r) { unrolled<lanes>([&](auto l) { f(q, r, l); }); }); });
  };
  V sum[std::size_t(quads)][4][std::size_t(lanes)] = {};
  if (add) each([&](auto q, auto r, auto l) { sum[q][r][l] = at(q, r, l); });
  const A* rows[std::size_t(quads)];  // one pointer for four rows: their distances are one register and its multiples
  unrolled<quads>([&](auto q) { rows[q] = a + 4 * Index(q) * a_row; });
  for (Index k = 0; k < inner; ++k, b += ldb) {
    V line[std::size_t(lanes)];
    unrolled<lanes>([&](auto l) { line[l] = *reinterpret_cast<const V*>(b + Index(l) * width); });
    unrolled<quads>([&](auto q) {
      unrolled<4>([&](auto r) {
        const A x = rows[q][Index(r) * a_row];
        unrolled<lanes>([&](auto l) { sum[q][r][l] += x * line[l]; });
      });
      rows[q] += a_col;
    });
  }
  each([&](auto q, auto r, auto l) { at(q, r, l) = sum[q][r][l]; });
}

template <class A>
inline void host_multiply(Index rows,
                          Index cols,
                          Index inner,
                          const A* a,
                          Index a_row,
                          Index a_col,
                          const A* b,
                          Index ldb,
                          A* c,
                          Index ldc,
                          bool add) {
  constexpr Index width = Lanes<A>::count;
  Index n = 0;
  for (; n + width < cols; n += 2 * width)
    for (Index m = 0; m < rows; m += multiply_rows)
      multiply_tile<2>(inner, a + m * a_row, a_row, a_col, b + n, ldb, c + m * ldc + n, ldc, add);
  if (n < cols)
    for (Index m = 0; m < rows; m += multiply_rows)
      multiply_tile<1>(inner, a + m * a_row, a_row, a_col, b + n, ldb, c + m * ldc + n, ldc, add);
}

}  // namespace detail

/// Extents of a block in scratch are rounded up to this, in elements: products may write there, and read there.
template <class A>
M3I_HD constexpr Index block_extent(Index n) {
  constexpr Index unit = 64 / Index(sizeof(A));
  return (n + unit - 1) / unit * unit;
}

/// C = A B, or C += A B with `add`. A is [rows, inner] with element (m, k) at a[m * a_row + k * a_col], so that a
/// transposed matrix needs no copy; B is [inner, cols], C [rows, cols], row-major. All extents of the memory behind
/// A's rows, B's columns and C must be block_extent(); what lies beyond the true extents becomes meaningless.
M3I_NO_EXEC_CHECK
template <class Team, class A>
M3I_HD inline void multiply(Team team,
                            Index rows,
                            Index cols,
                            Index inner,
                            const A* a,
                            Index a_row,
                            Index a_col,
                            const A* b,
                            Index ldb,
                            A* c,
                            Index ldc,
                            bool add) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    detail::host_multiply(rows, cols, inner, a, a_row, a_col, b, ldb, c, ldc, add);
  } else {
    team.each(rows * cols, [=](Index i) {
      const Index m = i / cols, n = i % cols;
      A total = add ? c[m * ldc + n] : A(0);
      for (Index k = 0; k < inner; ++k) total += a[m * a_row + k * a_col] * b[k * ldb + n];
      c[m * ldc + n] = total;
    });
  }
}

namespace detail {
template <class A, class F>
void host_rows_with_scratch(Index begin, Index end, A* scratch, F f) {
  for (Index row = begin; row < end; ++row) f(HostTeam{}, row, scratch);
}
#if M3I_CUDA
template <class A, class F>
__global__ void for_rows_with_scratch_kernel(Index rows, A* scratch, Index size, F f) {
  for (Index row = blockIdx.x; row < rows; row += gridDim.x) {
    f(CudaTeam<>{}, row, scratch + Index(blockIdx.x) * size);
    __syncthreads();
  }
}
#endif
}  // namespace detail

/// for_rows with memory of its own for each running team: f(team, row, scratch), `size` elements of A, zeros at first
/// and then whatever the team's previous row left there.
template <class A, class F>
void for_rows_with_scratch(Device device, Index rows, Index size, const F& f, Index row_cost) {
  if (rows <= 0) return;
  if (device.kind == Device::Kind::cpu) {
    const Index grain = std::max<Index>(1, 262144 / std::max<Index>(1, row_cost));
    parallel_chunks(rows, grain, [&](Index begin, Index end) {
      const auto scratch = Tensor<A>::zeros({size});
      detail::host_rows_with_scratch(begin, end, scratch.data(), f);
    });
  } else if (device.kind == Device::Kind::emulated) {
    const auto scratch = Tensor<A>::zeros({size}, device);
    for (Index row = rows - 1; row >= 0; --row) f(EmulatedTeam<>{}, row, scratch.data());
  } else {
#if M3I_CUDA
    DeviceGuard guard(device);
    const Index most = std::max<Index>(64, (Index(256) << 20) / (size * Index(sizeof(A))));  // 256 MiB for all teams
    const Index blocks = std::min({rows, most, Index(1024)});
    const auto scratch = Tensor<A>::zeros({blocks, size}, device);
    detail::for_rows_with_scratch_kernel<<<unsigned(blocks), team_width, 0, current_stream()>>>(rows, scratch.data(),
                                                                                                size, f);
    check_cuda(cudaGetLastError(), "for_rows_with_scratch");
#else
    fail<DeviceError>("for_rows_with_scratch: ", device, " needs a build with M3I_CUDA=ON");
#endif
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
