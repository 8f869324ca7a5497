#pragma once
/// The transform chain that a configuration asks for.

#include <string>

#include "m3i/imaging/chain_steps.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// minmax with other percentiles than 0 and 100 is percentile: configurations from before `intensity` say it so.
inline TransformStep intensity_step(const DataConfig& d) {
  using choice::Intensity;
  switch (d.intensity) {
    case Intensity::minmax:
    case Intensity::percentile:
      if (d.low_percentile <= 0 && d.high_percentile >= 100) return steps::Minmax{};
      return steps::Percentile{d.low_percentile, d.high_percentile};
    case Intensity::window: return steps::Window{d.window_center, d.window_width};
    case Intensity::zscore: return steps::Zscore{false};
    case Intensity::zscore_nonzero: return steps::Zscore{true};
    default: return steps::Ct{ct_windows[std::size_t(d.intensity) - std::size_t(Intensity::ct_soft_tissue)].name};
  }
}

}  // namespace detail

/// What happens to a volume before the network sees it. With fit = cube the result is [S, S, S], S =
/// network.image_size; with fit = patch at least that, with voxels of spacing_mm.
inline TransformChain preprocessing_chain(const MethodConfig& c) {
  const DataConfig& d = c.data;
  const Index s = c.network.image_size;
  const bool zscore = d.intensity == choice::Intensity::zscore || d.intensity == choice::Intensity::zscore_nonzero;
  TransformChain chain;
  chain.steps.push_back(steps::Orient{"RAS"});
  chain.steps.push_back(steps::Spacing{{d.spacing_mm, d.spacing_mm, d.spacing_mm}, Sampling::linear, d.antialias});
  if (d.crop_foreground && zscore) chain.steps.push_back(steps::CropForeground{});
  chain.steps.push_back(detail::intensity_step(d));
  if (d.crop_foreground && !zscore) chain.steps.push_back(steps::CropForeground{});
  if (d.fit == choice::Fit::cube) chain.steps.push_back(steps::FitCube{s, Sampling::linear, d.antialias});
  else chain.steps.push_back(steps::PadToAtLeast{{s, s, s}});
  return chain;
}

}  // namespace M3I_ABI
}  // namespace m3i
