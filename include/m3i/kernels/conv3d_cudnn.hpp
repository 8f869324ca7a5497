#pragma once
/// GPU body of conv3d: one-operation graphs of cuDNN 9. Used with M3I_CUDA=1 and M3I_CUDNN=1; otherwise it has no case
/// and the caller goes on with its own.
///
/// The graph interface, not cudnnConvolutionForward and its kin: those are deprecated, and the graph's engines say of
/// themselves whether they are deterministic and how they round. Forward and both gradients are one piece of code.
///
/// Each function returns false when cuDNN has no engine for the case that is deterministic, sums in float and keeps
/// within the workspace cap; results are then untouched.

#include "m3i/kernels/conv3d_direct.hpp"
#include "m3i/kernels/gemm.hpp"

#if M3I_CUDA && M3I_CUDNN
#include <bit>
#include <mutex>
#include <optional>
#include <string>

#include "m3i/kernels/graph_cudnn.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// The most memory that one convolution may use beside its operands.
inline constexpr Index cudnn_workspace_cap = Index(1) << 30;
/// How many plans a thread keeps; a training step has some tens.
inline constexpr std::size_t cudnn_plans_kept = 1024;

/// Versions known to be wrong in silence, whatever a self-check on one case says:
/// 9.8 to 9.14, half and bf16 with kernels other than 1 (pytorch/pytorch issue 163539, pull request 166480);
/// 9.10.2 to 9.15, TF32 (pytorch/pytorch pull request 167024).
template <class T>
bool cudnn_denied(const Conv3dGeometry& g) {
  const std::size_t version = cudnnGetVersion();
  return is_small_float<T> && g.taps() > 1 && version >= 90800 && version < 91500;
}
inline bool cudnn_tf32() {
  const std::size_t version = cudnnGetVersion();
  return tf32_allowed() && (version < 91002 || version >= 91600);
}

/// Which of the three is the result: y = x * w, or the gradient of x or w.
enum class ConvResult { y, x, w };

/// One convolution in cuDNN's words: tensors 0 (x), 1 (w) and 2 (y or its gradient), and the operation on them.
template <class T>
struct CudnnConvolution {
  CudnnDescriptor x, w, y, movement, operation;
  bool supported = false;

  /// `scale` is what the result is multiplied by before the sums are added: 0 or 1. Alignments are in bytes.
  CudnnConvolution(ConvResult result, const Conv3dGeometry& g, double scale, const Index (&alignment)[3])
      : x(CUDNN_BACKEND_TENSOR_DESCRIPTOR),
        w(CUDNN_BACKEND_TENSOR_DESCRIPTOR),
        y(CUDNN_BACKEND_TENSOR_DESCRIPTOR),
        movement(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR),
        operation(result == ConvResult::y   ? CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR
                  : result == ConvResult::x ? CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
                                            : CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR) {
    channels_last(x, 0, g.batch, g.in_channels, g.in, alignment[0]);
    channels_last(w, 1, g.out_channels, g.group_in(), g.kernel, alignment[1]);  // [Co, kD, kH, kW, Ci / groups]
    channels_last(y, 2, g.batch, g.out_channels, g.out, alignment[2]);
    movement.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t(3));
    movement.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, cudnn_type<accumulate_t<T>>());
    movement.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
    movement.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {g.padding[0], g.padding[1], g.padding[2]});
    movement.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {g.padding[0], g.padding[1], g.padding[2]});
    movement.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {g.stride[0], g.stride[1], g.stride[2]});
    movement.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {g.dilation[0], g.dilation[1], g.dilation[2]});
    if (!x.finalize() || !w.finalize() || !y.finalize() || !movement.finalize()) return;
    switch (result) {
      case ConvResult::y:
        operate(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, scale);
        break;
      case ConvResult::x:
        operate(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, scale);
        break;
      case ConvResult::w:
        operate(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                scale);
        break;
    }
    supported = operation.finalize();
  }

 private:
  static void channels_last(
      CudnnDescriptor& tensor, std::int64_t id, Index n, Index c, const Index (&e)[3], Index alignment) {
    tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, cudnn_type<T>());
    tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, {n, c, e[0], e[1], e[2]});
    tensor.set(CUDNN_ATTR_TENSOR_STRIDES, {e[0] * e[1] * e[2] * c, 1, e[1] * e[2] * c, e[2] * c, c});
    tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
    tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t(alignment));
  }
  void operate(cudnnBackendAttributeName_t name_x,
               cudnnBackendAttributeName_t name_w,
               cudnnBackendAttributeName_t name_y,
               cudnnBackendAttributeName_t name_movement,
               cudnnBackendAttributeName_t name_alpha,
               cudnnBackendAttributeName_t name_beta,
               double scale) {
    operation.set(name_x, x);
    operation.set(name_w, w);
    operation.set(name_y, y);
    operation.set(name_movement, movement);
    operation.set(name_alpha, CUDNN_TYPE_DOUBLE, 1.0);
    operation.set(name_beta, CUDNN_TYPE_DOUBLE, scale);
  }
};

