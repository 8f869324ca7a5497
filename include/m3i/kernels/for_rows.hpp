#pragma once
/// for_rows(device, rows, f): f(team, row) for each row, one team a row.

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

#if M3I_CUDA
template <class F>
__global__ void for_rows_kernel(Index rows, F f) {
  for (Index row = blockIdx.x; row < rows; row += gridDim.x) {
    f(CudaTeam<>{}, row);
    __syncthreads();  // a block's next row must not overwrite what slower threads still read
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
    for (Index row = rows - 1; row >= 0; --row) f(EmulatedTeam<>{}, row);
  } else {
#if M3I_CUDA
    DeviceGuard guard(device);
    const Index blocks = std::min<Index>(rows, 1 << 20);
    detail::for_rows_kernel<<<unsigned(blocks), team_width, 0, current_stream()>>>(rows, f);
    check_cuda(cudaGetLastError(), "for_rows");
#else
    fail<DeviceError>("for_rows: ", device, " needs a build with M3I_CUDA=ON");
#endif
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
