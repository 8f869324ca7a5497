#pragma once
/// What convolutions compute: result voxels that gather source voxels at some taps. Forward pass and input gradient are
/// the same walk, on the host and on devices.

#include "m3i/kernels/conv3d_direct.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// One axis of the walk: result q gathers source q * step + offset(t) for its taps t where that lies in [0, extent),
/// and is voxel start + q * spacing of the result's volume.
struct GatherAxis {
  Index count = 0, step = 1, extent = 0, start = 0, spacing = 1, volume = 0;
  Index taps = 0, first_offset = 0, offset_step = 1;
  Index kernel = 0, first_tap = 0, tap_step = 1;  // of the convolution: all its taps, and which of them these are

  M3I_HD Index offset(Index t) const { return first_offset + t * offset_step; }
  M3I_HD Index kernel_tap(Index t) const { return first_tap + t * tap_step; }

  M3I_HD static GatherAxis forward(const Conv3dGeometry& g, int a) {
    return {g.out[a],    g.stride[a],   g.in[a],       0,           1, g.out[a],
            g.kernel[a], -g.padding[a], g.dilation[a], g.kernel[a], 0, 1};
  }
  /// A phase of the input gradient: input voxels start, start + stride, ..., and the taps that reach them. Within it
  /// the gradient is a convolution of dy with stride 1, whose taps are all useful; for stride = kernel each phase has a
  /// single tap, for a stride that steps over voxels some have none.
  M3I_HD static GatherAxis input_grad(const Conv3dGeometry& g, int a, Index start) {
    const Index stride = g.stride[a], dilation = g.dilation[a], shifted = start + g.padding[a];
    Index first = 0, period = 1;
    while (first < g.kernel[a] && (shifted - first * dilation) % stride != 0) ++first;
    while (period * dilation % stride != 0) ++period;
    return {(g.in[a] - start + stride - 1) / stride,
            1,
            g.out[a],
            start,
            stride,
            g.in[a],
            (g.kernel[a] - first + period - 1) / period,
            (shifted - first * dilation) / stride,
            -(period * dilation / stride),
            g.kernel[a],
            first,
            period};
  }
};

/// A gathering sum: result[n, q, c] += sum over taps t and channels s of its group of source[n, position(q, t), s]
/// w_t[s, c].
template <class T>
struct GatherSum {
  Index batch = 0, groups = 0, source_channels = 0, result_channels = 0;
  GatherAxis axis[3];
  const T* source = nullptr;
  T* result = nullptr;

  M3I_HD Index taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  M3I_HD Index voxels() const { return batch * axis[0].count * axis[1].count * axis[2].count; }
  M3I_HD Index group_source() const { return source_channels / groups; }
  M3I_HD Index group_result() const { return result_channels / groups; }
  /// Tap t of the walk, or (t0, t1, t2), among all of the convolution.
  M3I_HD Index kernel_tap(Index t) const {
    const Index row = t / axis[2].taps;
    return kernel_tap(row / axis[1].taps, row % axis[1].taps, t % axis[2].taps);
  }
  M3I_HD Index kernel_tap(Index t0, Index t1, Index t2) const {
    const Index plane = axis[0].kernel_tap(t0) * axis[1].kernel + axis[1].kernel_tap(t1);
    return plane * axis[2].kernel + axis[2].kernel_tap(t2);
  }

  /// The forward pass: source x, result y.
  M3I_HD static GatherSum forward(const Conv3dGeometry& g, const T* x, T* y) {
    return {g.batch,
            g.groups,
            g.in_channels,
            g.out_channels,
            {GatherAxis::forward(g, 0), GatherAxis::forward(g, 1), GatherAxis::forward(g, 2)},
            x,
            y};
  }
  /// Phase (r0, r1, r2) of the input gradient: source dy, result dx.
  M3I_HD static GatherSum input_grad(const Conv3dGeometry& g, Index r0, Index r1, Index r2, const T* dy, T* dx) {
    return {g.batch,
            g.groups,
            g.out_channels,
            g.in_channels,
            {GatherAxis::input_grad(g, 0, r0), GatherAxis::input_grad(g, 1, r1), GatherAxis::input_grad(g, 2, r2)},
            dy,
            dx};
  }
};

/// Where the weight of tap t of the convolution between source channel s and result channel r of a group stands:
/// w[group * group_stride + t * tap_stride + s * source_stride + r * result_stride].
template <class T>
struct GatherWeights {
  const T* w;
  Index group_stride, tap_stride, source_stride, result_stride;

  M3I_HD static GatherWeights forward(const Conv3dGeometry& g, const T* w) {
    const Index depth = g.taps() * g.group_in();
    return {w, g.group_out() * depth, g.group_in(), 1, depth};
  }
  M3I_HD static GatherWeights input_grad(const Conv3dGeometry& g, const T* w) {
    const Index depth = g.taps() * g.group_in();
    return {w, g.group_out() * depth, g.group_in(), depth, 1};
  }
};

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
