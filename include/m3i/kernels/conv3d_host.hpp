#pragma once
/// Host body of conv3d: implicit matrix products.
///
/// Forward and input gradient are the same walk: each result voxel gathers source voxels at a list of taps. A tile of
/// result voxels is laid out as the rows of a matrix in a buffer of the second-level cache, some taps at a time, and
/// multiplied by the weights of those taps. The whole matrix (im2col) never exists.

#include <vector>

#include "m3i/kernels/conv3d.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// One axis of the walk: result q gathers source q * step + offsets[tap] where that lies in [0, extent), and is voxel
/// start + q * spacing of the result's volume.
struct GatherAxis {
  Index count = 0, step = 1, extent = 0, start = 0, spacing = 1, volume = 0;
  std::vector<Index> offsets;
};

/// A gathering sum: result[n, q, c] += sum over taps t and channels s of its group of source[n, position(q, t), s]
/// w_t[s, c].
template <class T>
struct GatherSum {
  Index batch = 0, groups = 0, source_channels = 0, result_channels = 0;
  GatherAxis axis[3];
  const T* source = nullptr;
  T* result = nullptr;

  Index taps() const { return Index(axis[0].offsets.size() * axis[1].offsets.size() * axis[2].offsets.size()); }
  Index voxels() const { return batch * axis[0].count * axis[1].count * axis[2].count; }
  Index group_source() const { return source_channels / groups; }
  Index group_result() const { return result_channels / groups; }
  /// Whether results in walking order are neighbours in memory.
  bool dense() const {
    return std::all_of(axis, axis + 3, [](const GatherAxis& a) { return a.spacing == 1 && a.count == a.volume; });
  }
  /// Whether each result gathers the one source voxel of its own number: then the source is the matrix.
  bool in_place() const {
    return std::all_of(axis, axis + 3, [](const GatherAxis& a) {
      return a.step == 1 && a.count == a.extent && a.offsets.size() == 1 && a.offsets[0] == 0;
    });
  }
};

/// Result voxels in order, as coordinates.
template <class T>
struct VoxelWalk {
  const GatherSum<T>& sum;
  Index n, q[3];
  VoxelWalk(const GatherSum<T>& s, Index voxel) : sum(s) {
    for (const int a : {2, 1, 0}) {
      q[a] = voxel % s.axis[a].count;
      voxel /= s.axis[a].count;
    }
    n = voxel;
  }
  void next() {
    if (++q[2] < sum.axis[2].count) return;
    q[2] = 0;
    if (++q[1] < sum.axis[1].count) return;
    q[1] = 0;
    if (++q[0] < sum.axis[0].count) return;
    q[0] = 0;
    ++n;
  }
  /// Source position of a tap along an axis, or -1 outside.
  Index position(int a, Index tap) const {
    const Index p = q[a] * sum.axis[a].step + sum.axis[a].offsets[std::size_t(tap)];
    return p < sum.axis[a].extent ? p : -1;
  }
  /// Source voxel [n, p0, p1, 0], or null when one of the two lies outside.
  const T* source_row(Index p0, Index p1) const {
    if (p0 < 0 || p1 < 0) return nullptr;
    return sum.source +
           ((n * sum.axis[0].extent + p0) * sum.axis[1].extent + p1) * sum.axis[2].extent * sum.source_channels;
  }
  T* result() const {
    const auto at = [this](int a) { return sum.axis[a].start + q[a] * sum.axis[a].spacing; };
    return sum.result + (((n * sum.axis[0].volume + at(0)) * sum.axis[1].volume + at(1)) * sum.axis[2].volume + at(2)) *
                            sum.result_channels;
  }
};

template <class T>
void copy_or_zero(const T* M3I_RESTRICT from, T* M3I_RESTRICT to, Index n) {
  if (from) {
    M3I_SIMD
    for (Index i = 0; i < n; ++i) to[i] = from[i];
  } else {
    M3I_SIMD
    for (Index i = 0; i < n; ++i) to[i] = 0;
  }
}

