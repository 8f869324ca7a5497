#pragma once
/// conv3d for GPUs without the help of cuDNN: part of the volume is unfolded into a matrix, one row an output voxel,
/// and multiplied by gemm. Runs on the emulated device too.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/conv3d_direct.hpp"
#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/gemm.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Rows [first, ...) of a group's matrix: matrix[row, tap, c] = x[n, position, c], 0 outside the volume.
template <class T>
struct Unfold {
  const T* x;
  T* matrix;
  Conv3dGeometry g;
  Index group, first;
  M3I_HD void operator()(Index i) const {
    const Index channels = g.group_in(), c = i % channels, tap = i / channels % g.taps();
    const Index voxel = first + i / channels / g.taps(), n = voxel / g.out_voxels();
    const Index i0 = g.input_position(0, voxel / g.out[2] / g.out[1] % g.out[0], tap / g.kernel[2] / g.kernel[1]),
                i1 = g.input_position(1, voxel / g.out[2] % g.out[1], tap / g.kernel[2] % g.kernel[1]),
                i2 = g.input_position(2, voxel % g.out[2], tap % g.kernel[2]);
    const bool inside = i0 >= 0 && i1 >= 0 && i2 >= 0;
    matrix[i] = inside ? x[(((n * g.in[0] + i0) * g.in[1] + i1) * g.in[2] + i2) * g.in_channels + group * channels + c]
                       : T(0.0f);
  }
};

/// The transpose of Unfold, by the owners: index i is a channel of an input voxel, counted from batch item `item` on.
template <class T>
struct Fold {
  using A = accumulate_t<T>;
  const T* matrix;
  T* dx;
  Conv3dGeometry g;
  Index group, first, rows, item;
  M3I_HD void operator()(Index i) const {
    const Index channels = g.group_in(), c = i % channels, voxel = i / channels + item * g.in_voxels();
    const Index i2 = voxel % g.in[2], i1 = voxel / g.in[2] % g.in[1], i0 = voxel / g.in[2] / g.in[1] % g.in[0];
    const Index n = voxel / g.in_voxels();
    A total = 0;
    Index tap = 0;
    for (Index k0 = 0; k0 < g.kernel[0]; ++k0)
      for (Index k1 = 0; k1 < g.kernel[1]; ++k1)
        for (Index k2 = 0; k2 < g.kernel[2]; ++k2, ++tap) {
          const Index o0 = g.output_position(0, i0, k0), o1 = g.output_position(1, i1, k1),
                      o2 = g.output_position(2, i2, k2);
          const Index row = ((n * g.out[0] + o0) * g.out[1] + o1) * g.out[2] + o2 - first;
          if (o0 >= 0 && o1 >= 0 && o2 >= 0 && row >= 0 && row < rows)
            total += A(matrix[(row * g.taps() + tap) * channels + c]);
        }
    T& out = dx[voxel * g.in_channels + group * channels + c];
    out = T(A(out) + total);
  }
};

/// Calls f(group, first, rows, matrix) for runs of output voxels whose matrix takes at most `memory` bytes.
template <class T, class F>
void for_unfolded(Device device, const Conv3dGeometry& g, Index memory, const F& f) {
  const Index depth = g.taps() * g.group_in(), voxels = g.batch * g.out_voxels();
  const Index most = std::clamp<Index>(memory / std::max<Index>(1, depth * Index(sizeof(T))), 1, voxels);
  const Tensor<T> matrix({most, depth}, device);
  for (Index group = 0; group < g.groups; ++group)
    for (Index first = 0; first < voxels; first += most) f(group, first, std::min(most, voxels - first), matrix.data());
}

inline constexpr Index unfold_memory = Index(256) << 20;

template <class T>
void conv3d_unfold_forward(
    Device device, const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y, Index memory = unfold_memory) {
  if (g.group_in() == 1 && g.groups > 1)
    return for_each(device, g.batch * g.out_voxels() * g.out_channels, Conv3dForward<T>{x, w, bias, y, g});
  const Index depth = g.taps() * g.group_in(), outs = g.group_out();
  for_unfolded<T>(device, g, memory, [&](Index group, Index first, Index rows, T* matrix) {
    for_each(device, rows * depth, Unfold<T>{x, matrix, g, group, first});
    gemm<T>(device, false, true, rows, outs, depth, 1, matrix, depth, w + group * outs * depth, depth, 0,
            y + first * g.out_channels + group * outs, g.out_channels, bias ? bias + group * outs : nullptr);
  });
}

template <class T>
void conv3d_unfold_input_grad(
    Device device, const Conv3dGeometry& g, const T* dy, const T* w, T* dx, Index memory = unfold_memory) {
  if (g.group_in() == 1 && g.groups > 1)
    return for_each(device, g.batch * g.in_voxels() * g.in_channels, Conv3dInputGrad<T>{dy, w, dx, g});
  const Index depth = g.taps() * g.group_in(), outs = g.group_out();
  for_unfolded<T>(device, g, memory, [&](Index group, Index first, Index rows, T* matrix) {
    gemm<T>(device, false, false, rows, depth, outs, 1, dy + first * g.out_channels + group * outs, g.out_channels,
            w + group * outs * depth, depth, 0, matrix, depth);
    const Index item = first / g.out_voxels(), items = (first + rows - 1) / g.out_voxels() - item + 1;
    for_each(device, items * g.in_voxels() * g.group_in(), Fold<T>{matrix, dx, g, group, first, rows, item});
  });
}

template <class T>
void conv3d_unfold_weight_grad(
    Device device, const Conv3dGeometry& g, const T* x, const T* dy, T* dw, Index memory = unfold_memory) {
  if (g.group_in() == 1 && g.groups > 1)
    return for_each(device, g.out_channels * g.taps(), Conv3dWeightGrad<T>{x, dy, dw, g});
  const Index depth = g.taps() * g.group_in(), outs = g.group_out();
  for_unfolded<T>(device, g, memory, [&](Index group, Index first, Index rows, T* matrix) {
    for_each(device, rows * depth, Unfold<T>{x, matrix, g, group, first});
    gemm<T>(device, true, false, outs, depth, rows, 1, dy + first * g.out_channels + group * outs, g.out_channels,
            matrix, depth, 1, dw + group * outs * depth, depth);
  });
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
