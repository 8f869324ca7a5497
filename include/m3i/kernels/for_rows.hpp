#pragma once
/// for_rows(device, rows, f): f(team, row) for each row, one team a row. On a GPU that is a block of threads, or a warp
/// where rows are short and many (voxels with their channels or classes): most of a block would wait.

#include "m3i/core/cuda.hpp"
#include "m3i/core/parallel.hpp"
#include "m3i/kernels/team.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

template <class F>
[[gnu::flatten]] void host_rows(Index begin, Index end, F f) {
  for (Index row = begin; row < end; ++row) f(HostTeam{}, row);
}

/// Whether a GPU's teams are warps.
inline bool rows_for_warps(Index rows, Index row_cost) { return rows >= 4096 && row_cost <= 1024; }

#if M3I_CUDA
template <bool warps, class F>
__global__ void for_rows_kernel(Index rows, F f) {
  constexpr int teams = warps ? team_width / 32 : 1;  // of a block
  for (Index row = Index(blockIdx.x) * teams + (warps ? threadIdx.x / 32 : 0); row < rows;
       row += Index(gridDim.x) * teams) {
    if constexpr (warps) f(CudaWarp{}, row), __syncwarp();
    else f(CudaTeam<>{}, row), __syncthreads();  // the next row must not overwrite what slower threads still read
  }
}
#endif

}  // namespace detail

/// `row_cost` is roughly the elements that a row touches; rows are shared out in groups of about 16 Ki elements.
template <class F>
void for_rows(Device device, Index rows, const F& f, Index row_cost = 512) {
  if (rows <= 0) return;
  if (device.kind == Device::Kind::cpu) {
    const Index grain = std::max<Index>(1, 16384 / std::max<Index>(1, row_cost));
    parallel_chunks(rows, grain, [&](Index begin, Index end) { detail::host_rows(begin, end, f); });
  } else if (device.kind == Device::Kind::emulated) {
    const EmulatedTeam team{detail::rows_for_warps(rows, row_cost) ? 32 : team_width};
    for (Index row = rows - 1; row >= 0; --row) f(team, row);
  } else {
#if M3I_CUDA
    DeviceGuard guard(device);
    const bool warps = detail::rows_for_warps(rows, row_cost);
    const auto kernel = warps ? detail::for_rows_kernel<true, F> : detail::for_rows_kernel<false, F>;
    const Index teams = warps ? team_width / 32 : 1, blocks = std::min<Index>((rows + teams - 1) / teams, 1 << 20);
    kernel<<<unsigned(blocks), team_width, 0, current_stream()>>>(rows, f);
    check_cuda(cudaGetLastError(), "for_rows");
#else
    fail<DeviceError>("for_rows: ", device, " needs a build with M3I_CUDA=ON");
#endif
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