/// `count` voxels of one line at one tap into every `depth`-th place of `out`: 0 before `inside` and from `outside` on.
template <class T>
void gather_line(const T* M3I_RESTRICT line,
                 Index start,
                 Index distance,
                 T* M3I_RESTRICT out,
                 Index depth,
                 Index channels,
                 Index count,
                 Index inside,
                 Index outside) {
  for (Index r = 0; r < inside; ++r) copy_or_zero<T>(nullptr, out + r * depth, channels);
  if (channels == 1) {
    for (Index r = inside; r < outside; ++r) out[r * depth] = line[start + r * distance];
  } else {
    for (Index r = inside; r < outside; ++r) copy_or_zero(line + start + r * distance, out + r * depth, channels);
  }
  for (Index r = outside; r < count; ++r) copy_or_zero<T>(nullptr, out + r * depth, channels);
}

/// Rows of the implicit matrix: `rows` result voxels from `first` on, taps [tap, last) of one group, into `out`. Voxels
/// of one line share all but their last position, so a line is laid out tap by tap.
template <class T>
void gather_tile(const GatherSum<T>& s, Index group, Index first, Index rows, Index tap, Index last, T* out) {
  const Index channels = s.group_source(), depth = (last - tap) * channels;
  const Index row_taps = Index(s.axis[2].offsets.size()), plane_taps = Index(s.axis[1].offsets.size());
  const Index step = s.axis[2].step, extent = s.axis[2].extent;
  for (Index r = 0; r < rows;) {
    const VoxelWalk<T> v(s, first + r);
    const Index count = std::min(rows - r, s.axis[2].count - v.q[2]);
    for (Index t = tap; t < last; ++t) {
      const Index row = t / row_taps, start = v.q[2] * step + s.axis[2].offsets[std::size_t(t % row_taps)];
      const T* line = v.source_row(v.position(0, row / plane_taps), v.position(1, row % plane_taps));
      // 0 <= start + r * step < extent
      const Index inside = line ? std::clamp<Index>((step - 1 - start) / step, 0, count) : count;
      const Index outside = line ? std::clamp<Index>((extent - start + step - 1) / step, inside, count) : count;
      gather_line(line, start * s.source_channels + group * channels, step * s.source_channels,
                  out + r * depth + (t - tap) * channels, depth, channels, count, inside, outside);
    }
    r += count;
  }
}

/// Sizes of the tiles, from the sizes of the problem alone.
struct GatherPlan {
  Index rows, tiles;      // result voxels of a tile
  Index taps, tap_parts;  // taps laid out at a time
  Index cols, col_parts;  // result channels of a task
  template <class T>
  explicit GatherPlan(const GatherSum<T>& s) {
    const Index channels = s.group_source(), all_taps = s.taps(), voxels = s.voxels();
    tap_parts = (all_taps * channels + 383) / 384;
    taps = std::max<Index>(1, (all_taps + tap_parts - 1) / tap_parts);
    tap_parts = (all_taps + taps - 1) / taps;
    rows = std::clamp<Index>(98304 / (taps * channels), 64, 1024);
    rows = std::min(rows, std::max<Index>(64, (voxels + 15) / 16));  // enough tiles for all threads
    tiles = (voxels + rows - 1) / rows;
    col_parts = std::clamp<Index>((16 + tiles * s.groups - 1) / (tiles * s.groups), 1, (s.group_result() + 95) / 96);
    cols = ((s.group_result() + col_parts - 1) / col_parts + 15) / 16 * 16;
    col_parts = (s.group_result() + cols - 1) / cols;
  }
};

/// The weights of all taps of a group: a matrix [taps * group_source, group_result], or its transpose.
template <class T>
struct GatherWeights {
  const T* w;
  Index ld, group_stride;
  bool transposed;
};

