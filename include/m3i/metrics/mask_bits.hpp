#pragma once
/// Masks of one bit a voxel, cut out of label maps: a label's bounding box, its voxels and its surface.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A box of voxels, end excluded.
struct VoxelBox {
  std::array<Index, 3> begin{}, end{};

  bool empty() const { return end[0] <= begin[0]; }
  Index size(std::size_t axis) const { return end[axis] - begin[axis]; }
  /// The smallest box around both.
  VoxelBox joined(const VoxelBox& other) const {
    if (empty() || other.empty()) return empty() ? other : *this;
    VoxelBox out;
    for (std::size_t a = 0; a < 3; ++a) {
      out.begin[a] = std::min(begin[a], other.begin[a]);
      out.end[a] = std::max(end[a], other.end[a]);
    }
    return out;
  }
};

/// The box around each of the labels 0 .. classes-1 in [I, J, K], in one pass. Other labels are left out.
template <class L>
std::vector<VoxelBox> label_boxes(const Tensor<L>& labels, Index classes) {
  require(labels.rank() == 3, "label boxes: needs [I, J, K], got ", labels.shape());
  const Index J = labels.shape()[1], K = labels.shape()[2];
  std::vector<VoxelBox> boxes(static_cast<std::size_t>(classes));
  std::mutex mutex;
  parallel_for(labels.shape()[0], [&](Index i) {
    std::vector<VoxelBox> mine(boxes.size());
    const L* row = labels.data() + i * J * K;
    for (Index j = 0; j < J; ++j, row += K)
      for (Index begin = 0, end; begin < K; begin = end) {  // runs of one label
        for (end = begin + 1; end < K && row[end] == row[begin]; ++end) {
        }
        const Index label = Index(row[begin]);
        if (label < 0 || label >= classes) continue;
        mine[std::size_t(label)] = mine[std::size_t(label)].joined({{i, j, begin}, {i + 1, j + 1, end}});
      }
    const std::scoped_lock lock(mutex);
    for (std::size_t c = 0; c < boxes.size(); ++c) boxes[c] = boxes[c].joined(mine[c]);
  });
  return boxes;
}

/// One bit a voxel: voxel k of row (i, j) is bit k % 64 of word k / 64. Bits beyond K are 0.
struct MaskBits {
  Index I = 0, J = 0, K = 0, words = 0;  ///< size in voxels, and words a row
  std::vector<std::uint64_t> bits;

  MaskBits() = default;
  MaskBits(Index I_, Index J_, Index K_)
      : I(I_), J(J_), K(K_), words((K + 63) / 64), bits(std::size_t(I * J * words), 0) {}

  std::uint64_t* row(Index i, Index j) { return bits.data() + (i * J + j) * words; }
  const std::uint64_t* row(Index i, Index j) const { return bits.data() + (i * J + j) * words; }
  Index count() const {
    Index n = 0;
    for (const std::uint64_t word : bits) n += std::popcount(word);
    return n;
  }
  /// f(k) for each set voxel of a row, in rising order.
  template <class F>
  void for_each_in_row(Index i, Index j, const F& f) const {
    const std::uint64_t* w = row(i, j);
    for (Index n = 0; n < words; ++n)
      for (std::uint64_t rest = w[n]; rest; rest &= rest - 1) f(n * 64 + std::countr_zero(rest));
  }
};

namespace detail {

/// Bit b of the result: whether values[b] is the label; n <= 64 values.
template <class L>
std::uint64_t equal_bits(const L* values, Index n, L label) {
  std::uint8_t same[64] = {};
  if (n == 64) {
    M3I_SIMD
    for (int b = 0; b < 64; ++b) same[b] = values[b] == label;
  } else {
    for (Index b = 0; b < n; ++b) same[b] = values[b] == label;
  }
  std::uint64_t word = 0;
  static_assert(std::endian::native == std::endian::little, "eight bytes are read as one word, the first lowest");
  for (int b = 0; b < 64; b += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, same + b, 8);
    word |= ((eight * 0x0102040810204080u) >> 56) << b;  // the low bits of the eight bytes, side by side
  }
  return word;
}

}  // namespace detail

