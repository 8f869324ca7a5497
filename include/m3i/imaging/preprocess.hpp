#pragma once
/// The paper's preprocessing as a transform chain: RAS, 1 mm isotropic, intensities to [0, 1], padded to a cube, scaled
/// to S^3.

#include <string>

#include "m3i/imaging/chain.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class Normalisation { minmax, percentile, window, zscore, none };

struct PreprocessOptions {
  Index size = 128;  ///< S
  double spacing_mm = 1;
  Normalisation normalisation = Normalisation::minmax;
  double low_percent = 0.5, high_percent = 99.5;  ///< percentile
  double window_center = 40, window_width = 400;  ///< window, in the volume's units
};

/// The chain of these options.
inline TransformChain preprocessing_chain(const PreprocessOptions& o) {
  TransformChain chain;
  chain.steps.push_back(steps::Orient{"RAS"});
  chain.steps.push_back(steps::Spacing{{o.spacing_mm, o.spacing_mm, o.spacing_mm}});
  switch (o.normalisation) {
    case Normalisation::minmax: chain.steps.push_back(steps::Minmax{}); break;
    case Normalisation::percentile: chain.steps.push_back(steps::Percentile{o.low_percent, o.high_percent}); break;
    case Normalisation::window: chain.steps.push_back(steps::Window{o.window_center, o.window_width}); break;
    case Normalisation::zscore: chain.steps.push_back(steps::Zscore{}); break;
    case Normalisation::none: break;
  }
  chain.steps.push_back(steps::FitCube{o.size});
  return chain;
}

/// volume [I, J, K] -> [S, S, S]. Throws ShapeError where spacing and size would make a volume out of proportion.
template <class T>
Preprocessed<T> preprocess(const Volume<T>& volume, const PreprocessOptions& options = {}) {
  return apply(preprocessing_chain(options), volume);
}

/// The same for labels: nearest voxels, values kept.
template <class L>
Preprocessed<L> preprocess_labels(const Volume<L>& labels, const PreprocessOptions& options = {}) {
  return apply_labels(preprocessing_chain(options), labels);
}

}  // namespace M3I_ABI
}  // namespace m3i
