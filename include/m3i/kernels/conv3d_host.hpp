#pragma once
/// Host body of conv3d: implicit matrix products.
///
/// Forward and input gradient are the same walk: each result voxel gathers source voxels at a list of taps. A tile of
/// result voxels is laid out as the rows of a matrix in a buffer of the second-level cache, some taps at a time, and
/// multiplied by the weights of those taps. The whole matrix (im2col) never exists.

#include <vector>

#include "m3i/kernels/conv3d.hpp"
#include "m3i/kernels/conv3d_gather.hpp"
#include "m3i/kernels/conv3d_winograd.hpp"
#include "m3i/kernels/register_block.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

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
    const Index p = q[a] * sum.axis[a].step + sum.axis[a].offset(tap);
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

/// A stretch of the implicit matrix's columns: all channels of taps [tap, last), or some of one tap.
struct GatherPart {
  Index tap, last, channel, channels;
  Index width() const { return (last - tap) * channels; }
};

/// Rows of the implicit matrix: `rows` result voxels from `first` on, one part of its columns, into `out`, rows
/// `stride` apart. Voxels of one line share all but their last position, so a line is laid out tap by tap.
template <class T>
void gather_tile(
    const GatherSum<T>& s, Index group, const GatherPart& part, Index first, Index rows, T* out, Index stride) {
  const Index row_taps = s.axis[2].taps, plane_taps = s.axis[1].taps;
  const Index step = s.axis[2].step, extent = s.axis[2].extent;
  for (Index r = 0; r < rows;) {
    const VoxelWalk<T> v(s, first + r);
    const Index count = std::min(rows - r, s.axis[2].count - v.q[2]);
    for (Index t = part.tap; t < part.last; ++t) {
      const Index row = t / row_taps, start = v.q[2] * step + s.axis[2].offset(t % row_taps);
      const T* line = v.source_row(v.position(0, row / plane_taps), v.position(1, row % plane_taps));
      // 0 <= start + r * step < extent
      const Index inside = line ? std::clamp<Index>((step - 1 - start) / step, 0, count) : count;
      const Index outside = line ? std::clamp<Index>((extent - start + step - 1) / step, inside, count) : count;
      gather_line(line, start * s.source_channels + group * s.group_source() + part.channel, step * s.source_channels,
                  out + r * stride + (t - part.tap) * part.channels, stride, part.channels, count, inside, outside);
    }
    r += count;
  }
}

/// Sizes of the tiles, from the sizes of the problem alone.
struct GatherPlan {
  Index rows = 0, tiles = 0;      // result voxels of a tile
  std::vector<GatherPart> parts;  // of the depth
  template <class T>
  explicit GatherPlan(const GatherSum<T>& s) {
    const Index channels = s.group_source(), taps = s.taps(), voxels = s.voxels();
    const Index chunks = (channels + tile_width - 1) / tile_width, chunk = (channels + chunks - 1) / chunks;
    const Index together = std::max<Index>(1, tile_width / channels);
    for (Index tap = 0; tap < taps; tap += together)
      for (Index c = 0; c < channels; c += chunk)
        parts.push_back({tap, std::min(taps, tap + together), c, std::min(chunk, channels - c)});
    rows = std::clamp<Index>((voxels + 15) / 16, 64, 384);  // in the second-level cache, and enough tiles for threads
    tiles = (voxels + rows - 1) / rows;
  }
};

/// The weights as panels [group, panel, depth, cols], filled up with zeros.
template <class T>
Tensor<T> weight_panels(const GatherSum<T>& s, const GatherWeights<T>& w, Index cols) {
  const Index channels = s.group_source(), results = s.group_result(), depth = s.taps() * channels;
  const Index panels = (results + cols - 1) / cols;
  const Tensor<T> out({s.groups, panels, depth, cols});
  parallel_for(s.groups * panels * s.taps(), [&](Index i) {
    const Index t = i % s.taps(), panel = i / s.taps() % panels, group = i / s.taps() / panels;
    const T* from = w.w + group * w.group_stride + s.kernel_tap(t) * w.tap_stride + panel * cols * w.result_stride;
    T* to = out.data() + (i / s.taps() * depth + t * channels) * cols;
    const Index used = std::min(cols, results - panel * cols);
    for (Index c = 0; c < channels; ++c, to += cols, from += w.source_stride) {
      for (Index r = 0; r < used; ++r) to[r] = from[r * w.result_stride];
      std::fill(to + used, to + cols, T(0));
    }
  });
  return out;
}

