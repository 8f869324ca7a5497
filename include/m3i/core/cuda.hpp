#pragma once
/// CUDA status checks and the stream in use. Empty unless M3I_CUDA.

#include "m3i/core/device.hpp"
#include "m3i/core/operation.hpp"

#if M3I_CUDA
#include <cuda_runtime.h>

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
/// Throws DeviceError: the running operation with its shapes, the device, the call, and the library's own words.
[[noreturn, gnu::cold]] inline void fail_on_device(const char* what, const char* library, const char* words) {
  cudaGetLastError();  // else the next launch would report it again
  int device = -1;
  const bool known = cudaGetDevice(&device) == cudaSuccess;
  fail<DeviceError>(running_operation(), what, known ? m3i::text(" on ", Device::cuda(device)) : std::string(), ": ",
                    library, " says \"", words, "\"");
}
}  // namespace detail

/// Throws DeviceError unless the call `what` succeeded. A kernel that fails while it runs is met by a later call.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) [[unlikely]]
    detail::fail_on_device(what, "CUDA", cudaGetErrorString(status));
}

/// All work of a thread goes to one stream, so that a freed block may be reused at once. Set it to capture graphs or
/// to share the device with other code; the default is CUDA's per-process default stream.
inline cudaStream_t& current_stream() {
  static thread_local cudaStream_t stream = nullptr;
  return stream;
}

/// Whether the current stream notes its work for a CUDA graph instead of doing it.
inline bool stream_is_capturing() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (!current_stream()) return false;  // the default stream never is
  check_cuda(cudaStreamIsCapturing(current_stream(), &status), "stream");
  return status != cudaStreamCaptureStatusNone;
}

/// Host memory that a GPU reads and writes by itself.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes) : bytes_(bytes) {
    check_cuda(cudaMallocHost(&block_, bytes), "pinned memory");
  }
  ~PinnedMemory() { cudaFreeHost(block_); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  void* data() const { return block_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* block_ = nullptr;
  std::size_t bytes_;
};

/// A stream that does not wait for the default stream, on a device, which is current while it is made.
class CudaStream {
 public:
  explicit CudaStream(Device device);
  ~CudaStream() {
    cudaStreamSynchronize(stream_);  // its work may use memory that is given back next
    cudaStreamDestroy(stream_);
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// A mark in a stream that others can wait for.
class CudaEvent {
 public:
  explicit CudaEvent(Device device);
  ~CudaEvent() { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void record(cudaStream_t stream) const { check_cuda(cudaEventRecord(event_, stream), "event"); }
  void wait() const { check_cuda(cudaEventSynchronize(event_), "event"); }
  void wait_in(cudaStream_t stream) const { check_cuda(cudaStreamWaitEvent(stream, event_, 0), "event"); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Makes a device current for a scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(Device device) : now_(device.number) {
    check_cuda(cudaGetDevice(&before_), "device");
    if (now_ != before_) check_cuda(cudaSetDevice(now_), "device");
  }
  ~DeviceGuard() {
    if (now_ != before_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0, now_;
};

inline CudaStream::CudaStream(Device device) {
  DeviceGuard guard(device);
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
}
inline CudaEvent::CudaEvent(Device device) {
  DeviceGuard guard(device);
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "event");
}

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

/// Makes a GPU the one that this thread's guards go back to. Else that is the first of the machine, where each process
/// would then keep some hundred MiB. Nothing to do on the host.
inline void use_device([[maybe_unused]] Device device) {
#if M3I_CUDA
  if (!device.on_host()) check_cuda(cudaSetDevice(device.number), "device");
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
