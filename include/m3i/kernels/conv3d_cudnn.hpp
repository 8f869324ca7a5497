#pragma once
/// GPU body of conv3d: graphs of cuDNN 9. Used with M3I_CUDA=1 and M3I_CUDNN=1; otherwise it has no case and the caller
/// goes on with its own. Forward and both gradients are one piece of code; the bias is added in the same kernel where
/// an engine can.
///
/// Each function returns false when cuDNN has no engine for the case that is deterministic, sums in float and keeps
/// within the workspace cap; results are then untouched.

#include "m3i/kernels/conv3d_direct.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/kernels/self_check_cudnn.hpp"

#if M3I_CUDA && M3I_CUDNN
#include <array>
#include <bit>

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Versions known to be wrong in silence, whatever a self-check on one case says:
/// 9.8 to 9.14, half and bf16 with kernels other than 1 (pytorch/pytorch issue 163539, pull request 166480);
/// 9.10.2 to 9.15, TF32 (pytorch/pytorch pull request 167024).
template <class T>
bool conv3d_cudnn_denied(const Conv3dGeometry& g) {
  const std::size_t version = cudnnGetVersion();
  return is_small_float<T> && g.taps() > 1 && version >= 90800 && version < 91500;
}
inline bool cudnn_tf32() {
  const std::size_t version = cudnnGetVersion();
  return tf32_allowed() && (version < 91002 || version >= 91600);
}

/// Which of the three is the result: y = x * w, or the gradient of x or w.
enum class ConvResult { y, x, w };

/// What a convolution's graph is asked to do. Alignments, in bytes, are of x, w, y (or its gradient) and the bias.
struct Conv3dTask {
  ConvResult result;
  double scale;  ///< what the result is multiplied by before the sums are added: 0 or 1
  bool bias;     ///< y = x * w + bias
  std::array<Index, 4> alignment;
};