/// Whether what an engine says of itself is what m3i promises: the same bits each time, sums in float, and inputs of
/// float that are not rounded unless allow_tf32() was called.
template <class T>
bool cudnn_engine_allowed(const CudnnDescriptor& config) {
  const CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t there = engine.get();
  config.read(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &there);
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  const Index count = engine.read(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                  Index(CUDNN_NUMERICAL_NOTE_TYPE_COUNT), notes);
  return std::none_of(notes, notes + count, [](cudnnBackendNumericalNote_t note) {
    return note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
           (std::is_same_v<T, float> && !cudnn_tf32() &&
            (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
  });
}

/// An engine made ready for one case, and what it was made of.
template <class T>
struct CudnnPlan {
  CudnnConvolution<T> convolution;
  CudnnDescriptor graph, config, plan;
  Index workspace;
};

/// The first engine of cuDNN's choice, best first, that is allowed and builds within the workspace cap.
template <class T>
std::optional<CudnnPlan<T>> cudnn_build_plan(cudnnHandle_t handle, CudnnConvolution<T> convolution) {
  if (!convolution.supported) return std::nullopt;
  CudnnDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, convolution.operation);
  if (!graph.finalize()) return std::nullopt;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    CudnnDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
    if (!heuristic.finalize()) continue;
    constexpr Index most = 32;
    std::vector<CudnnDescriptor> configs;
    cudnnBackendDescriptor_t there[most];
    for (auto& config : there) config = configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get();
    const Index count = heuristic.read(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &there[0]);
    for (Index i = 0; i < count; ++i) {
      CudnnDescriptor& config = configs[std::size_t(i)];
      if (!cudnn_engine_allowed<T>(config)) continue;
      CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle);
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
      if (!plan.finalize()) continue;
      std::int64_t workspace = 0;
      plan.read(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
      if (workspace > cudnn_workspace_cap) continue;
      return CudnnPlan<T>{std::move(convolution), std::move(graph), std::move(config), std::move(plan), workspace};
    }
  }
  return std::nullopt;
}

/// result = scale result + what is asked for, if cuDNN has a plan for it. Plans are kept by geometry and alignment,
/// also that there is none; the table starts anew when it is full. The device must be current.
template <class T>
bool cudnn_convolve(
    Device device, ConvResult result, const Conv3dGeometry& g, const T* x, const T* w, const T* y, double scale) {
  using Numbers = std::array<Index, sizeof(Conv3dGeometry) / sizeof(Index)>;
  using Key = std::pair<std::array<Index, 7>, Numbers>;
  const auto largest = std::max({g.batch * g.in_voxels() * g.in_channels, g.batch * g.out_voxels() * g.out_channels,
                                 g.out_channels * g.taps() * g.group_in()});
  if (largest > std::numeric_limits<std::int32_t>::max() || cudnn_denied<T>(g)) return false;
  const cudnnHandle_t handle = cudnn_handle(device);  // before the plans: it has to outlive them
  static thread_local std::map<Key, std::optional<CudnnPlan<T>>> plans;
  const auto aligned = [](const void* p) { return Index(std::min<std::uint32_t>(16, alignment_of(p))); };
  const Index alignment[3] = {aligned(x), aligned(w), aligned(y)};
  const Key key{{device.number, Index(result), Index(scale), cudnn_tf32(), alignment[0], alignment[1], alignment[2]},
                std::bit_cast<Numbers>(g)};
  auto known = plans.find(key);
  if (known == plans.end()) {
    if (plans.size() >= cudnn_plans_kept) plans.clear();
    known = plans.emplace(key, cudnn_build_plan<T>(handle, CudnnConvolution<T>(result, g, scale, alignment))).first;
  }
  if (!known->second) return false;
  const CudnnPlan<T>& plan = *known->second;

  const Tensor<std::uint8_t> workspace({plan.workspace}, device);
  const void* const data[3] = {x, w, y};
  const std::int64_t ids[3] = {0, 1, 2};
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  check_cudnn(cudnnBackendSetAttribute(pack.get(), CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, data),
              "conv3d");
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, static_cast<const void*>(workspace.data()));
  check_cudnn(cudnnBackendFinalize(pack.get()), "conv3d");
  check_cudnn(cudnnBackendExecute(handle, plan.plan.get(), pack.get()), "conv3d");
  return true;
}

