#pragma once
/// What every use of cuDNN shares: graphs of operations, the choice of an engine for one, and plans kept by their key.
/// Empty unless M3I_CUDA and M3I_CUDNN.
///
/// The graph interface, not cudnnConvolutionForward and its kin: those are deprecated, and the graph's engines say of
/// themselves whether they are deterministic and how they round.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/library_handle.hpp"

#ifndef M3I_CUDNN
#define M3I_CUDNN 0
#endif

#if M3I_CUDA && M3I_CUDNN
#include <cudnn.h>

#include <algorithm>
#include <cassert>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

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

/// The most memory that one plan may use beside its operands.
inline constexpr Index cudnn_workspace_cap = Index(1) << 30;
/// How many plans of one kind a thread keeps; a training step has some tens.
inline constexpr std::size_t cudnn_plans_kept = 1024;

/// The calling thread's handle for a device, which must be current, set to the current stream.
inline cudnnHandle_t cudnn_handle(Device device) {
  const auto handle = library_handle<cudnnHandle_t, cudnnCreate, cudnnDestroy, check_cudnn>(device);
  check_cudnn(cudnnSetStream(handle, current_stream()), "setting the stream");
  return handle;
}

template <class T>
constexpr cudnnDataType_t cudnn_type() {
  if constexpr (std::is_same_v<T, double>) return CUDNN_DATA_DOUBLE;
  else if constexpr (std::is_same_v<T, float>) return CUDNN_DATA_FLOAT;
  else if constexpr (std::is_same_v<T, half>) return CUDNN_DATA_HALF;
  else return CUDNN_DATA_BFLOAT16;
}

/// A descriptor of the graph interface: attributes are set, then it is finalised, then read.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type) {
    check_cudnn(cudnnBackendCreateDescriptor(type, &descriptor_), "making a descriptor");
  }
  ~CudnnDescriptor() {
    if (descriptor_) cudnnBackendDestroyDescriptor(descriptor_);
  }
  CudnnDescriptor(CudnnDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, nullptr)) {}
  CudnnDescriptor& operator=(CudnnDescriptor&&) = delete;

  cudnnBackendDescriptor_t get() const { return descriptor_; }

  template <class Value>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const Value& value) {
    set(name, type, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, const std::vector<std::int64_t>& values) {
    set(name, CUDNN_TYPE_INT64, values.size(), values.data());
  }
  void set(cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t other) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, other);
  }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::size_t count, const void* values) {
    check_cudnn(cudnnBackendSetAttribute(descriptor_, name, type, std::int64_t(count), values), "a descriptor");
  }
  /// False when cuDNN has no such thing, or cannot compile or load it.
  bool finalize() const { return cudnnBackendFinalize(descriptor_) == CUDNN_STATUS_SUCCESS; }
  /// Up to `most` values; how many there are.
  template <class Value>
  Index read(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, Index most, Value* values) const {
    std::int64_t count = 0;
    check_cudnn(cudnnBackendGetAttribute(descriptor_, name, type, most, &count, values), "reading a descriptor");
    return std::min<Index>(count, most);
  }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

/// Extents of a tensor, and how many elements lie between neighbours along each axis.
struct CudnnLayout {
  std::vector<std::int64_t> extents, strides;
};

/// Operations and the tensors that they hand to each other. Once cuDNN refuses a part, the graph is not supported.
class CudnnGraph {
 public:
  using Part = cudnnBackendDescriptor_t;  // owned by the graph

  /// One operation in plain words, which cuDNN does not give back.
  struct Step {
    cudnnBackendDescriptorType_t type;
    int mode;  ///< a cudnnPointwiseMode_t or a cudnnReduceTensorOp_t
    Part y, x, b = nullptr, t = nullptr;
    std::int64_t axis = -1;
  };

