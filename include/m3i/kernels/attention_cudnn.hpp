#pragma once
/// GPU body of attention for whole sequences in half and bf16 without bias and key mask: the fused kernels of cuDNN 9.
/// Used with M3I_CUDA=1 and M3I_CUDNN=1; each function returns false for what it does not take, with results untouched,
/// and the caller goes on with the kernel of attention.hpp. Both keep the same log-sum-exp, so either may compute the
/// gradients of what the other began.
///
/// cuDNN recognises attention in a graph of products, folds and pointwise operations and gives it one kernel; which
/// graphs it takes is told by NVIDIA/cudnn-frontend (node/scaled_dot_product_flash_attention.h). The one operation of
/// newer versions, CUDNN_BACKEND_OPERATION_SDPA_FWD, has no causal mask before 9.21.

#include "m3i/kernels/attention_gradient.hpp"
#include "m3i/kernels/self_check_cudnn.hpp"

#if M3I_CUDA && M3I_CUDNN
#include <compare>

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// The numbers of an attention problem that a plan depends on.
struct AttentionCase {
  Index batches, heads, queries, keys, depth, value_depth;
  bool causal;
  float scale;
  auto operator<=>(const AttentionCase&) const = default;
};

/// Attention and its gradients in cuDNN's words. Axes are [batch, head, token, channel]; token rows hold all heads.
template <class T>
struct AttentionGraphs {
  using Part = CudnnGraph::Part;
  AttentionCase c;

  CudnnLayout rows(Index tokens, Index depth) const {
    return {{c.batches, c.heads, tokens, depth}, {tokens * c.heads * depth, depth, c.heads * depth, 1}};
  }
  CudnnLayout columns(Index tokens, Index depth) const { return swapped(rows(tokens, depth)); }
  CudnnLayout scores() const { return packed(c.queries, c.keys); }
  CudnnLayout per_query() const { return packed(c.queries, 1); }

  /// Memory: q, k, v, y, lse.
  CudnnGraph forward() const {
    CudnnGraph g;
    const Part q = memory(g, rows(c.queries, c.depth)), k = memory(g, columns(c.keys, c.depth));
    const Part v = memory(g, rows(c.keys, c.value_depth)), y = memory(g, rows(c.queries, c.value_depth));
    const Part lse = g.memory(CUDNN_DATA_FLOAT, per_query(), 16);
    const Part s = mask(g, scaled(g, g.matmul(sums(g, scores()), q, k), g.number(c.scale)));
    const Part top = g.reduce(CUDNN_REDUCE_TENSOR_MAX, sums(g, per_query()), s);
    const Part e = g.pointwise(CUDNN_POINTWISE_EXP, sums(g, scores()),
                               g.pointwise(CUDNN_POINTWISE_SUB, sums(g, scores()), s, top));
    const Part mass = g.reduce(CUDNN_REDUCE_TENSOR_ADD, sums(g, per_query()), e);
    const Part log = g.pointwise(CUDNN_POINTWISE_LOG, sums(g, per_query()), mass);
    g.pointwise(CUDNN_POINTWISE_ADD, lse, top, log);
    const Part p = g.pointwise(CUDNN_POINTWISE_DIV, g.between(cudnn_type<T>(), scores()), e, mass);
    g.matmul(y, p, v);
    return g;
  }

