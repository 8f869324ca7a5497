#pragma once
/// A team works on one row. Its phases each, cells, max and sum end with a barrier, and inside one a lambda touches
/// only what belongs to element i, or to cell (r, c) of a small block. HostTeam is one thread with vector instructions,
/// CudaTeam a block of GPU threads, CudaWarp a warp of it, EmulatedTeam walks either in host memory: the threads of a
/// phase in reverse, folds in the GPU's order.

#include <cstdint>
#include <limits>
#include <type_traits>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Threads of an emulated or GPU block.
inline constexpr int team_width = 256;

struct HostTeam {
  template <class F>
  M3I_HD void each(Index n, F f) const {
    M3I_SIMD
    for (Index i = 0; i < n; ++i) f(i);
  }
  template <class F>
  M3I_HD void cells(Index rows, Index cols, F f) const {
    for (Index r = 0; r < rows; ++r) each(cols, [=](Index c) { f(r, c); });
  }
  template <class F>
  M3I_HD auto sum(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    A total = 0;
    M3I_SIMD_REDUCE(+, total)
    for (Index i = 0; i < n; ++i) total += f(i);
    return total;
  }
  template <class F>
  M3I_HD auto max(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    A top = -std::numeric_limits<A>::infinity();
    M3I_SIMD_REDUCE(max, top)
    for (Index i = 0; i < n; ++i) {
      const A v = f(i);
      top = top > v ? top : v;
    }
    return top;
  }
};

namespace detail {
struct Plus {
  template <class A>
  M3I_HD A operator()(A a, A b) const {
    return a + b;
  }
};
struct Larger {
  template <class A>
  M3I_HD A operator()(A a, A b) const {
    return a > b ? a : b;
  }
};
}  // namespace detail

struct EmulatedTeam {
  int width = team_width;

  template <class F>
  M3I_HD void each(Index n, F f) const {
    for (int thread = width - 1; thread >= 0; --thread)
      for (Index i = thread; i < n; i += width) f(i);
  }
  template <class F>
  M3I_HD void cells(Index rows, Index cols, F f) const {
    each(rows * cols, [=](Index i) { f(i / cols, i % cols); });
  }
  template <class F>
  M3I_HD auto sum(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    return fold(n, f, A(0), detail::Plus{});
  }
  template <class F>
  M3I_HD auto max(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    return fold(n, f, -std::numeric_limits<A>::infinity(), detail::Larger{});
  }

 private:
  template <class F, class A, class Combine>
  M3I_HD A fold(Index n, F f, A neutral, Combine combine) const {
    A partial[team_width];
    for (int thread = width - 1; thread >= 0; --thread) {
      A own = neutral;
      for (Index i = thread; i < n; i += width) own = combine(own, A(f(i)));
      partial[thread] = own;
    }
    for (int reach = 16; reach > 0; reach /= 2)  // within warps
      for (int lane = 0; lane < width; ++lane)
        if (lane % 32 < reach) partial[lane] = combine(partial[lane], partial[lane + reach]);
    for (int reach = width / 64; reach > 0; reach /= 2)  // across warps
      for (int warp = 0; warp < reach; ++warp)
        partial[32 * warp] = combine(partial[32 * warp], partial[32 * (warp + reach)]);
    return partial[0];
  }
};

#if M3I_CUDA
template <int W = team_width>
struct CudaTeam {
  template <class F>
  __device__ void each(Index n, F f) const {
    for (Index i = threadIdx.x; i < n; i += W) f(i);
    __syncthreads();
  }
  /// A thread finds its first cell by a division, and the others from that.
  template <class F>
  __device__ void cells(Index rows, Index cols, F f) const {
    const auto across = std::uint32_t(cols), n = std::uint32_t(rows) * across;
    if (threadIdx.x < n) {
      const std::uint32_t down = W / across, right = W % across;
      std::uint32_t r = threadIdx.x / across, c = threadIdx.x % across;
      for (std::uint32_t i = threadIdx.x; i < n; i += W) {
        f(Index(r), Index(c));
        r += down, c += right;
        if (c >= across) ++r, c -= across;
      }
    }
    __syncthreads();
  }
  template <class F>
  __device__ auto sum(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    return fold(n, f, A(0), detail::Plus{});
  }
  template <class F>
  __device__ auto max(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    return fold(n, f, -std::numeric_limits<A>::infinity(), detail::Larger{});
  }

 private:
  template <class F, class A, class Combine>
  static __device__ A fold(Index n, F f, A neutral, Combine combine) {
    __shared__ A warps[W / 32];
    A own = neutral;
    for (Index i = threadIdx.x; i < n; i += W) own = combine(own, A(f(i)));
    for (int reach = 16; reach > 0; reach /= 2) own = combine(own, __shfl_down_sync(0xffffffffu, own, reach));
    __syncthreads();  // the previous fold's result has been read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
    __syncthreads();
    for (int reach = W / 64; reach > 0; reach /= 2) {
      if (int(threadIdx.x) < reach)
        warps[threadIdx.x] = combine(warps[threadIdx.x], warps[threadIdx.x + unsigned(reach)]);
      __syncthreads();
    }
    return warps[0];
  }
};

/// One warp of a block, for short rows. Beside it others work on rows of their own.
struct CudaWarp {
  template <class F>
  __device__ void each(Index n, F f) const {
    for (Index i = threadIdx.x % 32; i < n; i += 32) f(i);
    __syncwarp();
  }
  template <class F>
  __device__ void cells(Index rows, Index cols, F f) const {
    each(rows * cols, [=](Index i) { f(i / cols, i % cols); });
  }
  template <class F>
  __device__ auto sum(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    return fold(n, f, A(0), detail::Plus{});
  }
  template <class F>
  __device__ auto max(Index n, F f) const {
    using A = std::decay_t<decltype(f(Index(0)))>;
    return fold(n, f, -std::numeric_limits<A>::infinity(), detail::Larger{});
  }

 private:
  template <class F, class A, class Combine>
  static __device__ A fold(Index n, F f, A neutral, Combine combine) {
    A own = neutral;
    for (Index i = threadIdx.x % 32; i < n; i += 32) own = combine(own, A(f(i)));
    __syncwarp();  // what f wrote may be read; a shuffle alone does not promise it
    for (int reach = 16; reach > 0; reach /= 2) own = combine(own, __shfl_down_sync(0xffffffffu, own, reach));
    return __shfl_sync(0xffffffffu, own, 0);
  }
};

/// A block whose scratch is too large for shared memory.
struct CudaFarTeam : CudaTeam<> {};
#endif

}  // namespace M3I_ABI
}  // namespace m3i
