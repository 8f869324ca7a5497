#pragma once
/// Sliding-window inference in bounded memory: a predictor for small windows applied to a volume of any size.
///
///     const auto labels = sliding_window_labels(volume, {.window = {96, 96, 96}}, network);
///
/// The result at a voxel is the sum of weight * prediction over the windows that hold it, divided by the sum of the
/// weights. Windows are walked slab by slab (window_plan.hpp), so that only a slab of scores is ever kept; a row whose
/// last window has been seen is divided and handed on at once. sliding_window_memory() says what that takes.

#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/window_plan.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The class with the largest score; the lower one where two are equal.
template <class T>
std::uint8_t largest_class(const T* scores, Index classes) {
  return std::uint8_t(std::max_element(scores, scores + classes) - scores);
}

namespace detail {

/// A window of the plan, and along which axes it is mirrored. Reads its voxels and adds its scores to the open rows.
struct WindowView {
  const WindowPlan* plan;
  Size3 start;  ///< in the padded volume
  std::array<bool, 3> flip;

  Index source(std::size_t a, Index w) const {  // voxel of the volume; may lie in the padding
    return start[a] - plan->before[a] + w;
  }
  Index place(std::size_t a, Index w) const { return flip[a] ? plan->window[a] - 1 - w : w; }
  /// The part of the window that lies in the volume.
  Index begin(std::size_t a) const { return std::max<Index>(0, plan->before[a] - start[a]); }
  Index end(std::size_t a) const { return std::min(plan->window[a], plan->size[a] + plan->before[a] - start[a]); }
};

/// One plane d of the window as the predictor sees it: to [h, w, C].
template <class T>
void read_window_plane(const WindowView& view, const T* volume, Index channels, Index d, T* to) {
  const Size3 &n = view.plan->size, &m = view.plan->window;
  std::fill_n(to, m[1] * m[2] * channels, T(0));
  const Index w0 = view.place(0, d);
  if (w0 < view.begin(0) || w0 >= view.end(0)) return;
  for (Index w1 = view.begin(1); w1 < view.end(1); ++w1) {
    const T* row = volume + (view.source(0, w0) * n[1] + view.source(1, w1)) * n[2] * channels;
    T* line = to + view.place(1, w1) * m[2] * channels;
    if (!view.flip[2]) {
      std::copy_n(row + view.source(2, view.begin(2)) * channels, (view.end(2) - view.begin(2)) * channels,
                  line + view.begin(2) * channels);
      continue;
    }
    for (Index w2 = view.begin(2); w2 < view.end(2); ++w2)
      std::copy_n(row + view.source(2, w2) * channels, channels, line + view.place(2, w2) * channels);
  }
}

/// The open rows of a slab: weighted sums of scores, and sums of weights. Row r lies at r modulo the number of rows.
template <class T>
class OpenRows {
 public:
  OpenRows(const WindowPlan& plan, const Tensor<T>& importance, Index classes)
      : plan_(plan), importance_(importance), classes_(classes) {
    const auto [p, q] = plan.across();
    sums_ = Tensor<T>::zeros({plan.rows, plan.size[p], plan.size[q], classes});
    weights_ = Tensor<T>::zeros({plan.rows, plan.size[p], plan.size[q]});
  }
  Index classes() const { return classes_; }

  /// Adds the scores [d, h, w, K] of a window, seen in one of `views` mirror images.
  void add(const WindowView& view, const T* scores, Index views) {
    const auto a = std::size_t(plan_.axis);
    const auto [p, q] = plan_.across();
    const Size3& m = plan_.window;
    const Size3 stride{m[1] * m[2], m[2], 1};
    const T share = T(1) / T(views);
    const bool first = !view.flip[0] && !view.flip[1] && !view.flip[2];
    parallel_for(view.end(a) - view.begin(a), [&, p = p, q = q](Index i) {
      const Index wa = view.begin(a) + i, row = view.source(a, wa) % plan_.rows;
      for (Index wp = view.begin(p); wp < view.end(p); ++wp) {
        const Index at = (row * plan_.size[p] + view.source(p, wp)) * plan_.size[q];
        for (Index wq = view.begin(q); wq < view.end(q); ++wq) {
          const T weight = importance_.data()[wa * stride[a] + wp * stride[p] + wq * stride[q]];
          const Index seen =
              view.place(a, wa) * stride[a] + view.place(p, wp) * stride[p] + view.place(q, wq) * stride[q];
          const Index voxel = at + view.source(q, wq);
          const T *from = scores + seen * classes_, scale = weight * share;
          T* to = sums_.data() + voxel * classes_;
          for (Index k = 0; k < classes_; ++k) to[k] += scale * from[k];
          if (first) weights_.data()[voxel] += weight;
        }
      }
    });
  }

