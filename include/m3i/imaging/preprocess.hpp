#pragma once
/// The paper's preprocessing: RAS, 1 mm isotropic, intensities to [0, 1], padded to a cube, scaled to S^3; and the way
/// back to the input's own grid.

#include <cstdint>
#include <memory>
#include <string>

#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/intensity.hpp"
#include "m3i/imaging/resample.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class Normalisation { minmax, percentile, window, zscore, none };

/// Reads "minmax", "percentile", "window", "zscore" or "none".
inline Normalisation parse_normalisation(const std::string& name) {
  if (name == "minmax") return Normalisation::minmax;
  if (name == "percentile") return Normalisation::percentile;
  if (name == "window") return Normalisation::window;
  if (name == "zscore") return Normalisation::zscore;
  if (name == "none") return Normalisation::none;
  fail<ConfigError>("normalisation: \"", name, "\" is not one of minmax, percentile, window, zscore, none");
}

struct PreprocessOptions {
  Index size = 128;  ///< S
  double spacing_mm = 1;
  Normalisation normalisation = Normalisation::minmax;
  double low_percent = 0.5, high_percent = 99.5;  ///< percentile
  double window_center = 40, window_width = 400;  ///< window, in the volume's units
};

/// What was done, as far as the way back needs it.
struct Preprocessing {
  Grid input, output;
  std::shared_ptr<const NiftiHeader> header;  ///< of the input, for writing results

  /// Labels [S, S, S] on the input's grid: for each input voxel the label at its centre, 0 outside the cube.
  template <class L>
  Volume<L> restore_labels(const Tensor<L>& labels) const {
    check("restore_labels", labels.shape());
    return with_header(resample_to_grid(Volume<L>{labels, output.affine, header}, input, Sampling::nearest));
  }
  /// Scores or probabilities [S, S, S, C] to labels on the input's grid: interpolated first, then the largest.
  template <class T>
  Volume<std::int32_t> restore_scores(const Tensor<T>& scores) const {
    require(scores.rank() == 4, "restore_scores: needs [S, S, S, C], got ", scores.shape());
    check("restore_scores", scores.shape().slice(0, 3));
    return {labels_on_grid(scores, output.affine, input), input.affine, header};
  }
  /// Intensities [S, S, S] on the input's grid, linear.
  template <class T>
  Volume<T> restore_image(const Tensor<T>& voxels) const {
    check("restore_image", voxels.shape());
    return with_header(resample_to_grid(Volume<T>{voxels, output.affine, header}, input, Sampling::linear));
  }

 private:
  void check(const char* operation, const Shape& shape) const {
    require(shape == shape_of(output.size), operation, ": got ", shape, ", the preprocessed volume was ",
            shape_of(output.size));
  }
  template <class T>
  Volume<T> with_header(Volume<T> volume) const {
    volume.affine = input.affine;
    volume.header = header;
    return volume;
  }
};

template <class T>
struct Preprocessed {
  Volume<T> volume;  ///< [S, S, S]
  Preprocessing record;
};

template <class T>
Tensor<T> normalise(const Tensor<T>& voxels, const PreprocessOptions& options) {
  switch (options.normalisation) {
    case Normalisation::minmax: return minmax(voxels);
    case Normalisation::percentile: return percentile_clip(voxels, options.low_percent, options.high_percent);
    case Normalisation::window: return window(voxels, options.window_center, options.window_width);
    case Normalisation::zscore: return zscore(voxels);
    case Normalisation::none: break;
  }
  return voxels;
}

/// volume [I, J, K] -> [S, S, S]. Throws ShapeError where spacing and size would make a volume out of proportion.
template <class T>
Preprocessed<T> preprocess(const Volume<T>& volume, const PreprocessOptions& options = {}) {
  const double mm = options.spacing_mm;
  Volume<T> v = resample_to_spacing(to_ras(volume), {mm, mm, mm}, Sampling::linear);
  v.voxels = normalise(v.voxels, options);
  v = resample_to_cube(v, options.size, Sampling::linear);
  return {v, {volume.grid(), v.grid(), volume.header}};
}

/// The same for labels: nearest voxels, values kept.
template <class L>
Preprocessed<L> preprocess_labels(const Volume<L>& labels, const PreprocessOptions& options = {}) {
  const double mm = options.spacing_mm;
  Volume<L> v = resample_to_spacing(to_ras(labels), {mm, mm, mm}, Sampling::nearest);
  v = resample_to_cube(v, options.size, Sampling::nearest);
  return {v, {labels.grid(), v.grid(), labels.header}};
}

}  // namespace M3I_ABI
}  // namespace m3i