template <class T>
struct AddTo {
  const T* x;
  T* y;
  M3I_HD void operator()(Index i) const { y[i] = T(accumulate_t<T>(y[i]) + accumulate_t<T>(x[i])); }
};

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

/// A wave between -1 and 1, for the self-check.
template <class T>
struct CheckWave {
  T* x;
  M3I_HD void operator()(Index i) const { x[i] = T(accumulate_t<T>((i * 37 % 101) - 50) / 50); }
};

/// Compares one convolution and its gradients with the definition, both on the device. What is wrong, or nothing.
template <class T>
std::string cudnn_self_check(Device device) {
  const Conv3dGeometry g{2, 16, 24, 1, {5, 6, 7}, {5, 6, 7}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
  if (cudnn_denied<T>(g)) return "";  // not used for it
  DeviceGuard guard(device);
  const auto wave = [&](Index n) {
    Tensor<T> x({n}, device);
    for_each(device, n, CheckWave<T>{x.data()});
    return x;
  };
  const Tensor<T> x = wave(g.batch * g.in_voxels() * g.in_channels), dx = x.clone(), dx2 = x.clone();
  const Tensor<T> w = wave(g.out_channels * g.taps() * g.group_in()), dw = w.clone(), dw2 = w.clone();
  const Tensor<T> y = wave(g.batch * g.out_voxels() * g.out_channels), dy = y.clone(), y2 = y.clone();
  const bool ran = cudnn_forward<T>(device, g, x.data(), w.data(), nullptr, y.data()) &&
                   cudnn_input_grad(device, g, dy.data(), w.data(), dx.data()) &&
                   cudnn_weight_grad(device, g, x.data(), dy.data(), dw.data());
  if (!ran) return "no engine for a kernel of 3 with 16 and 24 channels";
  for_each(device, y2.size(), Conv3dForward<T>{x.data(), w.data(), nullptr, y2.data(), g});
  for_each(device, dx2.size(), Conv3dInputGrad<T>{dy.data(), w.data(), dx2.data(), g});
  for_each(device, dw2.size(), Conv3dWeightGrad<T>{x.data(), dy.data(), dw2.data(), g});
  const double allowed = is_small_float<T> || (std::is_same_v<T, float> && cudnn_tf32()) ? 2e-2 : 1e-4;
  const auto agree = [&](const Tensor<T>& a, const Tensor<T>& b) {
    double worst = 0, largest = 0;
    const auto one = a.to_vector(), two = b.to_vector();
    for (std::size_t i = 0; i < one.size(); ++i) {
      const double p = double(accumulate_t<T>(one[i])), q = double(accumulate_t<T>(two[i]));
      worst = std::max(worst, p - q == p - q ? std::abs(p - q) : std::numeric_limits<double>::infinity());
      largest = std::max(largest, std::abs(q));
    }
    return worst <= allowed * largest;
  };
  if (!agree(y, y2)) return "a convolution differs from the definition";
  if (!agree(dx, dx2)) return "an input gradient differs from the definition";
  if (!agree(dw, dw2)) return "a weight gradient differs from the definition";
  return "";
}

/// Why cuDNN is not used for T on a device; empty when it is. Found out once a process and device.
template <class T>
const std::string& cudnn_objection(Device device) {
  static std::mutex mutex;
  static std::map<int, std::string> found;
  const std::scoped_lock lock(mutex);
  const auto known = found.find(device.number);
  if (known != found.end()) return known->second;
  std::string objection;
  try {
    objection = cudnn_self_check<T>(device);
  } catch (const DeviceError& error) {
    objection = error.what();
  }
  return found[device.number] = objection;
}
template <class T>
bool cudnn_usable(Device device) {
  return device.kind == Device::Kind::cuda && cudnn_objection<T>(device).empty();
}

template <class T>
bool conv3d_cudnn_forward(Device device, const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  if (!cudnn_usable<T>(device)) return false;
  DeviceGuard guard(device);
  return cudnn_forward(device, g, x, w, bias, y);
}
template <class T>
bool conv3d_cudnn_input_grad(Device device, const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  if (!cudnn_usable<T>(device)) return false;
  DeviceGuard guard(device);
  return cudnn_input_grad(device, g, dy, w, dx);
}
template <class T>
bool conv3d_cudnn_weight_grad(Device device, const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  if (!cudnn_usable<T>(device)) return false;
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