  /// Divides a row by its weights: [P, Q, K], valid until release(). Throws NumericError for scores that are not
  /// finite.
  Tensor<T> close(Index r) {
    const Tensor<T> sums = sums_[r % plan_.rows], weights = weights_[r % plan_.rows];
    const Index columns = sums.shape()[1];
    std::vector<std::uint8_t> bad(std::size_t(sums.shape()[0]), 0);
    parallel_for(sums.shape()[0], [&](Index p) {
      for (Index v = p * columns; v < (p + 1) * columns; ++v) {
        T *at = sums.data() + v * classes_, check = 0;
        const T weight = weights.data()[v];
        for (Index k = 0; k < classes_; ++k) {
          at[k] /= weight;
          check += at[k] * T(0);  // NaN from anything that is not finite
        }
        if (!(check == T(0))) bad[std::size_t(p)] = 1;
      }
    });
    require<NumericError>(std::find(bad.begin(), bad.end(), std::uint8_t(1)) == bad.end(),
                          "sliding_window: the predictor's scores in slice ", r, " of axis ", plan_.axis,
                          " are not all finite; has its training diverged?");
    return sums;
  }
  void release(Index r) {
    sums_[r % plan_.rows].zero();
    weights_[r % plan_.rows].zero();
  }

 private:
  const WindowPlan& plan_;
  Tensor<T> importance_, sums_, weights_;
  Index classes_;
};

/// Takes batches of windows through the predictor, in halves when memory runs out.
template <class T, class Predictor>
class WindowRunner {
 public:
  WindowRunner(const WindowPlan& plan, const SlidingWindow& options, const Tensor<T>& volume, Predictor& predictor)
      : plan_(plan),
        options_(options),
        volume_(volume),
        predictor_(predictor),
        importance_(importance_map<T>(plan.window, options.importance, options.sigma_scale)),
        batch_(std::min(options.batch, plan.slab_windows())) {}

  /// All windows that start at one place of the slab axis. Sums do not depend on the batch.
  void run_slab(Index slab_start) {
    std::vector<Size3> starts;
    const auto [p, q] = plan_.across();
    for (const Index sp : plan_.starts[p])
      for (const Index sq : plan_.starts[q]) {
        Size3 s;
        s[std::size_t(plan_.axis)] = slab_start, s[p] = sp, s[q] = sq;
        starts.push_back(s);
      }
    for (int subset = 0; subset < 8; ++subset) {
      const std::array<bool, 3> flip{(subset & 4) != 0, (subset & 2) != 0, (subset & 1) != 0};
      bool wanted = true;
      for (std::size_t a = 0; a < 3; ++a) wanted = wanted && (!flip[a] || options_.mirror[a]);
      if (wanted) run(starts, flip);
    }
  }
  OpenRows<T>& rows() { return *rows_; }

 private:
  void run(const std::vector<Size3>& starts, const std::array<bool, 3>& flip) {
    for (std::size_t first = 0; first < starts.size();) {
      std::vector<WindowView> views;
      for (std::size_t i = first; i < std::min(starts.size(), first + std::size_t(batch_)); ++i)
        views.push_back({&plan_, starts[i], flip});
      Tensor<T> scores;
      try {
        scores = predict(views);
      } catch (const DeviceError& error) {
        halve(error.what());
        continue;
      } catch (const std::bad_alloc& error) {
        halve(error.what());
        continue;
      }
      if (!rows_) rows_.emplace(plan_, importance_, scores.shape()[-1]);
      require(scores.shape()[-1] == rows_->classes(), "sliding_window: the predictor gave ", scores.shape()[-1],
              " classes, before ", rows_->classes());
      for (std::size_t i = 0; i < views.size(); ++i) rows_->add(views[i], scores[Index(i)].data(), options_.views());
      first += views.size();
    }
  }
  /// To be called while an error is handled: passes it on when there is nothing left to halve.
  void halve(const char* why) {
    if (batch_ == 1) throw;
    batch_ /= 2;
    if (options_.on_halved) options_.on_halved(batch_, why);
  }
  Tensor<T> predict(const std::vector<WindowView>& views) {
    const Size3& m = plan_.window;
    const Index count = Index(views.size()), channels = volume_.rank() == 4 ? volume_.shape()[3] : 1;
    const Index plane = m[1] * m[2] * channels;
    const Tensor<T> batch({count, m[0], m[1], m[2], channels});
    parallel_for(count * m[0], [&](Index i) {
      read_window_plane(views[std::size_t(i / m[0])], volume_.data(), channels, i % m[0], batch.data() + i * plane);
    });
    const Tensor<T> scores = predictor_(batch).to(Device::cpu());
    const Shape& s = scores.shape();
    require(s.rank() == 5 && s.slice(0, 4) == Shape{count, m[0], m[1], m[2]} && s[4] > 0,
            "sliding_window: for windows ", batch.shape(), " the predictor gave ", s, ", expected [", count, ", ", m[0],
            ", ", m[1], ", ", m[2], ", K]");
    return scores;
  }

