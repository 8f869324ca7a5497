#pragma once
/// Scaled dot-product attention with several heads.

#include <type_traits>

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/attention_cudnn.hpp"

namespace m3i {
inline namespace M3I_ABI {

template <class T>
struct AttentionOptions {
  Index heads = 1;
  double scale = 0;                    ///< of the scores; 0: 1 / sqrt(channels of a head)
  bool causal = false;                 ///< query i attends to keys 0 .. i only
  Var<T> bias = {};                    ///< [heads or 1, Lq, Lk], added to the scaled scores
  Tensor<std::uint8_t> key_mask = {};  ///< [N, Lk], 0: nobody attends to this key (padding)
};

namespace detail {

/// [heads, Lq, Lk] -> [heads, Lk, Lq] in the type that is computed in.
template <class T>
struct TransposeScores {
  const T* x;
  accumulate_t<T>* y;
  Index queries, keys;
  M3I_HD void operator()(Index i) const {
    const Index q = i % queries, k = i / queries % keys, head = i / (queries * keys);
    y[i] = accumulate_t<T>(x[(head * queries + q) * keys + k]);
  }
};
/// Adds up [groups, heads, Lk, Lq] over groups, and over heads if they share a bias, into [bias_heads, Lq, Lk].
template <class T>
struct CollectScores {
  using A = accumulate_t<T>;
  const A* partial;
  T* out;
  Index groups, heads, bias_heads, queries, keys;
  M3I_HD void operator()(Index i) const {
    const Index k = i % keys, q = i / keys % queries, own = i / (keys * queries), size = keys * queries;
    A total = A(out[i]);
    for (Index g = 0; g < groups; ++g)
      for (Index head = own; head < heads; head += bias_heads)
        total += partial[(g * heads + head) * size + k * queries + q];
    out[i] = T(total);
  }
};

template <class T>
void check_attention(const Var<T>& q, const Var<T>& k, const Var<T>& v, const AttentionOptions<T>& o) {
  require(q.rank() == 3 && k.rank() == 3 && v.rank() == 3, "attention: needs q, k, v of [N, L, C], got ", q.shape(),
          ", ", k.shape(), ", ", v.shape());
  require_one_device("attention", {q, k, v, o.bias});
  const Index n = q.shape()[0], channels = q.shape()[2], keys = k.shape()[1];
  require(k.shape()[0] == n && v.shape()[0] == n && k.shape()[2] == channels && v.shape()[1] == keys, "attention: q ",
          q.shape(), ", k ", k.shape(), ", v ", v.shape(),
          " do not fit; expected q [N, Lq, C], k [N, Lk, C], v [N, Lk, Cv]");
  require(o.heads > 0 && channels % o.heads == 0 && v.shape()[2] % o.heads == 0 && channels > 0, "attention: ", o.heads,
          " heads do not divide the channels of q ", q.shape(), " and v ", v.shape());
  require(keys > 0, "attention: there is no key in ", k.shape());
  if (o.bias.defined()) {
    const Shape &b = o.bias.shape(), each{o.heads, q.shape()[1], keys}, one{1, q.shape()[1], keys};
    require(b == each || b == one, "attention: bias ", b, " does not fit; expected ", each, " or ", one);
  }
  if (o.key_mask.defined())
    require(o.key_mask.shape() == Shape{n, keys}, "attention: key mask ", o.key_mask.shape(),
            " does not fit; expected ", Shape{n, keys});
}

}  // namespace detail

/// softmax(scale Q K^T + bias) V, head by head: head h uses channels [h d, (h + 1) d).
///
///   q   [N, Lq, C]
///   k   [N, Lk, C]
///   v   [N, Lk, Cv]
///   ->  [N, Lq, Cv]
///
/// Gradients: q, k, v, bias. Scores are never held as a whole: keeps one value a query and head until backward, which
/// computes the probabilities again. A query that may attend to no key gives zeros.
/// On a GPU, half and bf16 without bias and key mask go to cuDNN where it has a kernel (kernels/attention_cudnn.hpp).
/// Throws ShapeError unless the heads divide C and Cv. Vaswani et al. 2017, arXiv:1706.03762.
template <class T>
Var<T> attention(const Var<T>& q,
                 const Var<T>& k,
                 const Var<T>& v,
                 const std::type_identity_t<AttentionOptions<T>>& options = {}) {
  const Operation operation("attention", q, k, v, options.bias);
  using A = accumulate_t<T>;
  detail::check_attention(q, k, v, options);
  const Device device = q.device();
  const Index n = q.shape()[0], queries = q.shape()[1], keys = k.shape()[1], heads = options.heads;
  const Index depth = q.shape()[2] / heads, value_depth = v.shape()[2] / heads;
  const Var<T> bias = options.bias;
  const auto key_mask = options.key_mask.to(device);
  Tensor<A> bias_t;
  if (bias.defined()) {
    bias_t = Tensor<A>({bias.shape()[0], keys, queries}, device);
    for_each(device, bias.size(), detail::TransposeScores<T>{bias.data(), bias_t.data(), queries, keys});
  }
  AttentionProblem<T> p;
  p.batches = n, p.heads = heads, p.queries = queries, p.keys = keys;
  p.scale = A(options.scale == 0 ? 1 / std::sqrt(double(depth)) : options.scale);
  p.q = {q.data(), heads * depth, depth}, p.k = {k.data(), heads * depth, depth},
  p.v = {v.data(), heads * value_depth, value_depth};
  p.bias = bias_t.data(), p.bias_heads = bias.defined() ? bias.shape()[0] : 1;
  p.key_mask = key_mask.data(), p.causal = options.causal;

  const Tensor<T> y({n, queries, heads * value_depth}, device);
  const Tensor<A> lse({n, heads, queries}, device);
  const HeadRows<T> out{y.data(), p.v.stride, value_depth};
  if (!detail::attention_cudnn_forward(device, p, out, lse.data())) attention_forward(device, p, out, lse.data());
  return record<T>("attention", y, {q, k, v, bias}, [=](const Tensor<T>& dy) {
    AttentionGradients<T> d;
    d.groups = attention_groups(p.batches, p.heads, p.queries, p.keys, bias.needs_grad(), device);
    const auto slot = [](const Var<T>& x, const HeadRows<const T>& rows) {
      return HeadRows<T>{x.needs_grad() ? x.grad().data() : nullptr, rows.stride, rows.depth};
    };
    d.q = slot(q, p.q), d.k = slot(k, p.k), d.v = slot(v, p.v);
    Tensor<A> partial;
    if (bias.needs_grad()) partial = Tensor<A>::zeros({d.groups, p.heads, p.keys, p.queries}, dy.device());
    d.bias = partial.data();
    const HeadRows<const T> y_rows{y.data(), p.v.stride, p.v.depth}, dy_rows{dy.data(), p.v.stride, p.v.depth};
    if (!detail::attention_cudnn_backward(dy.device(), p, d, y_rows, dy_rows, lse.data()))
      attention_backward(dy.device(), p, d, y_rows, dy_rows, lse.data());
    // p points into these; naming them keeps them alive until here.
    if (bias.needs_grad() && bias_t.defined())
      for_each(dy.device(), bias.size(),
               detail::CollectScores<T>{partial.data(), bias.grad().data(), d.groups, p.heads, p.bias_heads, p.queries,
                                        p.keys});
    static_cast<void>(key_mask);
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
