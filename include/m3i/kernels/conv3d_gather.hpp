#pragma once
/// What the host's convolutions compute: result voxels that gather source voxels at a list of taps. Forward pass and
/// input gradient are the same walk.

#include <vector>

#include "m3i/core/shape.hpp"

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
};

/// Where the weight between source channel s and result channel r of a group stands:
/// w[group * group_stride + tap[t] + s * source_stride + r * result_stride].
template <class T>
struct GatherWeights {
  const T* w;
  std::vector<Index> tap;
  Index group_stride, source_stride, result_stride;
};

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
