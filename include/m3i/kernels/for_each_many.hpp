#pragma once
/// for_each over many tensors at once: f(row, i) for i in [0, row.n) of every row of a table, in any order.
///
/// A network has hundreds of parameters, most of them small. One launch for all of them saves the GPU hundreds of
/// launches, and the host as many hand-overs to its threads. What differs between tensors (pointers, sizes) is a row of
/// the table; what changes from call to call (a learning rate) is in f.

#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Elements [begin, end) of one row: what a host thread or a GPU block takes at once.
struct ManyChunk {
  Index row, begin, end;
};

template <class Row, class F>
[[gnu::flatten]] void simd_chunk(ManyChunk chunk, Row row, F f) {  // by value, as simd_range
  M3I_SIMD
  for (Index i = chunk.begin; i < chunk.end; ++i) f(row, i);
}

#if M3I_CUDA
template <class Row, class F>
__global__ void for_each_many_kernel(const ManyChunk* chunks, const Row* rows, F f) {
  const ManyChunk chunk = chunks[blockIdx.x];
  const Row row = rows[chunk.row];
  for (Index i = chunk.begin + threadIdx.x; i < chunk.end; i += blockDim.x) f(row, i);
}
#endif

}  // namespace detail

/// Rows and their chunks, on the device that is to read them. A Row is plain data with a size `n` and operator==.
template <class Row>
class ManyTable {
 public:
  ManyTable() = default;
  ManyTable(Device device, const std::vector<Row>& rows) { assign(device, rows); }

  /// Copies to the device only if a row has changed: in a training loop the pool gives the same pointers every step.
  void assign(Device device, const std::vector<Row>& rows) {
    if (device == device_ && rows == rows_) return;
    device_ = device;
    rows_ = rows;
    chunks_.clear();
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (Index begin = 0; begin < rows[r].n; begin += detail::for_each_grain)
        chunks_.push_back({Index(r), begin, std::min(rows[r].n, begin + detail::for_each_grain)});
#if M3I_CUDA
    if (device.on_host()) return;
    rows_there_ = Tensor<Row>::from(std::span<const Row>(rows_), {Index(rows_.size())}, device);
    chunks_there_ =
        Tensor<detail::ManyChunk>::from(std::span<const detail::ManyChunk>(chunks_), {Index(chunks_.size())}, device);
#endif
  }

  template <class F>
  void for_each(const F& f) const {
    const Index count = Index(chunks_.size());
    if (count == 0) return;
    if (device_.kind == Device::Kind::cpu) {
      parallel_for(count, [&](Index c) {
        const detail::ManyChunk& chunk = chunks_[std::size_t(c)];
        detail::simd_chunk(chunk, rows_[std::size_t(chunk.row)], f);
      });
    } else if (device_.kind == Device::Kind::emulated) {
      for (Index c = count - 1; c >= 0; --c) {
        const detail::ManyChunk& chunk = chunks_[std::size_t(c)];
        for (Index thread = team_width - 1; thread >= 0; --thread)
          for (Index i = chunk.begin + thread; i < chunk.end; i += team_width) f(rows_[std::size_t(chunk.row)], i);
      }
    } else {
#if M3I_CUDA
      DeviceGuard guard(device_);
      detail::for_each_many_kernel<<<unsigned(count), team_width, 0, current_stream()>>>(chunks_there_.data(),
                                                                                         rows_there_.data(), f);
      check_cuda(cudaGetLastError(), "for_each_many");
#else
      fail<DeviceError>("for_each_many: ", device_, " needs a build with M3I_CUDA=ON");
#endif
    }
  }

 private:
  Device device_;
  std::vector<Row> rows_;
  std::vector<detail::ManyChunk> chunks_;
#if M3I_CUDA
  Tensor<Row> rows_there_;  // the same in the GPU's memory
  Tensor<detail::ManyChunk> chunks_there_;
#endif
};

/// One call for a table that is not kept.
template <class Row, class F>
void for_each_many(Device device, const std::vector<Row>& rows, const F& f) {
  ManyTable<Row>(device, rows).for_each(f);
}

}  // namespace M3I_ABI
}  // namespace m3i