  /// A tensor in memory; run() takes the pointers to these in the order of their making.
  Part memory(cudnnDataType_t type, const CudnnLayout& layout, Index alignment) {
    ids_.push_back(next_);
    return tensor(type, layout, alignment, [](CudnnDescriptor&) {});
  }
  /// A tensor that one operation hands to the next.
  Part between(cudnnDataType_t type, const CudnnLayout& layout) {
    return tensor(type, layout, 16,
                  [](CudnnDescriptor& t) { t.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, true); });
  }
  /// A number, as a tensor of rank 4.
  Part number(float value) {
    numbers_.emplace_back(next_, value);
    return tensor(CUDNN_DATA_FLOAT, {{1, 1, 1, 1}, {1, 1, 1, 1}}, 16,
                  [](CudnnDescriptor& t) { t.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, true); });
  }

  /// y = mode(x, b), or x where t is true and b elsewhere (BINARY_SELECT), or the index along an axis (GEN_INDEX).
  Part pointwise(cudnnPointwiseMode_t mode,
                 Part y,
                 Part x,
                 Part b = nullptr,
                 Part t = nullptr,
                 cudnnDataType_t compute = CUDNN_DATA_FLOAT,
                 std::int64_t axis = -1) {
    const Part how = part(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, [&](CudnnDescriptor& d) {
      d.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
      d.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, compute);
      if (axis >= 0) d.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
    });
    return step({CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, mode, y, x, b, t, axis}, [&](CudnnDescriptor& d) {
      d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
      d.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
      if (b) d.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
      if (t) d.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t);
      d.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    });
  }
  /// y = x b, the last two axes as matrices.
  Part matmul(Part y, Part x, Part b) {
    const Part how = part(CUDNN_BACKEND_MATMUL_DESCRIPTOR, [&](CudnnDescriptor& d) {
      d.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    });
    return step({CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, 0, y, x, b}, [&](CudnnDescriptor& d) {
      d.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
      d.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, x);
      d.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
      d.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, y);
    });
  }
  /// y = x folded along the axes that have the extent 1 in y.
  Part reduce(cudnnReduceTensorOp_t fold, Part y, Part x) {
    const Part how = part(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, [&](CudnnDescriptor& d) {
      d.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, fold);
      d.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    });
    return step({CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, fold, y, x}, [&](CudnnDescriptor& d) {
      d.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
      d.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
      d.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    });
  }
  /// y = the memory of x, in the layout of y.
  Part reshape(Part y, Part x) {
    return step({CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, 0, y, x}, [&](CudnnDescriptor& d) {
      d.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
      d.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    });
  }

  /// An operation whose attributes `fill` sets; its result.
  template <class Fill>
  Part step(const Step& what, const Fill& fill) {
    operations_.push_back(part(what.type, fill));
    steps_.push_back(what);
    return what.y;
  }
  /// A descriptor whose attributes `fill` sets.
  template <class Fill>
  Part part(cudnnBackendDescriptorType_t type, const Fill& fill) {
    CudnnDescriptor& d = parts_.emplace_back(type);
    if (supported_) fill(d);
    supported_ = supported_ && d.finalize();
    return d.get();
  }

  bool supported() const { return supported_; }
  const std::vector<Part>& operations() const { return operations_; }
  const std::vector<Step>& steps() const { return steps_; }

  /// What is bound to the graph's tensors when it is executed, by their ids: `data` to those in memory, and the
  /// numbers.
  std::vector<std::pair<std::int64_t, const void*>> bound(const std::vector<const void*>& data) const {
    assert(data.size() == ids_.size());
    std::vector<std::pair<std::int64_t, const void*>> all;
    for (std::size_t i = 0; i < ids_.size(); ++i) all.emplace_back(ids_[i], data[i]);
    for (const auto& [id, value] : numbers_) all.emplace_back(id, &value);
    return all;
  }

 private:
  template <class Fill>
  Part tensor(cudnnDataType_t type, const CudnnLayout& layout, Index alignment, const Fill& fill) {
    return part(CUDNN_BACKEND_TENSOR_DESCRIPTOR, [&](CudnnDescriptor& t) {
      t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
      t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, layout.extents);
      t.set(CUDNN_ATTR_TENSOR_STRIDES, layout.strides);
      t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, next_++);
      t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t(alignment));
      fill(t);
    });
  }

  std::deque<CudnnDescriptor> parts_;
  std::vector<Part> operations_;
  std::vector<Step> steps_;
  std::vector<std::int64_t> ids_;  // of tensors in memory
  std::deque<std::pair<std::int64_t, float>> numbers_;
  std::int64_t next_ = 0;
  bool supported_ = true;
};

/// What a plan is made for: the device of a handle, or one that is described by `properties` and need not be there, so
/// that engines can be asked for on a machine without a GPU.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  cudnnBackendDescriptor_t properties = nullptr;
};

