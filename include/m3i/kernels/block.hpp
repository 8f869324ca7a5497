#pragma once
/// Work on small dense blocks that a team keeps in scratch memory: cells, folds along columns, and products.
///
/// On the host a block lies in the first-level cache and products are blocked for registers. On a GPU it lies in shared
/// memory; products of half and bf16 go to the tensor cores, others are blocked for registers too. Every call is one
/// phase: it ends with the team's barrier.

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "m3i/core/dtype.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/register_block.hpp"
#if M3I_CUDA
#include "m3i/kernels/tensor_cores.hpp"
#endif

namespace m3i {
inline namespace M3I_ABI {

/// Extents of a block in scratch are rounded up to this, in elements: products may write there, and read there.
template <class E>
M3I_HD constexpr Index block_extent(Index n) {
  constexpr std::uint64_t unit = 64 / sizeof(E);
  return Index((std::uint64_t(n) + unit - 1) / unit * unit);
}
/// Elements between the rows of a block. Those of tensor cores are staggered, so that a tile's rows lie in different
/// banks of shared memory. Of 32 bits, which a GPU multiplies faster.
template <class E>
M3I_HD constexpr Index block_step(Index cols) {
  return Index(std::uint32_t(block_extent<E>(cols) + (is_small_float<E> ? 8 : 0)));
}
/// The same for the sums of products of E.
template <class E, class A>
M3I_HD constexpr Index sum_step(Index cols) {
  return Index(std::uint32_t(block_extent<A>(cols) + (is_small_float<E> ? 8 : 0)));
}
/// What an inner extent is rounded up to where tensor cores multiply: the block holds zeros there.
template <class E>
M3I_HD constexpr Index inner_extent(Index n) {
  return is_small_float<E> ? (n + 15) / 16 * 16 : n;
}

M3I_HD constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }

/// Cuts scratch memory into blocks; with a null base it only counts.
struct BlockCutter {
  std::byte* base;
  Index bytes = 0;
  template <class E>
  M3I_HD E* take(Index rows, Index cols) {
    E* const block = base ? reinterpret_cast<E*>(base + bytes) : nullptr;
    bytes += block_extent<E>(rows) * block_step<E>(cols) * Index(sizeof(E));
    return block;
  }
  /// Sums of products of E.
  template <class E, class A>
  M3I_HD A* sums(Index rows, Index cols) {
    A* const block = base ? reinterpret_cast<A*>(base + bytes) : nullptr;
    bytes += block_extent<A>(rows) * sum_step<E, A>(cols) * Index(sizeof(A));
    return block;
  }
  /// n numbers, or other plain things.
  template <class E>
  M3I_HD E* line(Index n) {
    E* const first = base ? reinterpret_cast<E*>(base + bytes) : nullptr;
    bytes += (n * Index(sizeof(E)) + 63) / 64 * 64;
    return first;
  }
};

/// f(r, c) for all cells of a block; a cell may only touch what belongs to it.
template <class Team, class F>
M3I_HD inline void each_cell(Team team, Index rows, Index cols, F f) {
  team.cells(rows, cols, f);
}

/// What a GPU's thread reads and writes at once.
struct alignas(16) [[gnu::may_alias]] Chunk {
  std::uint32_t words[4];
};
/// A chunk of `width` elements, or one element; zeros from null.
template <int width, class T>
M3I_HD inline void copy_chunk(const T* from, T* to) {
  if constexpr (width == 1) {
    *to = from ? *from : T(0.0f);
  } else {
    static_assert(width * sizeof(T) == sizeof(Chunk));
    *reinterpret_cast<Chunk*>(to) = from ? *reinterpret_cast<const Chunk*>(from) : Chunk{};
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

/// One product of blocks: C [m, n] = A [m, k] B [k, n], or C += A B with `add`. Element (i, j) of A is at
/// a[i * a_row + j * a_col], and so for B; one of the two strides is 1, so that a transposed matrix needs no copy.
/// C is row-major.
template <class E, class A>
struct BlockGemm {
  Index m, n, k;
  const E* a;
  Index a_row, a_col;
  const E* b;
  Index b_row, b_col;
  A* c;
  Index ldc;
  bool add;
};

namespace detail {

/// Rows of a tile: enough sums in registers to hide the latency of additions.
inline constexpr Index multiply_rows = vector_registers == 32 ? 8 : 4;

/// multiply_rows by `lanes` vectors of C from (m, n) on; the sums stay in registers. That needs every lambda inlined,
/// which the compiler gives up on inside of large functors: so a function of its own, flattened.
template <int lanes, class A>
[[gnu::noinline, gnu::flatten]] void multiply_tile(const BlockGemm<A, A>& p, Index m, Index n) {
  using V = typename Lanes<A>::Vector;
  constexpr int quads = multiply_rows / 4;
  constexpr Index width = Lanes<A>::count;
  const Index inner = p.k, a_row = p.a_row, a_col = p.a_col, ldb = p.b_row, ldc = p.ldc;
  const A *a = p.a + m * a_row, *b = p.b + n;
  A* c = p.c + m * ldc + n;
  const auto at = [=](auto q, auto r, auto l) -> V& {
    return *reinterpret_cast<V*>(c + (4 * Index(q) + Index(r)) * ldc + Index(l) * width);
  };
  const auto each = [](auto f) {
    unrolled<quads>([&](auto q) { unrolled<4>([&](auto r) { unrolled<lanes>([&](auto l) { f(q, r, l); }); }); });
  };
  V sum[std::size_t(quads)][4][std::size_t(lanes)] = {};
  if (p.add) each([&](auto q, auto r, auto l) { sum[q][r][l] = at(q, r, l); });
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
inline void host_multiply(const BlockGemm<A, A>& p) {
  assert(p.b_col == 1);  // vectors along the rows of B
  constexpr Index width = Lanes<A>::count;
  Index n = 0;
  for (; n + width < p.n; n += 2 * width)
    for (Index m = 0; m < p.m; m += multiply_rows) multiply_tile<2>(p, m, n);
  if (n < p.n)
    for (Index m = 0; m < p.m; m += multiply_rows) multiply_tile<1>(p, m, n);
}

/// Tiles of 4 x 4 sums, each in the registers of one thread. The cells of a tile lie far apart, so that neighbouring
/// threads read neighbouring elements.
template <class Team, class E, class A>
M3I_HD inline void team_multiply(Team team, const BlockGemm<E, A>& p) {
  constexpr int side = 4;
  const Index down = (p.m + side - 1) / side, across = (p.n + side - 1) / side, depth = inner_extent<E>(p.k);
  each_cell(team, down, across, [=](Index m, Index n) {
    A sum[side][side];
    for (int i = 0; i < side; ++i)
      for (int j = 0; j < side; ++j) sum[i][j] = p.add ? p.c[(m + i * down) * p.ldc + n + j * across] : A(0);
    for (Index k = 0; k < depth; ++k) {
      A x[side], y[side];
      for (int i = 0; i < side; ++i) x[i] = A(p.a[(m + i * down) * p.a_row + k * p.a_col]);
      for (int j = 0; j < side; ++j) y[j] = A(p.b[k * p.b_row + (n + j * across) * p.b_col]);
      for (int i = 0; i < side; ++i)
        for (int j = 0; j < side; ++j) sum[i][j] += x[i] * y[j];
    }
    for (int i = 0; i < side; ++i)
      for (int j = 0; j < side; ++j) p.c[(m + i * down) * p.ldc + n + j * across] = sum[i][j];
  });
}

}  // namespace detail

/// The product p. Extents of the memory behind A's rows, B's columns and C are block_extent(), that behind the inner
/// extent is inner_extent() with zeros; what lies beyond the true extents of C becomes meaningless. E is A, or on a GPU
/// also half or bf16, summed in float; on the host the rows of B lie in one piece.
M3I_NO_EXEC_CHECK
template <class Team, class E, class A>
M3I_HD inline void multiply(Team team, const BlockGemm<E, A>& p) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    detail::host_multiply(p);
    return;
  }
#if M3I_TENSOR_CORES
  if constexpr (is_small_float<E> && std::is_same_v<Team, CudaTeam<>>) {
    detail::tensor_core_multiply(p);
    return;
  }
#endif
  if constexpr (!std::is_same_v<Team, HostTeam>) detail::team_multiply(team, p);
}

namespace detail {

template <class F>
void host_rows_with_scratch(Index begin, Index end, std::byte* scratch, F f) {
  for (Index row = begin; row < end; ++row) f(HostTeam{}, row, scratch);
}

#if M3I_CUDA
/// Scratch is shared memory, or, where that is too small, a piece of `scratch` for each block. A template, so that the
/// compiler knows which memory it addresses; tensor cores read the former only.
template <bool shared, class F>
__global__ void for_rows_with_scratch_kernel(Index rows, std::byte* scratch, Index bytes, F f) {
  extern __shared__ __align__(128) std::byte own[];
  for (Index row = blockIdx.x; row < rows; row += gridDim.x) {
    if constexpr (shared) f(CudaTeam<>{}, row, own);
    else f(CudaFarTeam{}, row, scratch + Index(blockIdx.x) * bytes);
    __syncthreads();
  }
}

template <class F>
void launch_rows_with_scratch(Device device, Index rows, Index bytes, const F& f) {
  DeviceGuard guard(device);
  const auto kernel = for_rows_with_scratch_kernel<true, F>;
  int shared = 0;
  cudaFuncAttributes own{};
  check_cuda(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.number),
             "for_rows_with_scratch");
  check_cuda(cudaFuncGetAttributes(&own, kernel), "for_rows_with_scratch");
  if (bytes + Index(own.sharedSizeBytes) <= shared) {  // sums of the team lie there too
    // Always as much as there may be: a graph that is being recorded holds launches of several sizes.
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared - int(own.sharedSizeBytes)),
        "for_rows_with_scratch");
    const Index blocks = std::min<Index>(rows, 1 << 20);
    kernel<<<unsigned(blocks), team_width, std::size_t(bytes), current_stream()>>>(rows, nullptr, bytes, f);
  } else {
    const Index most = std::max<Index>(64, (Index(256) << 20) / bytes);  // 256 MiB for all teams
    const Index blocks = std::min({rows, most, Index(1024)}), rounded = (bytes + 127) / 128 * 128;
    const Tensor<std::uint8_t> scratch({blocks, rounded}, device);
    for_rows_with_scratch_kernel<false><<<unsigned(blocks), team_width, 0, current_stream()>>>(
        rows, reinterpret_cast<std::byte*>(scratch.data()), rounded, f);
  }
  check_cuda(cudaGetLastError(), "for_rows_with_scratch");
}
#endif

}  // namespace detail