/// The voxels of a box that hold a label.
template <class L>
MaskBits mask_bits(const Tensor<L>& labels, L label, const VoxelBox& box) {
  MaskBits out(box.size(0), box.size(1), box.size(2));
  const Index J = labels.shape()[1], K = labels.shape()[2];
  parallel_for(out.I, [&](Index i) {
    for (Index j = 0; j < out.J; ++j) {
      const L* from = labels.data() + ((box.begin[0] + i) * J + box.begin[1] + j) * K + box.begin[2];
      std::uint64_t* to = out.row(i, j);
      for (Index k = 0; k < out.K; k += 64) *to++ = detail::equal_bits(from + k, std::min(out.K - k, Index(64)), label);
    }
  });
  return out;
}

/// The box around the set voxels.
inline VoxelBox bounding_box(const MaskBits& mask) {
  VoxelBox box;
  std::vector<std::uint64_t> any(static_cast<std::size_t>(mask.words), 0);  // over all rows
  Index begin_j = mask.J, end_j = 0, begin_i = mask.I, end_i = 0;
  for (Index i = 0; i < mask.I; ++i)
    for (Index j = 0; j < mask.J; ++j) {
      const std::uint64_t* row = mask.row(i, j);
      std::uint64_t here = 0;
      for (Index n = 0; n < mask.words; ++n) any[std::size_t(n)] |= row[n], here |= row[n];
      if (here == 0) continue;
      begin_i = std::min(begin_i, i), end_i = i + 1;
      begin_j = std::min(begin_j, j), end_j = std::max(end_j, j + 1);
    }
  if (end_i == 0) return box;
  std::size_t first = 0, last = any.size() - 1;
  while (any[first] == 0) ++first;
  while (any[last] == 0) --last;
  return {{begin_i, begin_j, Index(first) * 64 + std::countr_zero(any[first])},
          {end_i, end_j, Index(last) * 64 + 64 - std::countl_zero(any[last])}};
}

/// Part of a mask.
inline MaskBits cropped(const MaskBits& mask, const VoxelBox& box) {
  MaskBits out(box.size(0), box.size(1), box.size(2));
  const Index skip = box.begin[2] / 64;
  const int shift = int(box.begin[2] % 64);
  const std::uint64_t tail = ~std::uint64_t(0) >> ((64 - out.K % 64) % 64);
  for (Index i = 0; i < out.I; ++i)
    for (Index j = 0; j < out.J; ++j) {
      const std::uint64_t* from = mask.row(box.begin[0] + i, box.begin[1] + j) + skip;
      std::uint64_t* to = out.row(i, j);
      for (Index n = 0; n < out.words; ++n) {
        const bool more = shift > 0 && skip + n + 1 < mask.words;
        to[n] = from[n] >> shift | (more ? from[n + 1] << (64 - shift) : 0);
      }
      if (out.words > 0) to[out.words - 1] &= tail;
    }
  return out;
}

/// The set voxels with one of six neighbours that is not set. Outside counts as not set.
inline MaskBits surface_bits(const MaskBits& mask) {
  MaskBits out(mask.I, mask.J, mask.K);
  const std::vector<std::uint64_t> none(static_cast<std::size_t>(mask.words), 0);
  const auto row = [&](Index i, Index j) {
    return i < 0 || j < 0 || i >= mask.I || j >= mask.J ? none.data() : mask.row(i, j);
  };
  parallel_for(mask.I, [&](Index i) {
    for (Index j = 0; j < mask.J; ++j) {
      const std::uint64_t *here = row(i, j), *a = row(i - 1, j), *b = row(i + 1, j), *c = row(i, j - 1),
                          *d = row(i, j + 1);
      std::uint64_t* to = out.row(i, j);
      for (Index n = 0; n < mask.words; ++n) {
        const std::uint64_t before = here[n] << 1 | (n > 0 ? here[n - 1] >> 63 : 0),
                            after = here[n] >> 1 | (n + 1 < mask.words ? here[n + 1] << 63 : 0);
        to[n] = here[n] & ~(a[n] & b[n] & c[n] & d[n] & before & after);
      }
    }
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
