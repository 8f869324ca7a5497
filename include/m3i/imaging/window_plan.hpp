#pragma once
/// Where the windows of sliding-window inference lie, how they are weighed, and what memory it takes to stitch them.
///
/// As in MONAI: an axis shorter than the window is padded with zeros, d div 2 before and the rest after; the step is
/// floor(window * (1 - overlap)), at least 1; the last window of an axis is moved back to end at the edge.

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How much a prediction counts by its place in the window.
enum class Importance { constant, gaussian };

/// How a volume is cut into windows and what is done with each.
struct SlidingWindow {
  Size3 window{128, 128, 128};
  Point3 overlap{0.5, 0.5, 0.5};  ///< share of a window that the next one covers again, in [0, 1)
  Importance importance = Importance::gaussian;
  double sigma_scale = 0.125;                       ///< gaussian: standard deviation over the window's edge
  Index batch = 1;                                  ///< windows that the predictor sees at once
  std::array<bool, 3> mirror{false, false, false};  ///< averaged over the mirror images along every subset of these

  /// Called when memory ran out and the batch was halved: the new batch, and the error's words.
  std::function<void(Index batch, const std::string& why)> on_halved = {};

  /// How often the predictor sees each window.
  Index views() const { return (mirror[0] ? 2 : 1) * (mirror[1] ? 2 : 1) * (mirror[2] ? 2 : 1); }
};

/// First voxels of the windows along one axis, which is padded to one window if it is shorter. The product
/// window * (1 - overlap) is taken in double precision: a window of 20 with overlap 0.9 gives 1.9999999999999996 and so
/// a step of 1.
inline std::vector<Index> window_starts(Index size, Index window, double overlap) {
  require(window > 0 && size > 0, "sliding_window: a window of ", window, " in ", size,
          " voxels, expected 1 or more of both");
  require(overlap >= 0 && overlap < 1, "sliding_window: overlap ", overlap, ", expected at least 0 and less than 1");
  size = std::max(size, window);
  const Index step = size == window ? window : std::max<Index>(1, Index(double(window) * (1 - overlap)));
  std::vector<Index> starts;
  for (Index at = 0;; at += step) {
    starts.push_back(std::min(at, size - window));
    if (at >= size - window) return starts;
  }
}

/// Weights of the voxels of a window [d, h, w]. Gaussian: the product over the axes of
/// exp(-(x - (n - 1) / 2)^2 / (2 (sigma_scale n)^2)), not normalised; values below max(the smallest, 0.001) are raised
/// to that, so that no voxel goes without weight.
template <class T>
Tensor<T> importance_map(const Size3& window, Importance importance, double sigma_scale = 0.125) {
  if (importance == Importance::constant) return Tensor<T>::full(shape_of(window), T(1));
  require(sigma_scale > 0, "importance_map: sigma_scale ", sigma_scale, ", expected more than 0");
  std::array<std::vector<double>, 3> bell;
  double smallest = 1;
  for (std::size_t a = 0; a < 3; ++a) {
    const auto n = double(window[a]), sigma = sigma_scale * n;
    for (Index i = 0; i < window[a]; ++i) {
      const double x = double(i) - (n - 1) / 2;
      bell[a].push_back(std::exp(-x * x / (2 * sigma * sigma)));
    }
    smallest *= bell[a].front();
  }
  const double floor = std::max(smallest, 1e-3);
  const Tensor<T> map(shape_of(window));
  T* to = map.data();
  for (const double x : bell[0])
    for (const double y : bell[1])
      for (const double z : bell[2]) *to++ = T(std::max(x * y * z, floor));
  return map;
}

/// All windows of a volume, and the axis along which it is walked.
///
/// Windows are taken slab by slab: all those that start at one place of the slab axis, then the next. Rows (slices
/// across that axis) before the next slab's start are finished; only the others, as many as the window is long, are
/// kept. The axis is the one with the least to keep: usually the longest.
struct WindowPlan {
  Size3 size, window;  ///< of the volume; of a window
  Size3 before;        ///< voxels of padding before the volume
  std::array<std::vector<Index>, 3> starts;
  int axis = 0;    ///< the slab axis
  Index rows = 0;  ///< rows that are kept at a time