/// result = bias + sum (keep = false), or result += sum (keep = true).
template <class T, int vectors>
void gather_products(const GatherSum<T>& s, const GatherWeights<T>& w, const T* bias, bool keep) {
  constexpr Index cols = block_cols<T, vectors>, height = block_rows<vectors>, stride = tile_stride;
  const GatherPlan plan(s);
  const Index channels = s.group_source(), results = s.group_result(), voxels = s.voxels(), depth = s.taps() * channels;
  const Index panels = (results + cols - 1) / cols, rows_up = (plan.rows + height - 1) / height * height;
  // A task takes several panels, so that laying out its tile pays; fewer where there are few tiles.
  const Index shares = std::clamp<Index>(16 / (plan.tiles * s.groups), 1, panels);
  const Tensor<T> weights = weight_panels(s, w, cols);
  parallel_for(s.groups * plan.tiles * shares, [&](Index task) {
    const Index share = task % shares, tile = task / shares % plan.tiles, group = task / shares / plan.tiles;
    const Index first_panel = share * panels / shares, last_panel = (share + 1) * panels / shares;
    const Index first = tile * plan.rows, rows = std::min(plan.rows, voxels - first);
    const Index col = first_panel * cols, width = std::min(results, last_panel * cols) - col;
    const Tensor<T> matrix({rows_up, stride}), sums({rows, width});
    for (Index r = 0; r < rows; ++r)
      copy_or_zero(bias ? bias + group * results + col : nullptr, sums.data() + r * width, width);
    for (const GatherPart& part : plan.parts) {
      gather_tile(s, group, part, first, rows, matrix.data(), stride);
      for (Index panel = first_panel; panel < last_panel; ++panel) {
        const T* b = weights.data() + ((group * panels + panel) * depth + part.tap * channels + part.channel) * cols;
        const Index at = panel * cols - col;
        for (Index r = 0; r < rows; r += height)
          add_register_block<vectors, stride, 1>(matrix.data() + r * stride, part.width(), b,
                                                 sums.data() + r * width + at, width, rows - r, width - at);
      }
    }
    VoxelWalk<T> v(s, first);
    for (Index r = 0; r < rows; ++r, v.next()) {
      T* M3I_RESTRICT to = v.result() + group * results + col;
      const T* M3I_RESTRICT from = sums.data() + r * width;
      M3I_SIMD
      for (Index c = 0; c < width; ++c) to[c] = keep ? to[c] + from[c] : from[c];
    }
  });
}
template <class T>
void gather_products(const GatherSum<T>& s, const GatherWeights<T>& w, const T* bias, bool keep) {
  with_panel_width<T>(s.group_result(), [&](auto vectors) {
    if (winograd_fits(s)) winograd_products<T, vectors>(s, w, bias, keep);
    else gather_products<T, vectors>(s, w, bias, keep);
  });
}

