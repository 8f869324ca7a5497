#pragma once
/// CUDA status checks and the stream in use. Empty unless M3I_CUDA.

#include "m3i/core/device.hpp"

#if M3I_CUDA
#include <cuda_runtime.h>

namespace m3i {
inline namespace M3I_ABI {

/// Throws DeviceError with CUDA's own words.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) [[unlikely]]
    fail<DeviceError>(what, ": CUDA says \"", cudaGetErrorString(status), "\"");
}

/// All work of a thread goes to one stream, so that a freed block may be reused at once. Set it to capture graphs or
/// to share the device with other code; the default is CUDA's per-process default stream.
inline cudaStream_t& current_stream() {
  static thread_local cudaStream_t stream = nullptr;
  return stream;
}

/// Makes a device current for a scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(Device device) {
    check_cuda(cudaGetDevice(&before_), "device");
    if (device.number != before_) check_cuda(cudaSetDevice(device.number), "device");
  }
  ~DeviceGuard() { cudaSetDevice(before_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
#endif

namespace m3i {
inline namespace M3I_ABI {

/// GPUs that this build can use: 0 without CUDA, without a driver, or without a device.
inline int cuda_device_count() {
#if M3I_CUDA
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
#else
  return 0;
#endif
}

/// Waits until the device has done all it was given. Nothing to do on the host.
inline void synchronize([[maybe_unused]] Device device) {
#if M3I_CUDA
  if (device.on_host()) return;
  DeviceGuard guard(device);
  check_cuda(cudaStreamSynchronize(current_stream()), "synchronize");
#endif
}

}  // namespace M3I_ABI
}  // namespace m3i
