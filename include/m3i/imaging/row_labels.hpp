#pragma once
/// Labels on another grid from scores that come row by row: the way back of a prediction whose scores are too many to
/// be kept.

#include <cstdint>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The most likely class of each target voxel, the same as labels_on_grid() gives from all scores at once: interpolated
/// class by class, then compared; ties go to the lower class, outside is 0. Keeps one row of scores.
///
///     RowLabels<float> out(source, axis, map, target);
///     for (Index r = 0; r < source[axis]; ++r) out.add(r, scores);
///     out.labels();
template <class T>
class RowLabels {
 public:
  /// Rows are slices, across `axis`, of a source of these extents; map: target voxel -> source voxel.
  RowLabels(const Size3& source, int axis, const Affine& map, const Size3& target)
      : source_(source),
        target_(target),
        map_(map),
        axis_(axis),
        labels_(Tensor<std::uint8_t>::zeros(shape_of(target))) {
    other_ = {axis == 0 ? 1u : 0u, axis == 2 ? 1u : 2u};
  }

  /// Row r, the one after the last; scores [P, Q, K] of the two other axes, in order.
  void add(Index r, const Tensor<T>& scores) {
    const Shape want{source_[other_[0]], source_[other_[1]]};
    require(r == next_ && r < rows() && scores.rank() == 3 && scores.shape().slice(0, 2) == want && scores.size() > 0,
            "row_labels: row ", r, " of scores ", scores.shape(), ", expected row ", next_, " of ", rows(), " as [",
            want[0], ", ", want[1], ", K]");
    require(scores.shape()[2] <= 256, "row_labels: ", scores.shape()[2], " classes, expected at most 256");
    const bool last = r + 1 == rows();
    if (r > 0 || last) label_between(r, before_.defined() ? before_ : scores, scores);
    if (!last && !before_.defined()) before_ = Tensor<T>(scores.shape());
    if (!last) before_.copy_from(scores);
    ++next_;
  }
  /// On the target grid, once all rows have been added.
  const Tensor<std::uint8_t>& labels() const {
    require(next_ == rows(), "row_labels: ", next_, " of ", rows(), " rows have been added");
    return labels_;
  }

 private:
  static constexpr double tie = 1e-6;  // in source voxels; as in resampling

  Index rows() const { return source_[std::size_t(axis_)]; }

  /// The target voxels whose lower row is r - 1 (or, after the last row, r): source coordinates [r - 1, r), and what
  /// lies before the first and after the last row.
  void label_between(Index r, const Tensor<T>& low, const Tensor<T>& high) {
    const double from = r <= 1 ? -HUGE_VAL : double(r - 1) - tie, to = r + 1 == rows() ? HUGE_VAL : double(r) + tie;
    const Size3& m = target_;
    const double step_j = map_(axis_, 1), step_k = map_(axis_, 2);
    std::vector<Index> planes;  // those that the rows reach
    for (Index i = 0; i < m[0]; ++i) {
      const double x = map_({double(i), 0, 0})[std::size_t(axis_)];
      const double j = step_j * double(m[1] - 1), k = step_k * double(m[2] - 1);
      if (x + std::max(0.0, j) + std::max(0.0, k) >= from - tie && x + std::min(0.0, j) + std::min(0.0, k) <= to + tie)
        planes.push_back(i);
    }
    parallel_chunks(Index(planes.size()) * m[1], 32, [&](Index begin, Index end) {
      std::vector<double> sums(std::size_t(low.shape()[2]));
      for (Index line = begin; line < end; ++line) {
        const Index i = planes[std::size_t(line / m[1])], j = line % m[1];
        const double x = map_({double(i), double(j), 0})[std::size_t(axis_)];
        const double along = step_k * double(m[2] - 1);
        if (x + std::max(0.0, along) < from - tie || x + std::min(0.0, along) > to + tie) continue;
        Index first = 0, past = m[2];
        if (std::abs(step_k) > 1e-9) {  // where the line can be between the rows; each voxel is looked at exactly below
          const double a = (from - x) / step_k, b = (to - x) / step_k, top = double(m[2]);
          first = Index(std::clamp(std::floor(std::min(a, b)) - 1, 0.0, top));
          past = Index(std::clamp(std::ceil(std::max(a, b)) + 2, 0.0, top));
        }
        for (Index k = first; k < past; ++k) {
          std::uint8_t& label = labels_.data()[(i * m[1] + j) * m[2] + k];
          label_voxel(map_({double(i), double(j), double(k)}), r, low, high, sums.data(), label);
        }
      }
    });
  }

  void label_voxel(
      const Point3& x, Index r, const Tensor<T>& low, const Tensor<T>& high, double* sums, std::uint8_t& label) const {
    Size3 at, next;
    Point3 w;
    for (std::size_t a = 0; a < 3; ++a) {
      const Index n = source_[a];
      if (!(x[a] >= -0.5 - tie && x[a] <= double(n) - 0.5 + tie)) return;
      const double y = std::clamp(x[a], 0.0, double(n - 1));
      at[a] = Index(y);
      next[a] = std::min(at[a] + 1, n - 1);
      w[a] = y - double(at[a]);
    }
    const auto a = std::size_t(axis_);
    const auto [p, q] = other_;
    const bool on_last = at[a] == r && r + 1 == rows();
    if (at[a] != r - 1 && !on_last) return;
    const Index classes = low.shape()[2], columns = low.shape()[1];
    std::fill_n(sums, classes, 0.0);
    for (int corner = 0; corner < 8; ++corner) {
      const bool up = corner & 4, far_p = corner & 2, far_q = corner & 1;
      const double weight = (up ? w[a] : 1 - w[a]) * (far_p ? w[p] : 1 - w[p]) * (far_q ? w[q] : 1 - w[q]);
      if (weight == 0) continue;
      const T* row = up || on_last ? high.data() : low.data();
      const T* from = row + ((far_p ? next[p] : at[p]) * columns + (far_q ? next[q] : at[q])) * classes;
      M3I_SIMD for (Index c = 0; c < classes; ++c) sums[c] += weight * double(from[c]);
    }
    label = std::uint8_t(std::max_element(sums, sums + classes) - sums);
  }

  Size3 source_, target_;
  Affine map_;
  int axis_;
  std::array<std::size_t, 2> other_{};
  Tensor<std::uint8_t> labels_;
  Tensor<T> before_;
  Index next_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