  const WindowPlan& plan_;
  const SlidingWindow& options_;
  Tensor<T> volume_;
  Predictor& predictor_;
  Tensor<T> importance_;
  Index batch_;
  std::optional<OpenRows<T>> rows_;
};

}  // namespace detail

/// Walks the windows of a volume and hands on each finished row of scores.
///
///   volume     [I, J, K] or [I, J, K, C], in host memory
///   predictor  windows [B, d, h, w, C] in host memory -> scores [B, d, h, w, K] on any device
///   sink       sink(plan, row, scores): row r along plan.axis, scores [P, Q, K] of the two other axes, in order; rows
///              come in order, each once; the memory is used again after the call
///
/// When the predictor runs out of memory (DeviceError, std::bad_alloc) the batch is halved and the walk goes on.
/// Throws ShapeError for shapes and options that do not fit, NumericError for scores that are not finite.
template <class T, class Predictor, class Sink>
void sliding_window_rows(const Tensor<T>& volume, const SlidingWindow& options, Predictor&& predictor, Sink&& sink) {
  require((volume.rank() == 3 || volume.rank() == 4) && volume.size() > 0,
          "sliding_window: needs a volume [I, J, K] or [I, J, K, C], got ", volume.shape());
  require(volume.device().on_host(), "sliding_window: the volume is on ", volume.device(),
          "; use to(Device::cpu()) first; only windows go to the predictor's device");
  const WindowPlan plan = plan_windows(size3(volume.shape()), options);
  const auto a = std::size_t(plan.axis);
  detail::WindowRunner<T, std::remove_reference_t<Predictor>> runner(plan, options, volume, predictor);
  Index done = 0;
  for (std::size_t slab = 0; slab < plan.starts[a].size(); ++slab) {
    runner.run_slab(plan.starts[a][slab]);
    const bool last = slab + 1 == plan.starts[a].size();
    for (const Index end = last ? plan.size[a] : plan.starts[a][slab + 1]; done < end; ++done) {
      sink(plan, done, runner.rows().close(done));
      runner.rows().release(done);
    }
  }
}

/// Scores of all classes for every voxel: [I, J, K] or [I, J, K, C] -> [I, J, K, classes].
template <class T, class Predictor>
Tensor<T> sliding_window(const Tensor<T>& volume, const SlidingWindow& options, Predictor&& predictor) {
  Tensor<T> out;
  sliding_window_rows(volume, options, predictor, [&](const WindowPlan& plan, Index r, const Tensor<T>& scores) {
    const Index classes = scores.shape()[-1], columns = scores.shape()[1];
    const Size3& n = plan.size;
    if (!out.defined()) out = Tensor<T>({n[0], n[1], n[2], classes});
    const Size3 stride{n[1] * n[2], n[2], 1};
    const auto a = std::size_t(plan.axis);
    const auto [p, q] = plan.across();
    for (Index v = 0; v < scores.size() / classes; ++v)
      std::copy_n(scores.data() + v * classes, classes,
                  out.data() + (r * stride[a] + v / columns * stride[p] + v % columns * stride[q]) * classes);
  });
  return out;
}

/// The most likely class of every voxel, at most 256 classes: [I, J, K] or [I, J, K, C] -> [I, J, K]. Scores are
/// compared as soon as a row is finished and never kept.
template <class T, class Predictor>
Tensor<std::uint8_t> sliding_window_labels(const Tensor<T>& volume,
                                           const SlidingWindow& options,
                                           Predictor&& predictor) {
  const Tensor<std::uint8_t> out(volume.shape().slice(0, 3));
  sliding_window_rows(volume, options, predictor, [&](const WindowPlan& plan, Index r, const Tensor<T>& scores) {
    const Index classes = scores.shape()[-1], columns = scores.shape()[1];
    require(classes <= 256, "sliding_window_labels: ", classes, " classes, expected at most 256");
    const Size3 stride{plan.size[1] * plan.size[2], plan.size[2], 1};
    const auto a = std::size_t(plan.axis);
    parallel_for(scores.shape()[0], [&, across = plan.across()](Index i) {
      for (Index j = 0; j < columns; ++j)
        out.data()[r * stride[a] + i * stride[across[0]] + j * stride[across[1]]] =
            largest_class(scores.data() + (i * columns + j) * classes, classes);
    });
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
