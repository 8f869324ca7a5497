#pragma once
/// Transform chains applied to volumes and labels, with a record that brings results back to the input's own grid.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "m3i/imaging/chain_steps.hpp"
#include "m3i/imaging/intensity.hpp"
#include "m3i/imaging/resample_grid.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Padding by one value.
struct PaddingMove {
  Padding padding;
  double value = 0;
};
/// Resampling along the axes.
struct ResamplingMove {
  Resampling axes;
  Sampling sampling = Sampling::linear;
  bool antialias = false;
};
/// What a geometric step did to one volume, in numbers: what depended on its intensities or size is settled.
using Move = std::variant<OrientationMap, PaddingMove, CropBox, ResamplingMove>;

/// What was done to a volume, as far as labels of the same volume and the way back need it.
struct Preprocessing {
  Grid input, output;
  std::shared_ptr<const NiftiHeader> header;  ///< of the input, for writing results
  std::vector<Move> moves;
  Affine to_input;    ///< output voxel -> input voxel
  bool exact = true;  ///< voxels were only moved, padded and cropped: the way back copies values

  /// Labels on the output's grid to the input's: for each input voxel the label at its centre, 0 outside.
  template <class L>
  Volume<L> restore_labels(const Tensor<L>& labels, Sampling sampling = Sampling::nearest) const {
    check("restore_labels", labels.shape());
    return restored(labels, sampling);
  }
  /// Scores or probabilities [I, J, K, C] of the output's grid to labels on the input's: interpolated first, then the
  /// largest.
  template <class T>
  Volume<std::int32_t> restore_scores(const Tensor<T>& scores) const {
    require(scores.rank() == 4, "restore_scores: needs [I, J, K, C], got ", scores.shape());
    check("restore_scores", scores.shape().slice(0, 3));
    return {detail::argmax_at(scores, inverse(to_input), input.size), input.affine, header};
  }
  /// Intensities on the output's grid to the input's, linear.
  template <class T>
  Volume<T> restore_image(const Tensor<T>& voxels) const {
    check("restore_image", voxels.shape());
    return restored(voxels, Sampling::linear);
  }

 private:
  void check(const char* operation, const Shape& shape) const {
    require(shape == shape_of(output.size), operation, ": got ", shape, ", the preprocessed volume was ",
            shape_of(output.size));
  }
  template <class T>
  Volume<T> restored(const Tensor<T>& voxels, Sampling sampling) const {
    const Sampling how = exact ? Sampling::nearest : sampling;
    return {detail::sample_at(voxels, inverse(to_input), input.size, how, T(0)), input.affine, header};
  }
};

template <class T>
struct Preprocessed {
  Volume<T> volume;
  Preprocessing record;
};

namespace detail {

template <class T>
Volume<T> run_move(const Volume<T>& v, const OrientationMap& map, Sampling, bool) {
  return reorient(v, map);
}
template <class T>
Volume<T> run_move(const Volume<T>& v, const PaddingMove& move, Sampling, bool labels) {
  return pad(v, move.padding.before, move.padding.after, labels ? T(0) : T(move.value));
}
template <class T>
Volume<T> run_move(const Volume<T>& v, const CropBox& box, Sampling, bool) {
  return crop(v, box.begin, box.size);
}
template <class T>
Volume<T> run_move(const Volume<T>& v, const ResamplingMove& move, Sampling label_sampling, bool labels) {
  if (labels) return resample(v, move.axes, label_sampling);
  return resample(v, move.axes, move.sampling, move.antialias);
}

inline Affine map_of(const OrientationMap& map, const Size3& n) { return reorient_map(map, n); }
inline Affine map_of(const PaddingMove& move, const Size3&) { return move.padding.map(); }
inline Affine map_of(const CropBox& box, const Size3&) { return box.map(); }
inline Affine map_of(const ResamplingMove& move, const Size3&) { return move.axes.map(); }

inline Size3 size_after(const OrientationMap& map, const Size3& n) {
  return {n[std::size_t(map.axis[0])], n[std::size_t(map.axis[1])], n[std::size_t(map.axis[2])]};
}
inline Size3 size_after(const PaddingMove& move, const Size3& n) {
  Size3 m;
  for (std::size_t a = 0; a < 3; ++a) m[a] = n[a] + move.padding.before[a] + move.padding.after[a];
  return m;
}
inline Size3 size_after(const CropBox& box, const Size3&) { return box.size; }
inline Size3 size_after(const ResamplingMove& move, const Size3&) { return move.axes.size; }

/// What a step moves, where the grid alone decides that.
inline OrientationMap move_of(const steps::Orient& s, const Grid& grid) {
  return orientation_map(grid.affine, s.codes);
}
inline ResamplingMove move_of(const steps::Spacing& s, const Grid& grid) {
  return {Resampling::to_spacing(grid, s.mm), s.sampling, s.antialias};
}
inline ResamplingMove move_of(const steps::Resize& s, const Grid& grid) {
  return {Resampling::to_size(grid, s.size), s.sampling, s.antialias};
}
inline ResamplingMove move_of(const steps::FitCube& s, const Grid& grid) {
  return {Resampling::to_cube(grid, s.size), s.sampling, s.antialias};
}
inline PaddingMove move_of(const steps::PadToCube& s, const Grid& grid) {
  const Index side = *std::max_element(grid.size.begin(), grid.size.end());
  return {Padding::to_at_least(grid.size, {side, side, side}), s.value};
}
inline PaddingMove move_of(const steps::PadToAtLeast& s, const Grid& grid) {
  return {Padding::to_at_least(grid.size, s.size), s.value};
}
template <class Step>
concept MovesByGrid = requires(const Step& s, const Grid& g) {
  move_of(s, g);
};

template <class T>
Tensor<T> change(const steps::Window& s, const Tensor<T>& v) {
  return window(v, s.center, s.width);
}
template <class T>
Tensor<T> change(const steps::Ct& s, const Tensor<T>& v) {
  const CtWindow w = ct_window(s.preset);
  return window(v, w.center_hu, w.width_hu);
}
template <class T>
Tensor<T> change(const steps::Minmax&, const Tensor<T>& v) {
  return minmax(v);
}
template <class T>
Tensor<T> change(const steps::Percentile& s, const Tensor<T>& v) {
  return percentile_clip(v, s.low, s.high);
}
template <class T>
Tensor<T> change(const steps::Zscore& s, const Tensor<T>& v) {
  return s.nonzero ? zscore_nonzero(v) : zscore(v);
}
template <class T>
Tensor<T> change(const steps::Clip& s, const Tensor<T>& v) {
  return clip_intensities(v, s.low, s.high);
}

inline Preprocessing start_of(const Grid& grid, std::shared_ptr<const NiftiHeader> header) {
  Preprocessing record;
  record.input = record.output = grid;
  record.header = std::move(header);
  return record;
}
template <class M>
void add_move(Preprocessing& record, const M& move) {
  const Size3 n = record.output.size;
  if constexpr (std::is_same_v<M, ResamplingMove>) record.exact = record.exact && move.axes.is_identity(n);
  const Affine map = map_of(move, n);
  record.to_input = record.to_input * map;
  record.output = {size_after(move, n), record.output.affine * map};
  record.moves.push_back(move);
}

}  // namespace detail