/// result = bias + sum (keep = false), or result += sum (keep = true).
template <class T>
void gather_products(const GatherSum<T>& s, const GatherWeights<T>& w, const T* bias, bool keep) {
  const GatherPlan plan(s);
  const Index channels = s.group_source(), all_taps = s.taps(), voxels = s.voxels();
  const bool dense = s.dense(), in_place = s.in_place();
  parallel_for(s.groups * plan.tiles * plan.col_parts, [&](Index task) {
    const Index part = task % plan.col_parts, tile = task / plan.col_parts % plan.tiles;
    const Index group = task / plan.col_parts / plan.tiles, first = tile * plan.rows;
    const Index rows = std::min(plan.rows, voxels - first), col = part * plan.cols;
    const Index cols = std::min(plan.cols, s.group_result() - col), channel = group * s.group_result() + col;
    const Tensor<T> matrix({in_place ? 0 : rows, plan.taps * channels}), scattered({dense ? 0 : rows, cols});
    T* const out = dense ? s.result + first * s.result_channels + channel : scattered.data();
    GemmProblem<T> p{false,
                     w.transposed,
                     rows,
                     s.group_result(),
                     all_taps * channels,
                     T(1),
                     matrix.data(),
                     0,
                     w.w + group * w.group_stride,
                     w.ld,
                     dense && keep ? T(1) : T(0),
                     out,
                     dense ? s.result_channels : cols,
                     bias ? bias + group * s.group_result() : nullptr};
    p = p.panel(0, rows, col, cols);
    p.c = out;
    for (Index tap = 0; tap < all_taps; tap += plan.taps) {
      const Index last = std::min(all_taps, tap + plan.taps);
      GemmProblem<T> step = p.depth(tap * channels, (last - tap) * channels);
      if (!in_place) gather_tile(s, group, first, rows, tap, last, matrix.data());
      step.a = in_place ? s.source + first * s.source_channels + group * channels : matrix.data();
      step.lda = in_place ? s.source_channels : step.k;
      gemm_serial(step);
      p.beta = 1;
      p.bias = nullptr;
    }
    if (dense) return;
    VoxelWalk<T> v(s, first);
    for (Index r = 0; r < rows; ++r, v.next()) {
      T* M3I_RESTRICT to = v.result() + channel;
      const T* M3I_RESTRICT from = scattered.data() + r * cols;
      M3I_SIMD
      for (Index c = 0; c < cols; ++c) to[c] = keep ? to[c] + from[c] : from[c];
    }
  });
}

/// groups = channels: a sum over taps for each channel, along the channels. w is [taps, channels].
template <class T>
void gather_depthwise(const GatherSum<T>& s, const T* w, const T* bias, bool keep) {
  const Index channels = s.result_channels, t0 = Index(s.axis[0].offsets.size()), t1 = Index(s.axis[1].offsets.size()),
              t2 = Index(s.axis[2].offsets.size());
  parallel_chunks(s.voxels(), std::max<Index>(1, 16384 / (channels * s.taps())), [&](Index begin, Index end) {
    VoxelWalk<T> v(s, begin);
    for (Index r = begin; r < end; ++r, v.next()) {
      T* M3I_RESTRICT out = v.result();
      if (!keep) copy_or_zero(bias, out, channels);
      for (Index a = 0; a < t0; ++a)
        for (Index b = 0; b < t1; ++b) {
          const T* line = v.source_row(v.position(0, a), v.position(1, b));
          for (Index c = 0; line && c < t2; ++c) {
            const Index p = v.position(2, c);
            if (p < 0) continue;
            const T* M3I_RESTRICT x = line + p * channels;
            const T* M3I_RESTRICT weight = w + ((a * t1 + b) * t2 + c) * channels;
            M3I_SIMD
            for (Index i = 0; i < channels; ++i) out[i] += x[i] * weight[i];
          }
        }
    }
  });
}

inline bool depthwise(const Conv3dGeometry& g) { return g.groups == g.in_channels && g.groups == g.out_channels; }

