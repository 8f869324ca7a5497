#pragma once
/// Connected components of label volumes, and the largest of each label.
///
/// Voxels are joined as runs along k, by union and find: time is linear in the voxels, and memory in the runs of labels
/// other than 0 (at most 16 bytes a voxel, for a volume of noise; some hundredths of that for anatomy).

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Which voxels touch: those that share a face (6), also an edge (18), also a corner (26).
enum class Neighbours { faces = 6, edges = 18, corners = 26 };

/// Reads 6, 18 or 26.
inline Neighbours parse_neighbours(int count) {
  require<ConfigError>(count == 6 || count == 18 || count == 26, "neighbours: ", count, " is not one of 6, 18, 26");
  return static_cast<Neighbours>(count);
}

namespace detail {

/// Runs of equal labels along k, joined into components. Runs are numbered in the order of their first voxel.
template <class L>
class RunForest {
 public:
  RunForest(const Tensor<L>& labels, Neighbours neighbours) : n_(size3(labels.shape())) {
    require_volume("connected_components", labels);
    require(n_[2] <= std::numeric_limits<std::int32_t>::max(), "connected_components: an axis of ", n_[2], " voxels");
    find_runs(labels);
    for (Index i = 0; i < n_[0]; ++i)
      for (Index j = 0; j < n_[1]; ++j) join_line(i, j, neighbours);
    for (std::uint32_t r = 0; r < parent_.size(); ++r) parent_[r] = root(r);
  }

  /// Calls f(run's root, first voxel, voxels, label) in order.
  template <class F>
  void for_each_run(const F& f) const {
    for (Index line = 0; line + 1 < Index(first_.size()); ++line)
      for (std::uint32_t r = first_[std::size_t(line)]; r < first_[std::size_t(line) + 1]; ++r)
        f(parent_[r], line * n_[2] + begin_[r], Index(end_[r] - begin_[r]), label_[r]);
  }
  std::size_t runs() const { return parent_.size(); }

 private:
  void find_runs(const Tensor<L>& labels) {
    const Index lines = n_[0] * n_[1];
    first_.reserve(std::size_t(lines) + 1);
    for (Index line = 0; line < lines; ++line) {
      first_.push_back(std::uint32_t(parent_.size()));
      const L* v = labels.data() + line * n_[2];
      for (Index k = 0; k < n_[2];) {
        Index end = k + 1;
        while (end < n_[2] && v[end] == v[k]) ++end;
        if (v[k] != L(0)) {
          require(parent_.size() < std::numeric_limits<std::uint32_t>::max(),
                  "connected_components: more than 4294967294 runs of labels");
          begin_.push_back(std::int32_t(k)), end_.push_back(std::int32_t(end)), label_.push_back(v[k]);
          parent_.push_back(std::uint32_t(parent_.size()));
        }
        k = end;
      }
    }
    first_.push_back(std::uint32_t(parent_.size()));
  }
  /// Joins a line with those before it that it touches. How far runs may be apart along k: 0 for faces; 1 where a
  /// diagonal step is allowed.
  void join_line(Index i, Index j, Neighbours neighbours) {
    const Index diagonal = neighbours == Neighbours::faces ? 0 : 1;
    join_lines(i, j, i, j - 1, diagonal);
    join_lines(i, j, i - 1, j, diagonal);
    if (neighbours == Neighbours::faces) return;
    const Index corner = neighbours == Neighbours::corners ? 1 : 0;
    join_lines(i, j, i - 1, j - 1, corner);
    join_lines(i, j, i - 1, j + 1, corner);
  }
  void join_lines(Index i, Index j, Index other_i, Index other_j, Index reach) {
    if (other_i < 0 || other_j < 0 || other_j >= n_[1]) return;
    const auto here = std::size_t(i * n_[1] + j), there = std::size_t(other_i * n_[1] + other_j);
    std::uint32_t a = first_[here], b = first_[there];
    while (a < first_[here + 1] && b < first_[there + 1]) {
      if (label_[a] == label_[b] && begin_[a] < end_[b] + reach && begin_[b] < end_[a] + reach) join(a, b);
      // The run that ends first is done with, unless the next one of the other line can still reach it.
      if (end_[a] < end_[b]) ++a;
      else if (end_[b] < end_[a]) ++b;
      else if (reach > 0) step_past_equal_ends(a, b, here, there);
      else ++a, ++b;
    }
  }
  /// Two runs end together: each may touch the run after the other one diagonally.
  void step_past_equal_ends(std::uint32_t& a, std::uint32_t& b, std::size_t here, std::size_t there) {
    const std::uint32_t next_a = a + 1, next_b = b + 1;
    if (next_a < first_[here + 1] && begin_[next_a] == end_[b] && label_[next_a] == label_[b]) join(next_a, b);
    if (next_b < first_[there + 1] && begin_[next_b] == end_[a] && label_[next_b] == label_[a]) join(a, next_b);
    a = next_a, b = next_b;
  }
  std::uint32_t root(std::uint32_t r) {
    while (parent_[r] != r) r = parent_[r] = parent_[parent_[r]];
    return r;
  }
  void join(std::uint32_t a, std::uint32_t b) {
    a = root(a), b = root(b);
    if (a < b) parent_[b] = a;
    else parent_[a] = b;
  }

  Size3 n_;
  std::vector<std::uint32_t> first_, parent_;  // first_: the first run of each line
  std::vector<std::int32_t> begin_, end_;
  std::vector<L> label_;
};

}  // namespace detail

/// Components of labels other than 0, numbered from 1 in the order of their first voxels; 0 elsewhere.
struct LabelledComponents {
  Tensor<std::int32_t> ids;   ///< [I, J, K]
  std::vector<Index> voxels;  ///< of each component; entry 0 is component 1
};

/// Voxels of one label that touch are one component. labels [I, J, K], in host memory.
template <class L>
LabelledComponents connected_components(const Tensor<L>& labels, Neighbours neighbours = Neighbours::corners) {
  const detail::RunForest<L> forest(labels, neighbours);
  LabelledComponents out{Tensor<std::int32_t>::zeros(labels.shape()), {}};
  std::vector<std::int32_t> ids(forest.runs(), 0);
  forest.for_each_run([&](std::uint32_t root, Index at, Index count, L) {
    if (ids[root] == 0) {
      out.voxels.push_back(0);
      ids[root] = std::int32_t(out.voxels.size());
    }
    out.voxels[std::size_t(ids[root] - 1)] += count;
    std::fill_n(out.ids.data() + at, count, ids[root]);
  });
  return out;
}

/// Keeps of each label its largest component, the first one of equals; the rest becomes 0, in place. Returns the number
/// of voxels that were removed.
template <class L>
Index keep_largest_component(const Tensor<L>& labels, Neighbours neighbours = Neighbours::corners) {
  const detail::RunForest<L> forest(labels, neighbours);
  std::vector<Index> voxels(forest.runs(), 0);
  forest.for_each_run([&](std::uint32_t root, Index, Index count, L) { voxels[root] += count; });
  std::map<L, std::uint32_t> largest;
  forest.for_each_run([&](std::uint32_t root, Index, Index, L label) {
    const auto [at, fresh] = largest.emplace(label, root);
    if (!fresh && voxels[root] > voxels[at->second]) at->second = root;
  });
  Index removed = 0;
  forest.for_each_run([&](std::uint32_t root, Index at, Index count, L label) {
    if (largest.at(label) == root) return;
    std::fill_n(labels.data() + at, count, L(0));
    removed += count;
  });
  return removed;
}

}  // namespace M3I_ABI
}  // namespace m3i
