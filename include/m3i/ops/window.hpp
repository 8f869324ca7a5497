#pragma once
/// Window attention on a volume as one operation: windows, cyclic shift, relative-position bias, mask and padding are
/// index arithmetic. Liu et al. 2021, arXiv:2103.14030 (Swin); Zhou et al. 2021, arXiv:2109.03201 (nnFormer).

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/attention_gradient.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/ops/window_index.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

template <class T>
struct WindowBiasGrad {
  using A = accumulate_t<T>;
  const A* scores;  ///< [heads, pairs]
  const Index *starts, *pairs;
  T* table;
  Index heads, count;
  M3I_HD void operator()(Index i) const {
    const Index row = i / heads, head = i % heads;
    A total = A(table[i]);
    for (Index e = starts[row]; e < starts[row + 1]; ++e) total += scores[head * count + pairs[e]];
    table[i] = T(total);
  }
};

/// Queries, keys and values in the channels of one or two volumes.
template <class T>
struct WindowInput {
  Var<T> x, pad;     ///< [N, D, H, W, parts * C] and optionally [parts * C]
  Index offset = 0;  ///< in channels, of the first part used
};

template <class T>
HeadRows<const T> window_rows(const WindowInput<T>& in, Index part, Index channels, Index heads) {
  return {in.x.data() + in.offset + part * channels, in.x.shape()[-1], channels / heads};
}
template <class T>
const T* window_pad(const WindowInput<T>& in, Index part, Index channels) {
  return in.pad.defined() ? in.pad.data() + in.offset + part * channels : nullptr;
}
template <class T>
HeadRows<T> window_grad(const WindowInput<T>& in, Index part, Index channels, Index heads) {
  if (!in.x.needs_grad()) return {nullptr, 0, channels / heads};
  return {in.x.grad().data() + in.offset + part * channels, in.x.shape()[-1], channels / heads};
}

/// Where a part's gradients at filled-up positions are added up, [groups, C]; undefined if there is nothing to add.
template <class T, class A = accumulate_t<T>>
Tensor<A> pad_sums(const WindowInput<T>& in, Index groups, Index channels, bool padded) {
  return padded && in.pad.needs_grad() ? Tensor<A>::zeros({groups, channels}, in.x.device()) : Tensor<A>();
}
template <class T, class A = accumulate_t<T>>
void add_pad_sums(const WindowInput<T>& in, Index part, const Tensor<A>& sums) {
  if (!sums.defined()) return;
  const Index groups = sums.shape()[0], channels = sums.shape()[1];
  for_columns(sums.device(), groups, channels, MatrixCell<A>{sums.data(), channels},
              in.pad.grad().data() + in.offset + part * channels);
}

template <class T>
void check_window(const WindowInput<T>& in, Index parts, const Var<T>& table, const WindowSpec& spec) {
  const Shape& s = in.x.shape();
  require_one_device("window_attention", {in.x, in.pad, table});
  require(s.rank() == 5 && s.size() > 0 && s[4] % parts == 0, "window_attention: needs a non-empty [N, D, H, W, ",
          parts, " C], got ", s);
  require(spec.heads > 0 && s[4] / parts % spec.heads == 0, "window_attention: ", spec.heads,
          " heads do not divide the ", s[4] / parts, " channels of each part of ", s);
  for (std::size_t a = 0; a < 3; ++a)
    require(spec.window[a] > 0 && spec.shift[a] >= 0 && spec.shift[a] < spec.window[a], "window_attention: window ",
            spec.window[a], " and shift ", spec.shift[a], " of axis ", a, "; expected 0 <= shift < window");
  if (table.defined()) {
    const Shape expected{spec.table_rows(), spec.heads};
    require(table.shape() == expected, "window_attention: bias table ", table.shape(), "; expected ", expected,
            " for this window and these heads");
  }
  if (in.pad.defined())
    require(in.pad.shape() == Shape{s[4]}, "window_attention: padding value ", in.pad.shape(), " for ", s,
            "; expected ", Shape{s[4]});
}