/// A volume [I, J, K] through the steps of a chain, in order. Throws ConfigError for a step out of its bounds,
/// ShapeError where a step would make a volume out of proportion.
template <class T>
Preprocessed<T> apply(const TransformChain& chain, const Volume<T>& volume) {
  static_assert(std::is_floating_point_v<T>, "apply: intensities are float or double; see apply_labels");
  check_chain(chain);
  detail::require_volume("apply", volume.voxels);
  Preprocessed<T> done{volume, detail::start_of(volume.grid(), volume.header)};
  const auto move = [&](const auto& m) {
    detail::add_move(done.record, m);
    done.volume = detail::run_move(done.volume, m, Sampling::nearest, false);
  };
  for (const TransformStep& step : chain.steps)
    std::visit(
        [&](const auto& s) {
          using Step = std::decay_t<decltype(s)>;
          if constexpr (detail::MovesByGrid<Step>) move(detail::move_of(s, done.record.output));
          else if constexpr (std::is_same_v<Step, steps::CropForeground>)
            move(foreground_box(done.volume, s.threshold, s.margin_mm));
          else done.volume.voxels = detail::change(s, done.volume.voxels);
        },
        step);
  return done;
}

/// Labels through the moves of the image that they belong to; sampling nearest or label_linear. Throws ShapeError
/// unless they have its extents.
template <class L>
Preprocessed<L> apply_labels(const Preprocessing& record,
                             const Volume<L>& labels,
                             Sampling sampling = Sampling::nearest) {
  static_assert(std::is_integral_v<L>, "apply_labels: labels are integers");
  require(labels.shape() == shape_of(record.input.size), "apply_labels: labels are ", labels.shape(),
          ", their image was ", shape_of(record.input.size));
  require(sampling == Sampling::nearest || sampling == Sampling::label_linear,
          "apply_labels: labels are sampled nearest or label_linear");
  Preprocessed<L> done{labels, record};
  for (const Move& move : record.moves)
    done.volume = std::visit([&](const auto& m) { return detail::run_move(done.volume, m, sampling, true); }, move);
  return done;
}

/// Does where a voxel goes depend on the image's intensities?
inline bool needs_image(const TransformChain& chain) {
  for (const TransformStep& step : chain.steps)
    if (std::holds_alternative<steps::CropForeground>(step)) return true;
  return false;
}

/// The moves of a chain for a grid alone, without any voxel. Throws ConfigError if needs_image(chain).
inline Preprocessing plan(const TransformChain& chain,
                          const Grid& grid,
                          std::shared_ptr<const NiftiHeader> header = nullptr) {
  check_chain(chain);
  require<ConfigError>(!needs_image(chain), "transform chain: ", steps::CropForeground::name,
                       " depends on the image: apply the chain to it and use its record for the labels");
  Preprocessing record = detail::start_of(grid, std::move(header));
  for (const TransformStep& step : chain.steps)
    std::visit(
        [&](const auto& s) {
          if constexpr (detail::MovesByGrid<std::decay_t<decltype(s)>>)
            detail::add_move(record, detail::move_of(s, record.output));
        },
        step);
  return record;
}

/// Labels through the geometric steps of a chain. Throws ConfigError for a chain that crops to the image's foreground:
/// labels then need the record of their image.
template <class L>
Preprocessed<L> apply_labels(const TransformChain& chain,
                             const Volume<L>& labels,
                             Sampling sampling = Sampling::nearest) {
  return apply_labels(plan(chain, labels.grid(), labels.header), labels, sampling);
}

}  // namespace M3I_ABI
}  // namespace m3i