  /// Memory: q, k, v, y, lse, dy, dot [batch, head, query] for the sums of y dy, dq, dk, dv. In this form dq is one
  /// product as well, and its sums have a fixed order; the other form adds its parts up by atomic additions.
  CudnnGraph gradients() const {
    CudnnGraph g;
    const Part q = memory(g, rows(c.queries, c.depth)), k = memory(g, columns(c.keys, c.depth));
    const Part v = memory(g, columns(c.keys, c.value_depth)), y = memory(g, rows(c.queries, c.value_depth));
    const Part lse = g.memory(CUDNN_DATA_FLOAT, per_query(), 16), dy = memory(g, rows(c.queries, c.value_depth));
    const Part dot = g.memory(CUDNN_DATA_FLOAT, per_query(), 16);
    const Part dq = memory(g, rows(c.queries, c.depth)), dk = memory(g, rows(c.keys, c.depth));
    const Part dv = memory(g, rows(c.keys, c.value_depth));
    const Part scale = g.number(c.scale);

    const Part products = g.pointwise(CUDNN_POINTWISE_MUL, sums(g, packed(c.queries, c.value_depth)), dy, y);
    scaled(g, g.reduce(CUDNN_REDUCE_TENSOR_ADD, sums(g, per_query()), products), g.number(1), dot);

    Part s = scaled(g, g.matmul(sums(g, scores()), q, k), scale);
    s = mask(g, g.pointwise(CUDNN_POINTWISE_SUB, sums(g, scores()), s, lse));
    const Part p = g.pointwise(CUDNN_POINTWISE_EXP, sums(g, scores()), s);
    g.matmul(dv, transposed(g, p), dy);

    Part ds = g.matmul(sums(g, scores()), dy, v);
    ds = g.pointwise(CUDNN_POINTWISE_SUB, sums(g, scores()), ds, dot);
    ds = scaled(g, g.pointwise(CUDNN_POINTWISE_MUL, sums(g, scores()), ds, p), scale);
    g.matmul(dk, transposed(g, ds), q);
    g.matmul(dq, ds, g.reshape(g.between(cudnn_type<T>(), rows(c.keys, c.depth)), k));
    return g;
  }

 private:
  CudnnLayout packed(Index rows, Index cols) const {
    return {{c.batches, c.heads, rows, cols}, {c.heads * rows * cols, rows * cols, cols, 1}};
  }
  static CudnnLayout swapped(CudnnLayout x) {
    std::swap(x.extents[2], x.extents[3]);
    std::swap(x.strides[2], x.strides[3]);
    return x;
  }
  static Part memory(CudnnGraph& g, const CudnnLayout& layout) { return g.memory(cudnn_type<T>(), layout, 16); }
  static Part sums(CudnnGraph& g, const CudnnLayout& layout) { return g.between(CUDNN_DATA_FLOAT, layout); }
  Part scaled(CudnnGraph& g, Part x, Part factor) const { return scaled(g, x, factor, sums(g, scores())); }
  static Part scaled(CudnnGraph& g, Part x, Part factor, Part y) {
    return g.pointwise(CUDNN_POINTWISE_MUL, y, x, factor);
  }
  Part transposed(CudnnGraph& g, Part s) const { return g.reshape(g.between(cudnn_type<T>(), swapped(scores())), s); }
  /// Query i attends to keys 0 .. i.
  Part mask(CudnnGraph& g, Part s) const {
    if (!c.causal) return s;
    const auto index = [&](std::int64_t axis) {
      return g.pointwise(CUDNN_POINTWISE_GEN_INDEX, g.between(CUDNN_DATA_INT32, scores()), s, nullptr, nullptr,
                         CUDNN_DATA_FLOAT, axis);
    };
    const Part query = index(2), key = index(3);
    const Part keep = g.pointwise(CUDNN_POINTWISE_CMP_GE, g.between(CUDNN_DATA_BOOLEAN, scores()), query, key, nullptr,
                                  CUDNN_DATA_BOOLEAN);
    return g.pointwise(CUDNN_POINTWISE_BINARY_SELECT, sums(g, scores()), s,
                       g.number(-std::numeric_limits<float>::infinity()), keep);
  }
};

