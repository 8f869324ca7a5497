#pragma once
/// Batches go to a GPU while it computes: through pinned memory, on a stream of their own.

#include <array>
#include <optional>

#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Hands host tensors to a device one after the other, into two buffers that take turns: what it returns may be used in
/// work that is given before the next call. On the host it returns its argument.
///
/// A copy from ordinary memory goes through a small buffer of the driver, and the caller waits for it; from pinned
/// memory the GPU reads by itself. The copy waits only for work that was given before the previous call, which read the
/// same buffer, and so overlaps with what was given since.
template <class T>
class Uploader {
 public:
  Tensor<T> operator()(const Tensor<T>& from, Device device) {
    if (device.on_host() || from.size() == 0) return from.to(device);
#if M3I_CUDA
    DeviceGuard guard(device);
    if (!lanes_ || lanes_->device != device) lanes_.emplace(device);
    return lanes_->copy(from);
#else
    fail<DeviceError>("upload: ", device, " needs a build with M3I_CUDA=ON");
#endif
  }

 private:
#if M3I_CUDA
  struct Lane {
    explicit Lane(Device device) : copied(device), given(device) {}
    std::optional<PinnedMemory> host;
    Tensor<T> there;
    CudaEvent copied, given;  // the copy is done; all work that was given before this lane's turn
  };
  struct Lanes {
    explicit Lanes(Device d) : device(d), stream(d), lane{Lane(d), Lane(d)} {}
    ~Lanes() { cudaStreamSynchronize(stream); }

    Tensor<T> copy(const Tensor<T>& from) {
      Lane &now = lane[turn], &before = lane[1 - turn];
      turn = 1 - turn;
      now.copied.wait();  // its pinned memory is free
      if (!now.host || now.host->bytes() < from.bytes()) now.host.emplace(std::max<std::size_t>(1, from.bytes()));
      std::memcpy(now.host->data(), from.data(), from.bytes());
      if (now.there.shape() != from.shape()) {
        synchronize(device);  // the pool may hand out memory that is still in use in the current stream alone
        now.there = Tensor<T>(from.shape(), device);
      }
      // Whatever reads this lane's tensor was given before the other lane's turn.
      before.given.wait_in(stream);
      now.given.record(current_stream());
      check_cuda(cudaMemcpyAsync(now.there.data(), now.host->data(), from.bytes(), cudaMemcpyHostToDevice, stream),
                 "upload");
      now.copied.record(stream);
      now.copied.wait_in(current_stream());
      return now.there;
    }

    Device device;
    CudaStream stream;
    std::array<Lane, 2> lane;
    std::size_t turn = 0;
  };
  std::optional<Lanes> lanes_;
#endif
};

}  // namespace M3I_ABI
}  // namespace m3i