/// for_rows with memory of its own for each running team: f(team, row, scratch), `bytes` of it, aligned to 64. A row
/// finds there what it likes (the emulated device fills it with NaN); on the host zeros or numbers.
///
/// Functors that multiply in other types on the host than elsewhere (attention) call the two halves of it themselves.
template <class F>
void host_rows_with_scratch(Index rows, Index bytes, const F& f, Index row_cost) {
  if (rows <= 0) return;
  const Index grain = std::max<Index>(1, 262144 / std::max<Index>(1, row_cost));
  parallel_chunks(rows, grain, [&](Index begin, Index end) {
    const auto scratch = Tensor<std::uint8_t>::zeros({bytes});
    detail::host_rows_with_scratch(begin, end, reinterpret_cast<std::byte*>(scratch.data()), f);
  });
}
template <class F>
void device_rows_with_scratch(Device device, Index rows, Index bytes, const F& f) {
  if (rows <= 0) return;
  if (device.kind == Device::Kind::emulated) {
    const Tensor<std::uint8_t> scratch({bytes}, device);
    for (Index row = rows - 1; row >= 0; --row) {
      std::memset(scratch.data(), 0xff, scratch.bytes());
      f(EmulatedTeam{}, row, reinterpret_cast<std::byte*>(scratch.data()));
    }
    return;
  }
#if M3I_CUDA
  detail::launch_rows_with_scratch(device, rows, bytes, f);
#else
  fail<DeviceError>("for_rows_with_scratch: ", device, " needs a build with M3I_CUDA=ON");
#endif
}
template <class F>
void for_rows_with_scratch(Device device, Index rows, Index bytes, const F& f, Index row_cost) {
  if (device.kind == Device::Kind::cpu) host_rows_with_scratch(rows, bytes, f, row_cost);
  else device_rows_with_scratch(device, rows, bytes, f);
}

}  // namespace M3I_ABI
}  // namespace m3i