/// One convolution in cuDNN's words: tensors x, w, y or its gradient, and the bias if there is one.
template <class T>
CudnnGraph conv3d_graph(const Conv3dTask& task, const Conv3dGeometry& g) {
  const auto sums = cudnn_type<accumulate_t<T>>();
  const auto channels_last = [](Index n, Index c, const Index(&e)[3]) -> CudnnLayout {
    return {{n, c, e[0], e[1], e[2]}, {e[0] * e[1] * e[2] * c, 1, e[1] * e[2] * c, e[2] * c, c}};
  };
  const auto& align = task.alignment;
  const CudnnLayout out = channels_last(g.batch, g.out_channels, g.out);
  CudnnGraph graph;
  const auto x = graph.memory(cudnn_type<T>(), channels_last(g.batch, g.in_channels, g.in), align[0]);
  const auto w = graph.memory(cudnn_type<T>(), channels_last(g.out_channels, g.group_in(), g.kernel), align[1]);
  const auto y = graph.memory(cudnn_type<T>(), out, align[2]);
  const auto product = task.bias ? graph.between(sums, out) : y;
  const auto movement = graph.part(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, [&](CudnnDescriptor& d) {
    d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t(3));
    d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, sums);
    d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
    d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {g.padding[0], g.padding[1], g.padding[2]});
    d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {g.padding[0], g.padding[1], g.padding[2]});
    d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {g.stride[0], g.stride[1], g.stride[2]});
    d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {g.dilation[0], g.dilation[1], g.dilation[2]});
  });
  const auto convolve = [&](cudnnBackendDescriptorType_t type, cudnnBackendAttributeName_t name_x,
                            cudnnBackendAttributeName_t name_w, cudnnBackendAttributeName_t name_y,
                            cudnnBackendAttributeName_t name_movement, cudnnBackendAttributeName_t name_alpha,
                            cudnnBackendAttributeName_t name_beta) {
    graph.step({type, 0, product, x, w}, [&](CudnnDescriptor& d) {
      d.set(name_x, x);
      d.set(name_w, w);
      d.set(name_y, product);
      d.set(name_movement, movement);
      d.set(name_alpha, CUDNN_TYPE_DOUBLE, 1.0);
      d.set(name_beta, CUDNN_TYPE_DOUBLE, task.scale);
    });
  };
  switch (task.result) {
    case ConvResult::y:
      convolve(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
      break;
    case ConvResult::x:
      convolve(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
      break;
    case ConvResult::w:
      convolve(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA);
      break;
  }
  if (task.bias) {
    const Index c = g.out_channels;
    const auto bias = graph.memory(cudnn_type<T>(), {{1, c, 1, 1, 1}, {c, 1, c, c, c}}, align[3]);
    graph.pointwise(CUDNN_POINTWISE_ADD, y, product, bias, nullptr, sums);
  }
  return graph;
}
template <class T>
std::optional<CudnnPlan> conv3d_plan(const CudnnTarget& target, const Conv3dTask& task, const Conv3dGeometry& g) {
  return cudnn_plan(target, conv3d_graph<T>(task, g), !std::is_same_v<T, float> || cudnn_tf32(), g.groups == 1);
}

/// result = scale result + what is asked for (+ bias, if not null), if cuDNN has a plan for it. Plans are kept by
/// geometry and alignment. The device must be current.
template <class T>
bool cudnn_convolve(Device device,
                    ConvResult result,
                    const Conv3dGeometry& g,
                    const T* x,
                    const T* w,
                    const T* y,
                    double scale,
                    const T* bias = nullptr) {
  using Numbers = std::array<Index, sizeof(Conv3dGeometry) / sizeof(Index)>;
  using Key = std::pair<std::array<Index, 9>, Numbers>;
  const auto largest = std::max({g.batch * g.in_voxels() * g.in_channels, g.batch * g.out_voxels() * g.out_channels,
                                 g.out_channels * g.taps() * g.group_in()});
  if (largest > std::numeric_limits<std::int32_t>::max() || conv3d_cudnn_denied<T>(g)) return false;
  const cudnnHandle_t handle = cudnn_handle(device);  // before the plans: it has to outlive them
  static thread_local CudnnPlans<Key> plans;
  const auto aligned = [](const void* p) { return Index(std::min<std::uint32_t>(16, alignment_of(p))); };
  const Conv3dTask task{result, scale, bias != nullptr, {aligned(x), aligned(w), aligned(y), aligned(bias)}};
  const auto& a = task.alignment;
  const Key key{{device.number, Index(result), Index(scale), task.bias, cudnn_tf32(), a[0], a[1], a[2], a[3]},
                std::bit_cast<Numbers>(g)};
  const CudnnPlan* const plan = plans.find(key, [&] { return conv3d_plan<T>({handle}, task, g); });
  if (!plan) return false;
  std::vector<const void*> data{x, w, y};
  if (bias) data.push_back(bias);
  plan->run(handle, device, data);
  return true;
}

/// target += a gradient: in cuDNN where an engine can add, else by a pass of our own.
template <class T, class Convolve>
bool cudnn_add(Device device, T* target, Index size, const Convolve& convolve) {
  if (convolve(target, 1.0)) return true;
  const Tensor<T> fresh({size}, device);
  if (!convolve(fresh.data(), 0.0)) return false;
  for_each(device, size, AddTo<T>{fresh.data(), target});
  return true;
}

template <class T>
bool cudnn_forward(Device device, const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  if (bias && cudnn_convolve<T>(device, ConvResult::y, g, x, w, y, 0, bias)) return true;
  if (!cudnn_convolve<T>(device, ConvResult::y, g, x, w, y, 0)) return false;
  const Index voxels = g.batch * g.out_voxels(), channels = g.out_channels;
  if (bias)
    for_each(device, voxels * channels, AddBiasRows<T>{y, bias, voxels, channels, channels, 0, accumulate_t<T>(1)});
  return true;
}
template <class T>
bool cudnn_input_grad(Device device, const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  return cudnn_add(device, dx, g.batch * g.in_voxels() * g.in_channels, [&](T* out, double scale) {
    return cudnn_convolve<T>(device, ConvResult::x, g, out, w, dy, scale);
  });
}
template <class T>
bool cudnn_weight_grad(Device device, const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  return cudnn_add(device, dw, g.out_channels * g.taps() * g.group_in(), [&](T* out, double scale) {
    return cudnn_convolve<T>(device, ConvResult::w, g, x, out, dy, scale);
  });
}

/// Compares one convolution and its gradients with the definition, both on the device, which must be current. What is
/// wrong, or nothing.
template <class T>
std::string conv3d_self_check(Device device) {
  const Conv3dGeometry g{2, 16, 24, 1, {5, 6, 7}, {5, 6, 7}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
  if (conv3d_cudnn_denied<T>(g)) return "";  // not used for it
  const auto wave = [&](Index n) { return check_wave<T>(n, device); };
  const Tensor<T> x = wave(g.batch * g.in_voxels() * g.in_channels), dx = x.clone(), dx2 = x.clone();
  const Tensor<T> w = wave(g.out_channels * g.taps() * g.group_in()), dw = w.clone(), dw2 = w.clone();
  const Tensor<T> y = wave(g.batch * g.out_voxels() * g.out_channels), dy = y.clone(), y2 = y.clone();
  const Tensor<T> bias = wave(g.out_channels);
  const bool ran = cudnn_forward<T>(device, g, x.data(), w.data(), bias.data(), y.data()) &&
                   cudnn_input_grad(device, g, dy.data(), w.data(), dx.data()) &&
                   cudnn_weight_grad(device, g, x.data(), dy.data(), dw.data());
  if (!ran) return "no engine for a kernel of 3 with 16 and 24 channels";
  for_each(device, y2.size(), Conv3dForward<T>{x.data(), w.data(), bias.data(), y2.data(), g});
  for_each(device, dx2.size(), Conv3dInputGrad<T>{dy.data(), w.data(), dx2.data(), g});
  for_each(device, dw2.size(), Conv3dWeightGrad<T>{x.data(), dy.data(), dw2.data(), g});
  const double allowed = is_small_float<T> || (std::is_same_v<T, float> && cudnn_tf32()) ? 2e-2 : 1e-4;
  if (!check_agrees(y, y2, allowed)) return "a convolution differs from the definition";
  if (!check_agrees(dx, dx2, allowed)) return "an input gradient differs from the definition";
  if (!check_agrees(dw, dw2, allowed)) return "a weight gradient differs from the definition";
  return "";
}

template <class T>
bool conv3d_cudnn_forward(Device device, const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  if (!cudnn_usable<conv3d_self_check<T>>(device)) return false;
  DeviceGuard guard(device);
  return cudnn_forward(device, g, x, w, bias, y);
}
template <class T>
bool conv3d_cudnn_input_grad(Device device, const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  if (!cudnn_usable<conv3d_self_check<T>>(device)) return false;
  DeviceGuard guard(device);
  return cudnn_input_grad(device, g, dy, w, dx);
}
template <class T>
bool conv3d_cudnn_weight_grad(Device device, const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  if (!cudnn_usable<conv3d_self_check<T>>(device)) return false;
  DeviceGuard guard(device);
  return cudnn_weight_grad(device, g, x, dy, dw);
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
