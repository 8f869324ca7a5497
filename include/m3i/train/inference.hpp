#pragma once
/// A segmentation model on volumes of any size: windows of the network's input, stitched slab by slab, and labels
/// brought back to the grid that the volume came with.
///
/// A volume that the chain has scaled to the network's cube is one window; a larger one (data.fit = patch) takes many.
/// What is averaged over windows and mirror images, and interpolated on the way back, are probabilities.

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "m3i/autodiff/backward.hpp"
#include "m3i/imaging/chain.hpp"
#include "m3i/imaging/components.hpp"
#include "m3i/imaging/row_labels.hpp"
#include "m3i/imaging/sliding_window.hpp"
#include "m3i/ops/softmax.hpp"
#include "m3i/train/finetune.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What may be chosen when a model is applied.
struct InferenceOptions {
  double overlap = 0.5;                             ///< of neighbouring windows
  std::array<bool, 3> mirror{false, false, false};  ///< averaged over mirror images along these axes of the network
  Index window_batch = 1;                           ///< windows that the network sees at once
  bool largest_component = false;                   ///< keep the largest component of each label alone
};

/// The same as options of a program.
struct InferenceRequest {
  std::optional<double> overlap;
  std::string mirror;
  Index window_batch = 1;
  bool largest_component = false;

  /// App is CLI::App, Range is CLI::Range.
  template <class Range, class App>
  void add_to(App& app) {
    app.add_option("--overlap", overlap, "of neighbouring windows, 0 to 0.95 (default: the model's, 0.5)")
        ->check(Range(0.0, 0.95));
    app.add_option("--mirror", mirror,
                   "average over mirror images along axes: x (left-right), y (back-front), z (down-up), e.g. xyz");
    app.add_option("--window-batch", window_batch, "windows at once; halved when memory runs out")
        ->capture_default_str()
        ->check(Range(1, 4096));
    app.add_flag("--largest-component", largest_component, "keep the largest component of each label, remove the rest");
  }
  /// Throws ConfigError for other axes than x, y, z.
  InferenceOptions options(const MethodConfig& config) const {
    InferenceOptions out{overlap.value_or(config.segmentation.patch.overlap), {}, window_batch, largest_component};
    for (const char c : mirror) {
      require<ConfigError>(c >= 'x' && c <= 'z', "--mirror: \"", mirror, "\" names other axes than x, y, z");
      out.mirror[std::size_t(c - 'x')] = true;
    }
    return out;
  }
};

/// The options of sliding_window for a volume and a network with inputs of S^3. One window alone needs no weights.
inline SlidingWindow window_options(const Size3& volume, Index size, const InferenceOptions& options) {
  SlidingWindow out;
  out.window = {size, size, size};
  out.overlap = {options.overlap, options.overlap, options.overlap};
  out.mirror = options.mirror;
  out.batch = options.window_batch;
  const bool one = volume[0] <= size && volume[1] <= size && volume[2] <= size;
  out.importance = one ? Importance::constant : Importance::gaussian;
  return out;
}

/// Applies a segmentation model.
template <class T>
class Segmenter {
 public:
  /// `say` gets lines for people (the memory that is needed, batches that were halved); `tick` the windows done and all
  /// windows after each batch, and may throw to stop. Both may be empty.
  using Say = std::function<void(const std::string& line)>;
  using Tick = std::function<void(Index done, Index windows)>;

  /// `model(x)[0]` are the logits [N, D, H, W, classes]; it must outlive this.
  template <class Model>
  Segmenter(const Model& model,
            Index image_size,
            Index classes,
            Device device,
            InferenceOptions options = {},
            Say say = {},
            Tick tick = {})
      : logits_([&model](const Var<T>& x) { return model(x)[0]; }),
        size_(image_size),
        classes_(classes),
        device_(device),
        options_(options),
        say_(std::move(say)),
        tick_(std::move(tick)) {}

  /// Classes on the voxels that the network sees: [I, J, K] -> [I, J, K].
  Tensor<std::uint8_t> labels(const Tensor<T>& voxels) {
    const SlidingWindow options = begin(voxels, Stitched::labels, 0);
    const Tensor<std::uint8_t> out = sliding_window_labels(voxels, options, predictor(options, voxels));
    if (options_.largest_component) keep_largest_component(out);
    return out;
  }

  /// Classes on the grid that a volume had before its chain; at most 256 of them.
  Volume<std::uint8_t> on_input_grid(const Preprocessed<T>& prepared) {
    const Tensor<T>& voxels = prepared.volume.voxels;
    const Preprocessing& record = prepared.record;
    const Size3 n = size3(voxels.shape()), m = record.input.size;
    const SlidingWindow options = begin(voxels, Stitched::labels_elsewhere, m[0] * m[1] * m[2]);
    RowLabels<T> rows(n, plan_windows(n, options).axis, inverse(record.to_input), m);
    sliding_window_rows(voxels, options, predictor(options, voxels),
                        [&](const WindowPlan&, Index r, const Tensor<T>& scores) { rows.add(r, scores); });
    if (options_.largest_component) keep_largest_component(rows.labels());
    return {rows.labels(), record.input.affine, record.header};
  }

 private:
  /// Says what memory the volume will take, if it is more than was said before.
  SlidingWindow begin(const Tensor<T>& voxels, Stitched result, Index target_voxels) {
    const Size3 n = size3(voxels.shape());
    SlidingWindow options = window_options(n, size_, options_);
    options.batch = std::min(options.batch, most_);
    options.on_halved = [this](Index batch, const std::string& why) {
      most_ = batch;  // the next volume need not try again
      if (say_) say_(text("memory ran out; going on with window batch ", batch, " (", why, ")"));
    };
    const auto need = sliding_window_memory<T>(n, 1, classes_, options, result, target_voxels);
    if (say_ && need.total() > said_) {
      said_ = need.total();
      const Index windows = plan_windows(n, options).windows();
      say_(text(windows, windows == 1 ? " window of " : " windows of ", size_, "^3 on ", n[0], " x ", n[1], " x ", n[2],
                " voxels; memory besides the network and the volume: ", need));
    }
    return options;
  }

  auto predictor(const SlidingWindow& options, const Tensor<T>& voxels) {
    const Index windows = plan_windows(size3(voxels.shape()), options).windows() * options.views();
    return [this, windows, views = options.views(), done = Index(0)](const Tensor<T>& batch) mutable {
      NoGrad guard;
      const Tensor<T> out = softmax(logits_(Var<T>(batch.to(device_)))).value();
      done += batch.shape()[0];
      if (tick_) tick_(done / views, windows / views);
      return out;
    };
  }

  std::function<Var<T>(const Var<T>&)> logits_;
  Index size_, classes_;
  Device device_;
  InferenceOptions options_;
  Say say_;
  Tick tick_;
  Index said_ = 0, most_ = Index(1) << 30;
};

}  // namespace M3I_ABI
}  // namespace m3i
