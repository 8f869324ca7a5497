#pragma once
/// Sums of GPU tensors by NCCL, one process a GPU. Empty unless M3I_CUDA and M3I_NCCL, which CMake sets when it finds
/// NCCL. Everything else goes through another communicator, which started the ranks: forked, or MPI.

#ifndef M3I_NCCL
#define M3I_NCCL 0
#endif

#if M3I_CUDA && M3I_NCCL
#include <exception>
#include <string_view>

#include <nccl.h>

#include "m3i/core/cuda.hpp"
#include "m3i/dist/communicator.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The ranks of `host`, which must outlive it, with ncclAllReduce on the current stream for tensors on `device`. No
/// two ranks of one machine may have the same GPU. The order of NCCL's sums depends on machine and version, not on the
/// run. NCCL does not see a dead rank: the comparison of calls before each sum does, in `host`.
class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& host, Device device) : host_(host), device_(device) {
    require<DeviceError>(!device.on_host(), "nccl: ", device, " is not a GPU");
    const Tensor<std::uint8_t> id(Shape{Index(sizeof(ncclUniqueId))});
    ncclUniqueId made = {};
    if (host.first()) check(ncclGetUniqueId(&made), "ncclGetUniqueId");
    std::memcpy(id.data(), &made, sizeof made);
    host.broadcast(id);
    std::memcpy(&made, id.data(), sizeof made);
    const DeviceGuard guard(device);
    check(ncclCommInitRank(&nccl_, host.size(), made, host.rank()), "ncclCommInitRank");
  }
  /// Ending waits for the other ranks. One that leaves by an exception must not: it has yet to tell them.
  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() > exceptions_) ncclCommAbort(nccl_);
    else ncclCommDestroy(nccl_);
  }
  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  const char* transport() const override { return "NCCL"; }
  void give_up(const std::string& why) override { host_.give_up(why); }
  void exchange(const std::byte* to, std::byte* from, std::size_t bytes) override { host_.exchange(to, from, bytes); }
  void collect(const std::byte* mine, std::byte* all, std::size_t bytes) override { host_.collect(mine, all, bytes); }
  void share(std::byte* data, std::size_t bytes, int root) override { host_.share(data, bytes, root); }

 protected:
  bool sum_on_device(void* x, Index n, const char* dtype, Device device) override {
    if (device != device_) return false;
    const DeviceGuard guard(device);
    check(ncclAllReduce(x, x, std::size_t(n), type_of(dtype), ncclSum, nccl_, current_stream()), "ncclAllReduce");
    return true;
  }

 private:
  static ncclDataType_t type_of(std::string_view dtype) {
    if (dtype == "f32") return ncclFloat32;
    if (dtype == "f64") return ncclFloat64;
    if (dtype == "f16") return ncclFloat16;
    if (dtype == "bf16") return ncclBfloat16;
    if (dtype == "i64") return ncclInt64;
    if (dtype == "i32") return ncclInt32;
    return ncclUint8;
  }
  static void check(ncclResult_t status, const char* call) {
    if (status != ncclSuccess) [[unlikely]]
      fail<RankError>(call, ": NCCL says \"", ncclGetErrorString(status), "\"");
  }

  Communicator& host_;
  Device device_;
  ncclComm_t nccl_ = nullptr;
  int exceptions_ = std::uncaught_exceptions();  ///< under way when it was made
};

}  // namespace M3I_ABI
}  // namespace m3i
#endif
