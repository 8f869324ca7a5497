#pragma once
/// for_each(device, n, f): f(i) for i in [0, n), in any order.

#include "m3i/core/cuda.hpp"
#include "m3i/core/parallel.hpp"
#include "m3i/kernels/team.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Elements a host thread takes at once: large enough to hide the hand-over, small enough to share out.
inline constexpr Index for_each_grain = 16384;

// By value: stores through the functor's pointers then cannot alias its members, and the loop vectorises. Flattened:
// in large sources g++ else leaves calls in the loop, which then does not.
template <class F>
[[gnu::flatten]] void simd_range(Index begin, Index end, F f) {
  M3I_SIMD
  for (Index i = begin; i < end; ++i) f(i);
}

#if M3I_CUDA
template <class F>
__global__ void for_each_kernel(Index n, F f) {
  const Index step = Index(gridDim.x) * blockDim.x;
  for (Index i = Index(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}
#endif

}  // namespace detail

template <class F>
void for_each(Device device, Index n, const F& f) {
  if (n <= 0) return;
  if (device.kind == Device::Kind::cpu) {
    parallel_chunks(n, detail::for_each_grain, [&](Index begin, Index end) { detail::simd_range(begin, end, f); });
  } else if (device.kind == Device::Kind::emulated) {
    for (Index block = (n - 1) / team_width; block >= 0; --block)
      for (Index thread = team_width - 1; thread >= 0; --thread)
        if (const Index i = block * team_width + thread; i < n) f(i);
  } else {
#if M3I_CUDA
    DeviceGuard guard(device);
    const Index blocks = std::min<Index>((n + team_width - 1) / team_width, 1 << 16);
    detail::for_each_kernel<<<unsigned(blocks), team_width, 0, current_stream()>>>(n, f);
    check_cuda(cudaGetLastError(), "for_each");
#else
    fail<DeviceError>("for_each: ", device, " needs a build with M3I_CUDA=ON");
#endif
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
