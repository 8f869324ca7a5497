#pragma once
/// GPU body of conv3d: cuDNN 9. Used with M3I_CUDA=1 and M3I_CUDNN=1; otherwise it has no case and the caller goes on
/// with its own.
///
/// Each function returns false when cuDNN has no deterministic algorithm for the case within the workspace cap; results
/// are then untouched.

#include "m3i/kernels/conv3d_direct.hpp"
#include "m3i/kernels/gemm.hpp"

#if M3I_CUDA && M3I_CUDNN
#include <cudnn.h>

#include <map>

#if CUDNN_MAJOR < 9
#error "m3i: cuDNN 9 or newer needed; point M3I_CUDNN_LIBRARY at one, or leave it empty to do without"
#endif

namespace m3i {
inline namespace M3I_ABI {

/// Throws DeviceError with cuDNN's own words.
inline void check_cudnn(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) [[unlikely]]
    fail<DeviceError>(what, ": cuDNN says \"", cudnnGetErrorString(status), "\"");
}

namespace detail {

/// The most memory that one convolution may use beside its operands.
inline constexpr std::size_t cudnn_workspace_cap = std::size_t(1) << 30;

/// Versions that are known to compute a case wrongly or to fail in it.
/// 9.8 to 9.12: 3-D convolutions of bf16, channels last.
template <class T>
bool cudnn_denied() {
  const std::size_t version = cudnnGetVersion();
  return std::is_same_v<T, bf16> && version >= 90800 && version < 91300;
}

/// A cuDNN object that is destroyed with its scope.
template <class Object, cudnnStatus_t (*create)(Object*), cudnnStatus_t (*destroy)(Object)>
class CudnnObject {
 public:
  CudnnObject() { check_cudnn(create(&object_), "conv3d"); }
  ~CudnnObject() { destroy(object_); }
  CudnnObject(const CudnnObject&) = delete;
  CudnnObject& operator=(const CudnnObject&) = delete;
  operator Object() const { return object_; }

 private:
  Object object_ = nullptr;
};
using CudnnHandle = CudnnObject<cudnnHandle_t, cudnnCreate, cudnnDestroy>;
using CudnnTensor = CudnnObject<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;
using CudnnFilter = CudnnObject<cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor>;
using CudnnConvolution =
    CudnnObject<cudnnConvolutionDescriptor_t, cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor>;

/// The calling thread's handle for a device, which must be current, set to the current stream.
inline cudnnHandle_t cudnn_handle(Device device) {
  static thread_local std::map<int, CudnnHandle> handles;
  const cudnnHandle_t handle = handles[device.number];
  check_cudnn(cudnnSetStream(handle, current_stream()), "conv3d");
  return handle;
}

template <class T>
constexpr cudnnDataType_t cudnn_type() {
  if constexpr (std::is_same_v<T, double>) return CUDNN_DATA_DOUBLE;
  else if constexpr (std::is_same_v<T, float>) return CUDNN_DATA_FLOAT;
  else if constexpr (std::is_same_v<T, half>) return CUDNN_DATA_HALF;
  else return CUDNN_DATA_BFLOAT16;
}

/// cuDNN's description of one convolution.
template <class T>
struct CudnnCase {
  CudnnTensor x, y;
  CudnnFilter w;
  CudnnConvolution convolution;
  bool supported = false;

  explicit CudnnCase(const Conv3dGeometry& g) {
    const auto fits = [](Index e) { return e <= std::numeric_limits<int>::max(); };
    if (cudnn_denied<T>() || !fits(g.batch * g.in_voxels() * g.in_channels) ||
        !fits(g.batch * g.out_voxels() * g.out_channels) || !fits(g.out_channels * g.taps() * g.group_in()))
      return;
    const int kernel[5] = {int(g.out_channels), int(g.group_in()), int(g.kernel[0]), int(g.kernel[1]),
                           int(g.kernel[2])};
    int padding[3], stride[3], dilation[3];
    for (int a = 0; a < 3; ++a) {
      padding[a] = int(g.padding[a]);
      stride[a] = int(g.stride[a]);
      dilation[a] = int(g.dilation[a]);
    }
    using A = accumulate_t<T>;
    const cudnnMathType_t math = is_small_float<T>                            ? CUDNN_TENSOR_OP_MATH
                                 : std::is_same_v<T, float> && tf32_allowed() ? CUDNN_DEFAULT_MATH
                                                                              : CUDNN_FMA_MATH;
    supported = channels_last(x, g.batch, g.in_channels, g.in) && channels_last(y, g.batch, g.out_channels, g.out) &&
                known(cudnnSetFilterNdDescriptor(w, cudnn_type<T>(), CUDNN_TENSOR_NHWC, 5, kernel)) &&
                known(cudnnSetConvolutionNdDescriptor(convolution, 3, padding, stride, dilation,
                                                      CUDNN_CROSS_CORRELATION, cudnn_type<A>())) &&
                known(cudnnSetConvolutionGroupCount(convolution, int(g.groups))) &&
                known(cudnnSetConvolutionMathType(convolution, math));
  }

