#pragma once
/// What every use of cuDNN shares: status checks, handles, descriptors of the graph interface. Empty unless M3I_CUDA
/// and M3I_CUDNN.

#include "m3i/core/cuda.hpp"
#include "m3i/core/dtype.hpp"

#if M3I_CUDA && M3I_CUDNN
#include <cudnn.h>

#include <algorithm>
#include <map>
#include <utility>

#if CUDNN_MAJOR < 9
#error "m3i: cuDNN 9 or newer needed; point M3I_CUDNN_LIBRARY at one, or leave it empty to do without"
#endif

namespace m3i {
inline namespace M3I_ABI {

/// Throws DeviceError with cuDNN's own words.
inline void check_cudnn(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) [[unlikely]]
    detail::fail_on_device(what, "cuDNN", cudnnGetErrorString(status));
}

namespace detail {

/// Whether cuDNN knows the case; throws for failures of another kind.
inline bool cudnn_known(cudnnStatus_t status) {
  if (status == CUDNN_STATUS_SUCCESS) return true;
  const int category = CUDNN_STATUS_CATEGORY(int(status));
  if (category != int(CUDNN_STATUS_NOT_SUPPORTED) && category != int(CUDNN_STATUS_BAD_PARAM))
    check_cudnn(status, "conv3d");
  return false;
}

class CudnnHandle {
 public:
  CudnnHandle() { check_cudnn(cudnnCreate(&handle_), "conv3d"); }
  ~CudnnHandle() { cudnnDestroy(handle_); }
  CudnnHandle(const CudnnHandle&) = delete;
  CudnnHandle& operator=(const CudnnHandle&) = delete;
  operator cudnnHandle_t() const { return handle_; }

 private:
  cudnnHandle_t handle_ = nullptr;
};

/// The calling thread's handle for a device, which must be current, set to the current stream.
inline cudnnHandle_t cudnn_handle(Device device) {
  static thread_local std::map<int, CudnnHandle> handles;
  const cudnnHandle_t handle = handles[device.number];
  check_cudnn(cudnnSetStream(handle, current_stream()), "conv3d");
  return handle;
}

/// A descriptor of the graph interface: attributes are set, then it is finalised, then read.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type) {
    check_cudnn(cudnnBackendCreateDescriptor(type, &descriptor_), "conv3d");
  }
  ~CudnnDescriptor() {
    if (descriptor_) cudnnBackendDestroyDescriptor(descriptor_);
  }
  CudnnDescriptor(CudnnDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, nullptr)) {}
  CudnnDescriptor& operator=(CudnnDescriptor&&) = delete;

  cudnnBackendDescriptor_t get() const { return descriptor_; }
  template <class Value>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const Value& value) {
    check_cudnn(cudnnBackendSetAttribute(descriptor_, name, type, 1, &value), "conv3d");
  }
  template <std::size_t n>
  void set(cudnnBackendAttributeName_t name, const std::int64_t (&values)[n]) {
    check_cudnn(cudnnBackendSetAttribute(descriptor_, name, CUDNN_TYPE_INT64, n, values), "conv3d");
  }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& other) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, other.get());
  }
  /// False when cuDNN has no such thing.
  bool finalize() const { return cudnn_known(cudnnBackendFinalize(descriptor_)); }
  /// Up to `most` values; how many there are.
  template <class Value>
  Index read(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, Index most, Value* values) const {
    std::int64_t count = 0;
    check_cudnn(cudnnBackendGetAttribute(descriptor_, name, type, most, &count, values), "conv3d");
    return std::min<Index>(count, most);
  }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

template <class T>
constexpr cudnnDataType_t cudnn_type() {
  if constexpr (std::is_same_v<T, double>) return CUDNN_DATA_DOUBLE;
  else if constexpr (std::is_same_v<T, float>) return CUDNN_DATA_FLOAT;
  else if constexpr (std::is_same_v<T, half>) return CUDNN_DATA_HALF;
  else return CUDNN_DATA_BFLOAT16;
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
#endif