  Index windows() const { return Index(starts[0].size() * starts[1].size() * starts[2].size()); }
  Index slab_windows() const { return windows() / Index(starts[std::size_t(axis)].size()); }
  /// The two other axes, in order.
  std::array<std::size_t, 2> across() const { return {axis == 0 ? 1u : 0u, axis == 2 ? 1u : 2u}; }
  /// Voxels of a row.
  Index row_voxels() const { return size[across()[0]] * size[across()[1]]; }
};

inline WindowPlan plan_windows(const Size3& size, const SlidingWindow& options) {
  require<ConfigError>(options.batch > 0, "sliding_window: a batch of ", options.batch, " windows, expected 1 or more");
  WindowPlan plan;
  plan.size = size;
  plan.window = options.window;
  for (std::size_t a = 0; a < 3; ++a) {
    plan.starts[a] = window_starts(size[a], options.window[a], options.overlap[a]);
    plan.before[a] = std::max<Index>(0, options.window[a] - size[a]) / 2;
  }
  for (int a = 0; a < 3; ++a) {
    const auto x = std::size_t(a);
    const auto kept = [&](std::size_t b) { return std::min(plan.window[b], size[b]); };
    const auto held = [&](std::size_t b) { return kept(b) * (size[0] * size[1] * size[2] / size[b]); };
    if (a == 0 || held(x) < held(std::size_t(plan.axis))) plan.axis = a, plan.rows = kept(x);
  }
  return plan;
}

/// Bytes that stitching takes in host memory, besides the volume itself and what the predictor uses inside.
struct SlidingWindowMemory {
  Index windows = 0;  ///< a batch of windows and its scores
  Index sums = 0;     ///< weighted scores and weights of the open rows, and the weights of a window
  Index carried = 0;  ///< labels on another grid: the row before, for interpolation
  Index result = 0;   ///< labels, or all scores

  Index total() const { return windows + sums + carried + result; }
  std::string text() const {
    const auto mib = [](Index bytes) { return m3i::text((bytes + (Index(1) << 20) - 1) >> 20, " MiB"); };
    return m3i::text(mib(total()), " (windows ", mib(windows), ", open rows ", mib(sums + carried), ", result ",
                     mib(result), ")");
  }
};

/// What stitching gives: scores of all classes for every voxel, labels on the volume's grid, or labels on another one.
enum class Stitched { scores, labels, labels_elsewhere };

/// The need for a volume of `size` with `channels`, before anything is allocated; T: type of scores. `target_voxels`:
/// of the other grid.
template <class T = float>
SlidingWindowMemory sliding_window_memory(const Size3& size,
                                          Index channels,
                                          Index classes,
                                          const SlidingWindow& options,
                                          Stitched result = Stitched::labels,
                                          Index target_voxels = 0) {
  const WindowPlan plan = plan_windows(size, options);
  const auto block = [](Index count, std::size_t each) { return Index(detail::size_class(std::size_t(count) * each)); };
  const Index window = plan.window[0] * plan.window[1] * plan.window[2], voxels = size[0] * size[1] * size[2];
  const Index batch = std::min(options.batch, plan.slab_windows());
  SlidingWindowMemory need;
  need.windows = block(batch * window * channels, sizeof(T)) + block(batch * window * classes, sizeof(T));
  need.sums = block(plan.rows * plan.row_voxels() * classes, sizeof(T)) +
              block(plan.rows * plan.row_voxels(), sizeof(T)) + block(window, sizeof(T));
  if (result == Stitched::scores) need.result = block(voxels * classes, sizeof(T));
  else need.result = block(result == Stitched::labels ? voxels : target_voxels, 1);
  if (result == Stitched::labels_elsewhere) need.carried = block(plan.row_voxels() * classes, sizeof(T));
  return need;
}

}  // namespace M3I_ABI
}  // namespace m3i