  /// Whether cuDNN knows the case; throws for failures of another kind.
  static bool known(cudnnStatus_t status) {
    if (status == CUDNN_STATUS_SUCCESS) return true;
    const int category = CUDNN_STATUS_CATEGORY(int(status));
    if (category != int(CUDNN_STATUS_NOT_SUPPORTED) && category != int(CUDNN_STATUS_BAD_PARAM))
      check_cudnn(status, "conv3d");
    return false;
  }

 private:
  static bool channels_last(const CudnnTensor& tensor, Index batch, Index channels, const Index (&extent)[3]) {
    const int n = int(batch), c = int(channels), d = int(extent[0]), h = int(extent[1]), w = int(extent[2]);
    const int sizes[5] = {n, c, d, h, w}, strides[5] = {d * h * w * c, 1, h * w * c, w * c, c};
    return known(cudnnSetTensorNdDescriptor(tensor, cudnn_type<T>(), 5, sizes, strides));
  }
};

/// Asks for algorithms, best first, and runs the first that is deterministic, fits and works.
template <class T, class Perf, class Find, class Run>
bool cudnn_run(Device device, const Find& find, const Run& run) {
  constexpr int most = 8;
  Perf choices[most];
  int count = 0;
  if (!CudnnCase<T>::known(find(most, &count, choices))) return false;
  for (int i = 0; i < count; ++i) {
    const Perf& choice = choices[i];
    if (choice.status != CUDNN_STATUS_SUCCESS || choice.determinism != CUDNN_DETERMINISTIC ||
        choice.memory > cudnn_workspace_cap)
      continue;
    const Tensor<std::uint8_t> workspace({Index(choice.memory)}, device);
    if (CudnnCase<T>::known(run(choice.algo, workspace.data(), choice.memory))) return true;
  }
  return false;
}

template <class T>
bool conv3d_cudnn_forward(Device device, const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  if (device.kind != Device::Kind::cuda) return false;
  DeviceGuard guard(device);
  const CudnnCase<T> c(g);
  if (!c.supported) return false;
  const cudnnHandle_t handle = cudnn_handle(device);
  const accumulate_t<T> one = 1, zero = 0;
  const bool done = cudnn_run<T, cudnnConvolutionFwdAlgoPerf_t>(
      device,
      [&](int most, int* count, cudnnConvolutionFwdAlgoPerf_t* choices) {
        return cudnnGetConvolutionForwardAlgorithm_v7(handle, c.x, c.w, c.convolution, c.y, most, count, choices);
      },
      [&](cudnnConvolutionFwdAlgo_t algorithm, void* workspace, std::size_t bytes) {
        return cudnnConvolutionForward(handle, &one, c.x, x, c.w, w, c.convolution, algorithm, workspace, bytes, &zero,
                                       c.y, y);
      });
  const Index voxels = g.batch * g.out_voxels(), channels = g.out_channels;
  if (done && bias)
    for_each(device, voxels * channels, AddBiasRows<T>{y, bias, voxels, channels, channels, 0, accumulate_t<T>(1)});
  return done;
}

template <class T>
bool conv3d_cudnn_input_grad(Device device, const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  if (device.kind != Device::Kind::cuda) return false;
  DeviceGuard guard(device);
  const CudnnCase<T> c(g);
  if (!c.supported) return false;
  const cudnnHandle_t handle = cudnn_handle(device);
  const accumulate_t<T> one = 1;
  return cudnn_run<T, cudnnConvolutionBwdDataAlgoPerf_t>(
      device,
      [&](int most, int* count, cudnnConvolutionBwdDataAlgoPerf_t* choices) {
        return cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, c.w, c.y, c.convolution, c.x, most, count, choices);
      },
      [&](cudnnConvolutionBwdDataAlgo_t algorithm, void* workspace, std::size_t bytes) {
        return cudnnConvolutionBackwardData(handle, &one, c.w, w, c.y, dy, c.convolution, algorithm, workspace, bytes,
                                            &one, c.x, dx);
      });
}

template <class T>
bool conv3d_cudnn_weight_grad(Device device, const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  if (device.kind != Device::Kind::cuda) return false;
  DeviceGuard guard(device);
  const CudnnCase<T> c(g);
  if (!c.supported) return false;
  const cudnnHandle_t handle = cudnn_handle(device);
  const accumulate_t<T> one = 1;
  return cudnn_run<T, cudnnConvolutionBwdFilterAlgoPerf_t>(
      device,
      [&](int most, int* count, cudnnConvolutionBwdFilterAlgoPerf_t* choices) {
        return cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, c.x, c.y, c.convolution, c.w, most, count,
                                                             choices);
      },
      [&](cudnnConvolutionBwdFilterAlgo_t algorithm, void* workspace, std::size_t bytes) {
        return cudnnConvolutionBackwardFilter(handle, &one, c.x, x, c.y, dy, c.convolution, algorithm, workspace, bytes,
                                              &one, c.w, dw);
      });
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i

#else

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

template <class T>
bool conv3d_cudnn_forward(Device, const Conv3dGeometry&, const T*, const T*, const T*, T*) {
  return false;
}
template <class T>
bool conv3d_cudnn_input_grad(Device, const Conv3dGeometry&, const T*, const T*, T*) {
  return false;
}
template <class T>
bool conv3d_cudnn_weight_grad(Device, const Conv3dGeometry&, const T*, const T*, T*) {
  return false;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
#endif