inline bool aligned_for_cudnn(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

/// Whether cuDNN is asked at all.
template <class T>
bool attention_cudnn_takes(const AttentionProblem<T>& p) {
  const auto fit = [&](const HeadRows<const T>& x) {
    return x.stride == p.heads * x.depth && x.depth % 8 == 0 && x.depth <= 128 && aligned_for_cudnn(x.data);
  };
  const Index most = std::numeric_limits<std::int32_t>::max();
  return p.batches > 0 && p.queries > 0 && p.keys > 1 && !p.tokens && !p.bias && !p.key_mask && !p.regions &&
         fit(p.q) && fit(p.k) && fit(p.v) &&
         p.batches * p.heads * std::max(p.queries, p.keys) * std::max(p.q.depth, p.v.depth) <= most;
}

/// The plan of a problem, its forward pass or its gradients; null if cuDNN has none. Kept by the thread that asks.
template <class T, bool gradients>
const CudnnPlan* attention_plan(cudnnHandle_t handle, Device device, const AttentionProblem<T>& p) {
  static thread_local CudnnPlans<std::pair<int, AttentionCase>> plans;
  const AttentionCase c{p.batches, p.heads, p.queries, p.keys, p.q.depth, p.v.depth, p.causal, float(p.scale)};
  return plans.find({device.number, c}, [&] {
    const AttentionGraphs<T> graphs{c};
    return cudnn_plan({handle}, gradients ? graphs.gradients() : graphs.forward(), true);
  });
}

/// The device must be current, and the problem one that cuDNN takes.
template <class T>
bool cudnn_attention(Device device, const AttentionProblem<T>& p, T* y, float* lse) {
  const cudnnHandle_t handle = cudnn_handle(device);  // before the plans: it has to outlive them
  const CudnnPlan* const plan = attention_plan<T, false>(handle, device, p);
  if (!plan) return false;
  const std::vector<const void*> data{p.q.data, p.k.data, p.v.data, y, lse};
  plan->run(handle, device, data);
  return true;
}
template <class T>
bool cudnn_attention_gradients(Device device,
                               const AttentionProblem<T>& p,
                               const AttentionGradients<T>& d,
                               const T* y,
                               const T* dy,
                               const float* lse) {
  const cudnnHandle_t handle = cudnn_handle(device);
  const CudnnPlan* const plan = attention_plan<T, true>(handle, device, p);
  if (!plan) return false;
  const Index rows = p.batches * p.heads;
  const Tensor<float> dot({rows * p.queries}, device);
  const Tensor<T> dq({rows * p.queries * p.q.depth}, device), dk({rows * p.keys * p.q.depth}, device);
  const Tensor<T> dv({rows * p.keys * p.v.depth}, device);
  const std::vector<const void*> data{p.q.data, p.k.data,   p.v.data,  y,         lse,
                                      dy,       dot.data(), dq.data(), dk.data(), dv.data()};
  plan->run(handle, device, data);
  const auto add = [&](const Tensor<T>& fresh, T* to) {
    if (to) for_each(device, fresh.size(), AddTo<T>{fresh.data(), to});
  };
  add(dq, d.q.data), add(dk, d.k.data), add(dv, d.v.data);
  return true;
}

/// Why a version or a device is passed over, whatever a self-check says; empty when it is not. 9.15.0 and earlier have
/// known bugs: 9.10.0 and 9.10.1 altogether, the gradients wherever the number of keys is no multiple of 128 (both
/// cudnn-frontend, which works around them); PyTorch prefers cuDNN's attention from 9.15.1 on, on the same devices.
inline std::string attention_cudnn_denied(Device device, int newest) {
  if (cudnnGetVersion() <= 91500) return "cuDNN 9.15.0 and earlier: attention has known bugs";
  int major = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.number), "compute capability");
  return major >= 9 && major <= newest ? "" : text("not used for attention on compute capability ", major);
}