/// The walk of the forward pass: source x, result y.
template <class T>
GatherSum<T> forward_walk(const Conv3dGeometry& g, const T* x, T* y) {
  GatherSum<T> s{g.batch, g.groups, g.in_channels, g.out_channels, {}, x, y};
  for (int a = 0; a < 3; ++a) {
    s.axis[a] = {g.out[a], g.stride[a], g.in[a], 0, 1, g.out[a], {}};
    for (Index k = 0; k < g.kernel[a]; ++k) s.axis[a].offsets.push_back(k * g.dilation[a] - g.padding[a]);
  }
  return s;
}

/// w [channels, taps] of a depthwise convolution as [taps, channels], for the listed taps.
template <class T>
Tensor<T> taps_first(const T* w, Index all_taps, const std::vector<Index>& taps, Index channels) {
  const Tensor<T> out({Index(taps.size()), channels});
  for (std::size_t t = 0; t < taps.size(); ++t)
    for (Index c = 0; c < channels; ++c) out.data()[Index(t) * channels + c] = w[c * all_taps + taps[t]];
  return out;
}
inline std::vector<Index> all_of(Index n) {
  std::vector<Index> list(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) list[std::size_t(i)] = i;
  return list;
}

template <class T>
void conv3d_host_forward(const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  const GatherSum<T> s = forward_walk(g, x, y);
  if (depthwise(g)) return gather_depthwise(s, taps_first(w, g.taps(), all_of(g.taps()), g.groups).data(), bias, false);
  const Index depth = g.taps() * g.group_in();
  gather_products(s, {w, depth, g.group_out() * depth, true}, bias, false);
}

/// One phase of the input gradient: input voxels whose padded position leaves the same remainder by the stride, and the
/// taps that reach them. Within it the gradient is a convolution of dy with stride 1, whose taps are all useful; for
/// stride = kernel each phase has a single tap.
struct GradPhase {
  GatherAxis axis;
  std::vector<Index> taps;
  GradPhase(const Conv3dGeometry& g, int a, Index start) {
    axis = {(g.in[a] - start + g.stride[a] - 1) / g.stride[a], 1, g.out[a], start, g.stride[a], g.in[a], {}};
    for (Index k = 0; k < g.kernel[a]; ++k) {
      const Index shifted = start + g.padding[a] - k * g.dilation[a];
      if (shifted % g.stride[a] != 0) continue;
      taps.push_back(k);
      axis.offsets.push_back(shifted / g.stride[a]);
    }
  }
};

template <class T>
void input_grad_phase(const Conv3dGeometry& g, const GradPhase (&phase)[3], const T* dy, const T* w, T* dx) {
  const GatherSum<T> s{g.batch, g.groups, g.out_channels, g.in_channels, {phase[0].axis, phase[1].axis, phase[2].axis},
                       dy,      dx};
  if (s.taps() == 0) return;  // a stride that steps over voxels
  std::vector<Index> taps;
  for (const Index k0 : phase[0].taps)
    for (const Index k1 : phase[1].taps)
      for (const Index k2 : phase[2].taps) taps.push_back((k0 * g.kernel[1] + k1) * g.kernel[2] + k2);
  if (depthwise(g)) return gather_depthwise<T>(s, taps_first(w, g.taps(), taps, g.groups).data(), nullptr, true);
  // w [group, co, tap, ci] -> [group, tap of this phase, co, ci]
  const Index count = s.taps(), outs = g.group_out(), ins = g.group_in();
  const Tensor<T> weights({g.groups, count, outs, ins});
  parallel_for(g.groups * count, [&](Index i) {
    const Index group = i / count, tap = taps[std::size_t(i % count)];
    for (Index co = 0; co < outs; ++co)
      std::copy_n(w + ((group * outs + co) * g.taps() + tap) * ins, ins, weights.data() + (i * outs + co) * ins);
  });
  gather_products<T>(s, {weights.data(), ins, count * outs * ins, false}, nullptr, true);
}

template <class T>
void conv3d_host_input_grad(const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  for (Index r0 = 0; r0 < std::min(g.stride[0], g.in[0]); ++r0)
    for (Index r1 = 0; r1 < std::min(g.stride[1], g.in[1]); ++r1)
      for (Index r2 = 0; r2 < std::min(g.stride[2], g.in[2]); ++r2)
        input_grad_phase(g, {GradPhase(g, 0, r0), GradPhase(g, 1, r1), GradPhase(g, 2, r2)}, dy, w, dx);
}