template <class T>
Var<T> window_attention(
    const WindowInput<T>& q, const WindowInput<T>& kv, Index channels, const Var<T>& table, const WindowSpec& spec) {
  using A = accumulate_t<T>;
  const Device device = q.x.device();
  const Shape& shape = q.x.shape();
  const auto kept = window_table<WindowLayout>(device, std::array{shape[1], shape[2], shape[3]}, spec.cut());
  const WindowLayout& layout = *kept;
  const Index heads = spec.heads, depth = channels / heads;
  Tensor<A> bias;
  if (table.defined()) {
    bias = Tensor<A>({heads, layout.count, layout.count}, device);
    const auto relative = window_table<RelativeCodes>(device, spec.positions());
    for_rows(device, heads * layout.count,
             WindowBias<T>{table.data(), relative->code.data(), bias.data(), heads, layout.count, relative->zero},
             layout.count);
  }
  AttentionProblem<T> p;
  p.batches = shape[0] * layout.windows, p.heads = heads, p.queries = p.keys = layout.count;
  p.scale = A(spec.scale == 0 ? 1 / std::sqrt(double(depth)) : spec.scale);
  p.q = window_rows(q, 0, channels, heads), p.k = window_rows(kv, 0, channels, heads),
  p.v = window_rows(kv, 1, channels, heads);
  p.pad_q = window_pad(q, 0, channels), p.pad_k = window_pad(kv, 0, channels), p.pad_v = window_pad(kv, 1, channels);
  p.tokens = layout.tokens.data(), p.maps = layout.windows, p.volume = layout.volume;
  p.bias = bias.data(), p.bias_heads = heads;
  p.regions = layout.regions.data();

  const Tensor<T> y({shape[0], shape[1], shape[2], shape[3], channels}, device);
  const Tensor<A> lse({p.batches, heads, layout.count}, device);
  attention_forward(device, p, HeadRows<T>{y.data(), channels, depth}, lse.data());
  return record<T>("window_attention", y, {q.x, q.pad, kv.x, kv.pad, table}, [=](const Tensor<T>& dy) {
    static_cast<void>(bias), static_cast<void>(kept);  // p points into them
    AttentionGradients<T> d;
    d.groups = attention_groups(p.batches, heads, p.queries, p.keys, table.needs_grad(), device);
    d.q = window_grad(q, 0, channels, heads), d.k = window_grad(kv, 0, channels, heads),
    d.v = window_grad(kv, 1, channels, heads);
    const auto pad_q = pad_sums(q, d.groups, channels, layout.padded),
               pad_k = pad_sums(kv, d.groups, channels, layout.padded),
               pad_v = pad_sums(kv, d.groups, channels, layout.padded);
    d.pad_q = pad_q.data(), d.pad_k = pad_k.data(), d.pad_v = pad_v.data();
    Tensor<A> partial;
    if (table.needs_grad()) partial = Tensor<A>::zeros({d.groups, heads, p.keys, p.queries}, device);
    d.bias = partial.data();
    attention_backward(device, p, d, HeadRows<const T>{y.data(), channels, depth},
                       HeadRows<const T>{dy.data(), channels, depth}, lse.data());
    add_pad_sums(q, 0, pad_q), add_pad_sums(kv, 0, pad_k), add_pad_sums(kv, 1, pad_v);
    if (!table.needs_grad()) return;
    const Index pair_count = p.keys * p.queries, all = heads * pair_count;
    const auto scores = Tensor<A>::zeros({heads, pair_count}, device);
    for_columns(device, d.groups, all, MatrixCell<A>{partial.data(), all}, scores.data());
    const auto lists = window_table<PairLists>(device, spec.positions());
    for_each(device, table.size(),
             WindowBiasGrad<T>{scores.data(), lists->starts.data(), lists->pairs.data(), table.grad().data(), heads,
                               pair_count});
  });
}

}  // namespace detail

/// Self-attention inside windows of a volume, head by head.
///
///   qkv    [N, D, H, W, 3 C]  queries, keys and values of each voxel; head h of each uses channels [h d, (h + 1) d)
///   table  [rows, heads]      bias for each relative position, rows = (2 w0 - 1)(2 w1 - 1)(2 w2 - 1); undefined: none
///   pad    [3 C]              what stands at the positions that fill the last windows up (the bias of the linear layer
///                             that made qkv, when zeros were padded before it); undefined: zeros
///   ->     [N, D, H, W, C]
///
/// Equal to: pad D, H, W at their ends to multiples of the window, roll by -shift, cut into windows, attend with
/// scale, bias and, if shifted, -100 between voxels that were no neighbours before the roll, roll back, crop.
/// Gradients: qkv, table, pad. Keeps one value a voxel and head.
/// Throws ShapeError for sizes that do not fit, and unless 0 <= shift < window.
template <class T>
Var<T> window_attention(const Var<T>& qkv, const Var<T>& table, const WindowSpec& spec, const Var<T>& pad = {}) {
  const Operation operation("window_attention", qkv, table, pad);
  const detail::WindowInput<T> q{qkv, pad, 0};
  detail::check_window(q, 3, table, spec);
  const Index channels = qkv.shape()[4] / 3;
  return detail::window_attention(q, detail::WindowInput<T>{qkv, pad, channels}, channels, table, spec);
}

/// The same with queries from another volume than keys and values.
///
///   q      [N, D, H, W, C]
///   kv     [N, D, H, W, 2 C]
///   pad_q  [C], pad_kv [2 C]: what stands at filled-up positions; undefined: zeros
///   ->     [N, D, H, W, C]
template <class T>
Var<T> window_attention(const Var<T>& q,
                        const Var<T>& kv,
                        const Var<T>& table,
                        const WindowSpec& spec,
                        const Var<T>& pad_kv = {},
                        const Var<T>& pad_q = {}) {
  const Operation operation("window_attention", q, kv, table, pad_kv, pad_q);
  const detail::WindowInput<T> in_q{q, pad_q, 0}, in_kv{kv, pad_kv, 0};
  detail::check_window(in_q, 1, table, spec);
  detail::check_window(in_kv, 2, table, spec);
  require_one_device("window_attention", {q, kv});
  const Shape &a = q.shape(), &b = kv.shape();
  require(a.slice(0, 4) == b.slice(0, 4) && 2 * a[4] == b[4], "window_attention: queries ", a, " and keys and values ",
          b, " do not fit; expected [N, D, H, W, C] and [N, D, H, W, 2 C]");
  return detail::window_attention(in_q, in_kv, a[4], table, spec);
}

}  // namespace M3I_ABI
}  // namespace m3i