/// groups = channels: a sum over taps for each channel, along the channels. w is [taps, channels].
template <class T>
void gather_depthwise(const GatherSum<T>& s, const T* w, const T* bias, bool keep) {
  const Index channels = s.result_channels, t0 = s.axis[0].taps, t1 = s.axis[1].taps, t2 = s.axis[2].taps;
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

/// w [channels, taps] of a depthwise convolution as [taps, channels], for the taps of the walk.
template <class T>
Tensor<T> taps_first(const GatherSum<T>& s, const T* w, Index all_taps) {
  const Index channels = s.groups;
  const Tensor<T> out({s.taps(), channels});
  for (Index t = 0; t < s.taps(); ++t)
    for (Index c = 0; c < channels; ++c) out.data()[t * channels + c] = w[c * all_taps + s.kernel_tap(t)];
  return out;
}

template <class T>
void conv3d_host_forward(const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  const auto s = GatherSum<T>::forward(g, x, y);
  if (depthwise(g)) return gather_depthwise(s, taps_first(s, w, g.taps()).data(), bias, false);
  gather_products(s, GatherWeights<T>::forward(g, w), bias, false);
}

template <class T>
void input_grad_phase(const Conv3dGeometry& g, const GatherSum<T>& s, const T* w) {
  if (s.taps() == 0) return;
  if (depthwise(g)) return gather_depthwise<T>(s, taps_first(s, w, g.taps()).data(), nullptr, true);
  gather_products<T>(s, GatherWeights<T>::input_grad(g, w), nullptr, true);
}

/// Whether each input voxel meets one output voxel at most: patches side by side.
inline bool in_patches(const Conv3dGeometry& g) {
  bool patches = true;
  for (int a = 0; a < 3; ++a)
    patches = patches && g.kernel[a] == g.stride[a] && g.padding[a] == 0 && g.dilation[a] == 1;
  return patches;
}

/// The input gradient of patches: each row of the product dy w [voxels, taps * channels] is one patch. With phases, the
/// common case of few channels would leave most of each register empty.
template <class T>
void input_grad_patches(const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  const Index outs = g.group_out(), ins = g.group_in(), width = g.taps() * ins, voxels = g.batch * g.out_voxels();
  const Index tile = std::clamp<Index>(32768 / width, 16, 256), tiles = (voxels + tile - 1) / tile;
  parallel_for(g.groups * tiles, [&](Index task) {
    const Index group = task / tiles, first = task % tiles * tile, rows = std::min(tile, voxels - first);
    const Tensor<T> patches({rows, width});
    gemm_host<T>(1,
                 {false, false, rows, width, outs, T(1), dy + first * g.out_channels + group * outs, g.out_channels,
                  w + group * outs * width, width, T(0), patches.data(), width, nullptr},
                 0, 0, 0);
    const T* M3I_RESTRICT from = patches.data();
    for (Index voxel = first; voxel < first + rows; ++voxel) {
      const Index o2 = voxel % g.out[2], o1 = voxel / g.out[2] % g.out[1], o0 = voxel / g.out[2] / g.out[1] % g.out[0];
      const Index n = voxel / g.out_voxels();
      for (Index k0 = 0; k0 < g.kernel[0]; ++k0)
        for (Index k1 = 0; k1 < g.kernel[1]; ++k1) {
          const Index line = (n * g.in[0] + o0 * g.stride[0] + k0) * g.in[1] + o1 * g.stride[1] + k1;
          T* M3I_RESTRICT to = dx + (line * g.in[2] + o2 * g.stride[2]) * g.in_channels + group * ins;
          for (Index k2 = 0; k2 < g.kernel[2]; ++k2, to += g.in_channels, from += ins)
            for (Index c = 0; c < ins; ++c) to[c] += from[c];
        }
    }
  });
}

template <class T>
void conv3d_host_input_grad(const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  if (in_patches(g) && !depthwise(g)) return input_grad_patches(g, dy, w, dx);
  for (Index r0 = 0; r0 < std::min(g.stride[0], g.in[0]); ++r0)
    for (Index r1 = 0; r1 < std::min(g.stride[1], g.in[1]); ++r1)
      for (Index r2 = 0; r2 < std::min(g.stride[2], g.in[2]); ++r2)
        input_grad_phase(g, GatherSum<T>::input_grad(g, r0, r1, r2, dy, dx), w);
}

/// Partial sums, in order.
template <class T>
T added_parts(const T* partial, Index size, Index parts, Index i) {
  double total = 0;
  for (Index p = 0; p < parts; ++p) total += double(partial[p * size + i]);
  return T(total);
}

template <class T>
void weight_grad_depthwise(const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  const GatherSum<T> s = GatherSum<T>::forward(g, x, nullptr);
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
  for (Index c = 0; c < channels; ++c)
    for (Index t = 0; t < taps; ++t)
      dw[c * taps + t] += added_parts(partial.data(), taps * channels, parts, t * channels + c);
}

/// dw = dy^T times the implicit matrix of x: fixed runs of tiles in parallel, their sums added in order. The sums of a
/// run are [group, panel, depth, cols], as weight_panels lays weights.
template <class T, int vectors>
void weight_grad_products(const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  constexpr Index cols = block_cols<T, vectors>, height = block_rows<vectors>, stride = tile_stride;
  const GatherSum<T> s = GatherSum<T>::forward(g, x, nullptr);
  const GatherPlan plan(s);
  const Index channels = g.group_in(), outs = g.group_out(), voxels = s.voxels(), depth = g.taps() * channels;
  const Index panels = (outs + cols - 1) / cols, parts = Index(plan.parts.size()), tasks = g.groups * parts;
  const Index wanted = std::clamp<Index>((31 + tasks) / tasks, 1, plan.tiles);
  const Index run = (plan.tiles + wanted - 1) / wanted, runs = (plan.tiles + run - 1) / run;
  const Index size = g.groups * panels * depth * cols;
  const Tensor<T> partial = Tensor<T>::zeros({runs, size});
  parallel_for(tasks * runs, [&](Index task) {
    const Index r = task % runs, group = task / runs / parts;
    const GatherPart& part = plan.parts[std::size_t(task / runs % parts)];
    const Tensor<T> matrix({plan.rows, stride}), grad = Tensor<T>::zeros({plan.rows, cols});
    for (Index tile = r * run; tile < std::min(plan.tiles, (r + 1) * run); ++tile) {
      const Index first = tile * plan.rows, rows = std::min(plan.rows, voxels - first);
      gather_tile(s, group, part, first, rows, matrix.data(), stride);
      for (Index panel = 0; panel < panels; ++panel) {
        const T* from = dy + first * g.out_channels + group * outs + panel * cols;
        const Index used = std::min(cols, outs - panel * cols);
        for (Index v = 0; v < rows; ++v) copy_or_zero(from + v * g.out_channels, grad.data() + v * cols, used);
        T* to =
            partial.data() + r * size + ((group * panels + panel) * depth + part.tap * channels + part.channel) * cols;
        for (Index k = 0; k < part.width(); k += height)
          add_register_block<vectors, 1, stride>(matrix.data() + k, rows, grad.data(), to + k * cols, cols,
                                                 part.width() - k, cols);
      }
    }
  });
  parallel_for(g.out_channels, [&](Index co) {
    const Index group = co / outs, c = co % outs;
    const T* own = partial.data() + (group * panels + c / cols) * depth * cols + c % cols;
    for (Index k = 0; k < depth; ++k) dw[co * depth + k] += added_parts(own, size, runs, k * cols);
  });
}
template <class T>
void conv3d_host_weight_grad(const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  if (depthwise(g)) return weight_grad_depthwise(g, x, dy, dw);
  with_panel_width<T>(g.group_out(), [&](auto vectors) {
    const GatherSum<T> s = GatherSum<T>::forward(g, x, nullptr);
    if (winograd_fits(s)) winograd_weight_grad<T, vectors>(s, dy, dw);
    else weight_grad_products<T, vectors>(g, x, dy, dw);
  });
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