/// Sequences of 77 and 200 tokens, causal and not, beside the kernel of attention.hpp, on a device that must be
/// current; and the gradients a second time, which has to give the same bits. What is wrong, or nothing.
template <class T, bool gradients>
std::string attention_self_check(Device device) {
  // On later devices the gradients are in fixed order only with an engine's knobs set by hand (cudnn-frontend).
  if (auto denied = attention_cudnn_denied(device, gradients ? 9 : 10); !denied.empty()) return denied;
  for (const Index tokens : {Index(77), Index(200)})
    for (const bool causal : {false, true}) {
      AttentionProblem<T> p;
      p.batches = 2, p.heads = 3, p.queries = p.keys = tokens, p.scale = 0.125f, p.causal = causal;
      const Index depth = 64, stride = p.heads * depth, size = p.batches * tokens * stride;
      const auto wave = [&](Index shift) { return check_wave<T>(size, device, shift); };
      const Tensor<T> q = wave(0), k = wave(1), v = wave(2), dy = wave(3), y({size}, device), y2({size}, device);
      const Tensor<float> lse({p.batches * p.heads * tokens}, device), lse2(lse.shape(), device);
      const auto rows = [&](auto* data) {
        return HeadRows<std::remove_pointer_t<decltype(data)>>{data, stride, depth};
      };
      const auto constant = [&](const Tensor<T>& x) { return HeadRows<const T>{x.data(), stride, depth}; };
      p.q = constant(q), p.k = constant(k), p.v = constant(v);
      attention_forward(device, p, rows(y.data()), lse.data());
      const std::string what =
          text(gradients ? "gradients of " : "", causal ? "causal " : "", "attention of ", tokens, " tokens");
      if constexpr (!gradients) {
        if (!cudnn_attention(device, p, y2.data(), lse2.data())) return "no engine for " + what;
        if (!check_agrees(y2, y, 2e-2) || !check_agrees(lse2, lse, 1e-3)) return what + " differs from our own";
      } else {
        std::vector<Tensor<T>> own, once, again;
        const auto slots = [&](std::vector<Tensor<T>>& to) {
          for (int i = 0; i < 3; ++i) to.push_back(Tensor<T>::zeros({size}, device));
          AttentionGradients<T> d;
          d.groups = attention_groups(p.batches, p.heads, p.queries, p.keys, false, device);
          d.q = rows(to[0].data()), d.k = rows(to[1].data()), d.v = rows(to[2].data());
          return d;
        };
        attention_backward(device, p, slots(own), constant(y), constant(dy), lse.data());
        for (auto* to : {&once, &again})
          if (!cudnn_attention_gradients(device, p, slots(*to), y.data(), dy.data(), lse.data()))
            return "no engine for " + what;
        for (std::size_t i = 0; i < 3; ++i) {
          if (!check_agrees(once[i], own[i], 4e-2)) return what + " differ from our own";
          if (!check_agrees(again[i], once[i], 0)) return what + " differ from one time to the next";
        }
      }
    }
  return "";
}

/// y and lse as attention_forward gives them, if cuDNN takes the problem.
template <class T>
bool attention_cudnn_forward(Device device, const AttentionProblem<T>& p, HeadRows<T> y, accumulate_t<T>* lse) {
  if constexpr (is_small_float<T>) {
    if (!attention_cudnn_takes(p) || !aligned_for_cudnn(y.data)) return false;
    if (!cudnn_usable<attention_self_check<T, false>>(device)) return false;
    DeviceGuard guard(device);
    return cudnn_attention(device, p, y.data, lse);
  } else {
    return false;
  }
}
/// Adds the gradients of q, k and v as attention_backward does, if cuDNN takes the problem.
template <class T>
bool attention_cudnn_backward(Device device,
                              const AttentionProblem<T>& p,
                              const AttentionGradients<T>& d,
                              HeadRows<const T> y,
                              HeadRows<const T> dy,
                              const accumulate_t<T>* lse) {
  if constexpr (is_small_float<T>) {
    if (!attention_cudnn_takes(p) || !aligned_for_cudnn(y.data) || !aligned_for_cudnn(dy.data)) return false;
    if (!cudnn_usable<attention_self_check<T, true>>(device)) return false;
    DeviceGuard guard(device);
    return cudnn_attention_gradients(device, p, d, y.data, dy.data, lse);
  } else {
    return false;
  }
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i

#else

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

template <class T>
bool attention_cudnn_forward(Device, const AttentionProblem<T>&, HeadRows<T>, accumulate_t<T>*) {
  return false;
}
template <class T>
bool attention_cudnn_backward(Device,
                              const AttentionProblem<T>&,
                              const AttentionGradients<T>&,
                              HeadRows<const T>,
                              HeadRows<const T>,
                              const accumulate_t<T>*) {
  return false;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
#endif