inline CudnnDescriptor cudnn_engine(const CudnnDescriptor& config) {
  CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t there = engine.get();
  config.read(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &there);
  return engine;
}
inline std::int64_t cudnn_engine_number(const CudnnDescriptor& engine) {
  std::int64_t number = -1;
  engine.read(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &number);
  return number;
}
/// Whether what an engine says of itself is what m3i promises: the same bits each time, sums in float, inputs that are
/// not rounded unless that is allowed, and then to TF32, never to half.
inline bool cudnn_engine_allowed(const CudnnDescriptor& engine, bool may_round) {
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  const Index count = engine.read(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                  Index(CUDNN_NUMERICAL_NOTE_TYPE_COUNT), notes);
  return std::none_of(notes, notes + count, [&](cudnnBackendNumericalNote_t note) {
    return note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
           note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS || (!may_round && note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  });
}

/// An engine made ready for one graph.
struct CudnnPlan {
  CudnnGraph graph;
  CudnnDescriptor whole, config, plan;
  Index workspace;

  /// `data`: the graph's tensors in memory, in the order of their making.
  void run(cudnnHandle_t handle, Device device, const std::vector<const void*>& data) const {
    const Tensor<std::uint8_t> extra({workspace}, device);
    std::vector<std::int64_t> ids;
    std::vector<const void*> pointers;
    for (const auto& [id, pointer] : graph.bound(data)) ids.push_back(id), pointers.push_back(pointer);
    CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers.size(), pointers.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, static_cast<const void*>(extra.data()));
    check_cudnn(cudnnBackendFinalize(pack.get()), "binding data");
    check_cudnn(cudnnBackendExecute(handle, plan.get(), pack.get()), "execution");
  }
};

/// The first engine of cuDNN's choice, best first, that is allowed and builds within the workspace cap. `direct_last`:
/// engine 0, which takes every convolution and computes it value by value, only where there is no other. cuDNN names it
/// before engines that it leaves to its fallbacks, such as those that upsample in float.
inline std::optional<CudnnPlan> cudnn_plan(const CudnnTarget& target,
                                           CudnnGraph graph,
                                           bool may_round,
                                           bool direct_last = false) {
  if (!graph.supported()) return std::nullopt;
  CudnnDescriptor whole(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  if (target.handle) whole.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  whole.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, graph.operations().size(),
            graph.operations().data());
  if (!whole.finalize()) return std::nullopt;
  const auto build = [&](CudnnDescriptor& config) -> std::optional<CudnnPlan> {
    CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (target.handle) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
#if CUDNN_VERSION >= 91100
    else plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target.properties);
#endif
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config.get());
    if (!plan.finalize()) {  // whatever the heuristics say; the next one may
      cudaGetLastError();    // else the next launch would report it
      return std::nullopt;
    }
    std::int64_t workspace = 0;
    plan.read(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
    if (workspace > cudnn_workspace_cap) return std::nullopt;
    return CudnnPlan{std::move(graph), std::move(whole), std::move(config), std::move(plan), workspace};
  };
  std::vector<CudnnDescriptor> direct;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    CudnnDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, whole.get());
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
#if CUDNN_VERSION >= 91100
    if (target.properties) heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target.properties);
#endif
    if (!heuristic.finalize()) continue;
    constexpr Index most = 128;  // what keeps float unrounded comes after some 30 that do not
    std::vector<CudnnDescriptor> configs;
    cudnnBackendDescriptor_t there[most];
    for (auto& config : there) config = configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get();
    const Index count = heuristic.read(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &there[0]);
    for (Index i = 0; i < count; ++i) {
      CudnnDescriptor& config = configs[std::size_t(i)];
      const CudnnDescriptor engine = cudnn_engine(config);
      if (!cudnn_engine_allowed(engine, may_round)) continue;
      if (direct_last && cudnn_engine_number(engine) == 0) direct.push_back(std::move(config));
      else if (auto plan = build(config)) return plan;
    }
  }
  for (CudnnDescriptor& config : direct)
    if (auto plan = build(config)) return plan;
  return std::nullopt;
}

/// Plans of one kind by their key, also that there is none; the table starts anew when it is full.
template <class Key>
class CudnnPlans {
 public:
  /// `make` gives the plan of a key that is met for the first time.
  template <class Make>
  const CudnnPlan* find(const Key& key, const Make& make) {
    auto known = plans_.find(key);
    if (known == plans_.end()) {
      if (plans_.size() >= cudnn_plans_kept) plans_.clear();
      known = plans_.emplace(key, make()).first;
    }
    return known->second ? &*known->second : nullptr;
  }

 private:
  std::map<Key, std::optional<CudnnPlan>> plans_;
};

/// y += x.
template <class T>
struct AddTo {
  const T* x;
  T* y;
  M3I_HD void operator()(Index i) const { y[i] = T(accumulate_t<T>(y[i]) + accumulate_t<T>(x[i])); }
};

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
#endif