template <class T>
struct AddParts {  // dw[i] += partial sums, in order
  const T* partial;
  T* dw;
  Index size, parts;
  M3I_HD void operator()(Index i) const {
    T total = 0;
    for (Index p = 0; p < parts; ++p) total += partial[p * size + i];
    dw[i] += total;
  }
};

template <class T>
void weight_grad_depthwise(const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  const GatherSum<T> s = forward_walk<T>(g, x, nullptr);
  const Index channels = g.groups, taps = g.taps(), voxels = s.voxels();
  const Index chunk = std::max<Index>(64, (voxels + 31) / 32), parts = (voxels + chunk - 1) / chunk;
  const Tensor<T> partial = Tensor<T>::zeros({parts, taps, channels});
  parallel_for(parts, [&](Index part) {
    VoxelWalk<T> v(s, part * chunk);
    for (Index r = part * chunk; r < std::min(voxels, (part + 1) * chunk); ++r, v.next())
      for (Index t = 0; t < taps; ++t) {
        const Index row = t / g.kernel[2], p = v.position(2, t % g.kernel[2]);
        const T* line = v.source_row(v.position(0, row / g.kernel[1]), v.position(1, row % g.kernel[1]));
        if (!line || p < 0) continue;
        const T* M3I_RESTRICT value = line + p * channels;
        const T* M3I_RESTRICT grad = dy + r * channels;
        T* M3I_RESTRICT out = partial.data() + (part * taps + t) * channels;
        M3I_SIMD
        for (Index c = 0; c < channels; ++c) out[c] += value[c] * grad[c];
      }
  });
  const Tensor<T> total = Tensor<T>::zeros({taps, channels});
  for_each(Device::cpu(), total.size(), AddParts<T>{partial.data(), total.data(), total.size(), parts});
  for (Index c = 0; c < channels; ++c)
    for (Index t = 0; t < taps; ++t) dw[c * taps + t] += total.data()[t * channels + c];
}

/// dw = dy^T times the implicit matrix of x: fixed runs of tiles in parallel, their sums added in order.
template <class T>
void conv3d_host_weight_grad(const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  if (depthwise(g)) return weight_grad_depthwise(g, x, dy, dw);
  const GatherSum<T> s = forward_walk<T>(g, x, nullptr);
  const GatherPlan plan(s);
  const Index channels = g.group_in(), outs = g.group_out(), voxels = s.voxels(), depth = g.taps() * channels;
  const Index tasks = g.groups * plan.tap_parts, wanted = std::clamp<Index>((31 + tasks) / tasks, 1, plan.tiles);
  const Index run = (plan.tiles + wanted - 1) / wanted, runs = (plan.tiles + run - 1) / run;
  const Tensor<T> partial({runs, g.out_channels, depth});
  parallel_for(tasks * runs, [&](Index task) {
    const Index r = task % runs, part = task / runs % plan.tap_parts, group = task / runs / plan.tap_parts;
    const Index tap = part * plan.taps, last = std::min(g.taps(), tap + plan.taps), width = (last - tap) * channels;
    const Tensor<T> matrix({plan.rows, width});
    T* const out = partial.data() + (r * g.out_channels + group * outs) * depth + tap * channels;
    for (Index tile = r * run; tile < std::min(plan.tiles, (r + 1) * run); ++tile) {
      const Index first = tile * plan.rows, rows = std::min(plan.rows, voxels - first);
      gather_tile(s, group, first, rows, tap, last, matrix.data());
      gemm_serial<T>({true, false, outs, width, rows, T(1), dy + first * g.out_channels + group * outs, g.out_channels,
                      matrix.data(), width, tile == r * run ? T(0) : T(1), out, depth, nullptr});
    }
  });
  const Index size = g.out_channels * depth;
  for_each(Device::cpu(), size, AddParts<T>{partial.data(), dw, size, runs});
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
