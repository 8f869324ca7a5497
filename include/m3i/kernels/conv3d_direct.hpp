#pragma once
/// 3-D convolution as its definition, one element of the result per index: the GPU's body where cuDNN has none, the
/// emulated device's, and the oracle of the tests.

#include "m3i/core/dtype.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The sizes of one convolution, checked, as plain numbers that a kernel can take by value.
/// Output voxel o and tap k of an axis meet input voxel o * stride - padding + k * dilation.
struct Conv3dGeometry {
  Index batch, in_channels, out_channels, groups;
  Index in[3], out[3], kernel[3], stride[3], padding[3], dilation[3];

  M3I_HD Index taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  M3I_HD Index group_in() const { return in_channels / groups; }
  M3I_HD Index group_out() const { return out_channels / groups; }
  M3I_HD Index in_voxels() const { return in[0] * in[1] * in[2]; }
  M3I_HD Index out_voxels() const { return out[0] * out[1] * out[2]; }
  /// The input position that output position o meets at tap k, or -1 outside the volume.
  M3I_HD Index input_position(int axis, Index o, Index k) const {
    const Index i = o * stride[axis] - padding[axis] + k * dilation[axis];
    return i < in[axis] ? i : -1;
  }
  /// The output position that meets input position i at tap k, or -1 when there is none.
  M3I_HD Index output_position(int axis, Index i, Index k) const {
    const Index shifted = i + padding[axis] - k * dilation[axis];
    if (shifted < 0 || shifted % stride[axis] != 0) return -1;
    const Index o = shifted / stride[axis];
    return o < out[axis] ? o : -1;
  }
};

namespace detail {

/// y[n, o, co] = bias[co] + sum over taps and ci of x[n, position, ci] w[co, tap, ci]
template <class T>
struct Conv3dForward {
  using A = accumulate_t<T>;
  const T *x, *w, *bias;
  T* y;
  Conv3dGeometry g;

  M3I_HD void operator()(Index i) const {
    const Index co = i % g.out_channels, voxel = i / g.out_channels;
    const Index o2 = voxel % g.out[2], o1 = voxel / g.out[2] % g.out[1], o0 = voxel / g.out[2] / g.out[1] % g.out[0];
    const Index n = voxel / g.out_voxels(), channels = g.group_in(), first = co / g.group_out() * channels;
    A total = bias ? A(bias[co]) : A(0);
    const T* weight = w + co * g.taps() * channels;
    for (Index k0 = 0; k0 < g.kernel[0]; ++k0)
      for (Index k1 = 0; k1 < g.kernel[1]; ++k1)
        for (Index k2 = 0; k2 < g.kernel[2]; ++k2, weight += channels) {
          const Index i0 = g.input_position(0, o0, k0), i1 = g.input_position(1, o1, k1),
                      i2 = g.input_position(2, o2, k2);
          if (i0 < 0 || i1 < 0 || i2 < 0) continue;
          const T* value = x + (((n * g.in[0] + i0) * g.in[1] + i1) * g.in[2] + i2) * g.in_channels + first;
          for (Index c = 0; c < channels; ++c) total += A(value[c]) * A(weight[c]);
        }
    y[i] = T(total);
  }
};

/// dx[n, i, ci] += sum over taps and co of dy[n, position, co] w[co, tap, ci]
template <class T>
struct Conv3dInputGrad {
  using A = accumulate_t<T>;
  const T *dy, *w;
  T* dx;
  Conv3dGeometry g;

  M3I_HD void operator()(Index i) const {
    const Index ci = i % g.in_channels, voxel = i / g.in_channels;
    const Index i2 = voxel % g.in[2], i1 = voxel / g.in[2] % g.in[1], i0 = voxel / g.in[2] / g.in[1] % g.in[0];
    const Index n = voxel / g.in_voxels(), channels = g.group_out(), first = ci / g.group_in() * channels;
    A total = 0;
    Index tap = 0;
    for (Index k0 = 0; k0 < g.kernel[0]; ++k0)
      for (Index k1 = 0; k1 < g.kernel[1]; ++k1)
        for (Index k2 = 0; k2 < g.kernel[2]; ++k2, ++tap) {
          const Index o0 = g.output_position(0, i0, k0), o1 = g.output_position(1, i1, k1),
                      o2 = g.output_position(2, i2, k2);
          if (o0 < 0 || o1 < 0 || o2 < 0) continue;
          const T* value = dy + (((n * g.out[0] + o0) * g.out[1] + o1) * g.out[2] + o2) * g.out_channels + first;
          const T* weight = w + (first * g.taps() + tap) * g.group_in() + ci % g.group_in();
          for (Index c = 0; c < channels; ++c) total += A(value[c]) * A(weight[c * g.taps() * g.group_in()]);
        }
    dx[i] = T(A(dx[i]) + total);
  }
};

/// dw[co, tap, ci] += sum over n and o of dy[n, o, co] x[n, position, ci]
template <class T>
struct Conv3dWeightGrad {
  using A = accumulate_t<T>;
  const T *x, *dy;
  T* dw;
  Conv3dGeometry g;

  M3I_HD void operator()(Index i) const {
    const Index c = i % g.group_in(), tap = i / g.group_in() % g.taps(), co = i / g.group_in() / g.taps();
    const Index k2 = tap % g.kernel[2], k1 = tap / g.kernel[2] % g.kernel[1], k0 = tap / g.kernel[2] / g.kernel[1];
    const Index ci = co / g.group_out() * g.group_in() + c;
    A total = 0;
    for (Index n = 0; n < g.batch; ++n)
      for (Index o0 = 0; o0 < g.out[0]; ++o0)
        for (Index o1 = 0; o1 < g.out[1]; ++o1)
          for (Index o2 = 0; o2 < g.out[2]; ++o2) {
            const Index i0 = g.input_position(0, o0, k0), i1 = g.input_position(1, o1, k1),
                        i2 = g.input_position(2, o2, k2);
            if (i0 < 0 || i1 < 0 || i2 < 0) continue;
            total += A(dy[(((n * g.out[0] + o0) * g.out[1] + o1) * g.out[2] + o2) * g.out_channels + co]) *
                     A(x[(((n * g.in[0] + i0) * g.in[1] + i1) * g.in[2] + i2) * g.in_channels + ci]);
          }
    dw[i] = T(A(dw[i]) + total);
  }
};

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
