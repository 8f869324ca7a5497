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

/// Four rows by `lanes` vectors of C (+)= A B; the sums stay in registers.
template <int lanes, class A>
inline void multiply_tile(
    Index inner, const A* a, Index a_row, Index a_col, const A* b, Index ldb, A* c, Index ldc, bool add) {
  using V = typename Lanes<A>::Vector;
  constexpr Index width = Lanes<A>::count;
  const A *a0 = a, *a1 = a + a_row, *a2 = a + 2 * a_row, *a3 = a + 3 * a_row;
  V s00{}, s01{}, s10{}, s11{}, s20{}, s21{}, s30{}, s31{};
  const auto at = [](A* p) -> V& { return *reinterpret_cast<V*>(p); };
  if (add) {
    s00 = at(c), s10 = at(c + ldc), s20 = at(c + 2 * ldc), s30 = at(c + 3 * ldc);
    if constexpr (lanes == 2)
      s01 = at(c + width), s11 = at(c + ldc + width), s21 = at(c + 2 * ldc + width), s31 = at(c + 3 * ldc + width);
  }
  for (Index k = 0; k < inner; ++k) {
    const V b0 = *reinterpret_cast<const V*>(b + k * ldb);
    const A x0 = a0[k * a_col], x1 = a1[k * a_col], x2 = a2[k * a_col], x3 = a3[k * a_col];
    s00 += x0 * b0, s10 += x1 * b0, s20 += x2 * b0, s30 += x3 * b0;
    if constexpr (lanes == 2) {
      const V b1 = *reinterpret_cast<const V*>(b + k * ldb + width);
      s01 += x0 * b1, s11 += x1 * b1, s21 += x2 * b1, s31 += x3 * b1;
    }
  }
  at(c) = s00, at(c + ldc) = s10, at(c + 2 * ldc) = s20, at(c + 3 * ldc) = s30;
  if constexpr (lanes == 2)
    at(c + width) = s01, at(c + ldc + width) = s11, at(c + 2 * ldc + width) = s21, at(c + 3 * ldc + width) = s31;
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
    for (Index m = 0; m < rows; m += 4)
      multiply_tile<2>(inner, a + m * a_row, a_row, a_col, b + n, ldb, c + m * ldc + n, ldc, add);
  if (n < cols)
    for (Index m = 0; m < rows; m += 4)
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
