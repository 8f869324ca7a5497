#pragma once
/// Light augmentation of a training volume: flips, intensity, noise, crop. Every random number is a function of
/// (seed, epoch, item), so that a resumed run sees what an uninterrupted one would have seen.

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "m3i/core/parallel.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct AugmentOptions {
  std::array<double, 3> flip{0.5, 0, 0};  ///< probability along each axis; the first is left-right in RAS volumes
  double scale = 0.1;                     ///< intensities times 1 + uniform(-scale, scale)
  double shift = 0.1;                     ///< intensities plus uniform(-shift, shift)
  double noise = 0.02;                    ///< standard deviation of added normal noise
  Size3 crop{0, 0, 0};                    ///< extent of a random crop; 0 keeps the axis whole
  std::uint64_t seed = 0;
};

/// An image and, if there are any, its labels, moved alike.
struct AugmentedSample {
  Tensor<float> image;
  std::optional<Tensor<std::uint8_t>> labels;
};

namespace detail {

/// What one sample's dice said.
struct AugmentChoice {
  Size3 begin{}, size{};
  std::array<bool, 3> flip{};
  double scale = 1, shift = 0;
};

/// out[i, j, k] = in[begin + (flipped) (i, j, k)]
template <class T>
Tensor<T> crop_and_flip(const Tensor<T>& in, const AugmentChoice& c) {
  Tensor<T> out(shape_of(c.size));
  const Shape& n = in.shape();
  const auto source = [&](std::size_t axis, Index x) {
    return c.begin[axis] + (c.flip[axis] ? c.size[axis] - 1 - x : x);
  };
  parallel_for(c.size[0], [&](Index i) {
    for (Index j = 0; j < c.size[1]; ++j) {
      const T* row = in.data() + (source(0, i) * n[1] + source(1, j)) * n[2];
      T* to = out.data() + (i * c.size[1] + j) * c.size[2];
      for (Index k = 0; k < c.size[2]; ++k) to[k] = row[source(2, k)];
    }
  });
  return out;
}

}  // namespace detail

/// Augments one sample.
///
///   image    [I, J, K], usually in [0, 1]; labels of the same shape or none; neither is changed
///   epoch, item   where the sample occurs in training
///   ->       tensors of their own
///
/// Throws ConfigError for options out of range, ShapeError for labels of another shape or a crop larger than the image.
inline AugmentedSample augment(const Tensor<float>& image,
                               const std::optional<Tensor<std::uint8_t>>& labels,
                               const AugmentOptions& options,
                               Index epoch,
                               Index item) {
  detail::require_volume("augment", image);
  require(!labels || labels->shape() == image.shape(), "augment: labels ", labels ? labels->shape() : Shape{},
          " on an image ", image.shape());
  for (const double p : options.flip)
    require<ConfigError>(p >= 0 && p <= 1, "augment: flip probability ", p, " must lie in [0, 1]");
  for (const double v : {options.scale, options.shift, options.noise})
    require<ConfigError>(std::isfinite(v) && v >= 0 && v < 10, "augment: scale ", options.scale, ", shift ",
                         options.shift, ", noise ", options.noise, "; each must lie in [0, 10)");
  Random random = Random(options.seed, 0x6175676d).split(std::uint64_t(epoch)).split(std::uint64_t(item));
  detail::AugmentChoice choice;
  for (std::size_t a = 0; a < 3; ++a) {
    const Index n = image.shape()[int(a)], want = options.crop[a];
    require(want >= 0 && want <= n, "augment: crop of ", want, " along axis ", a, " of an image ", image.shape(),
            "; pad the image or crop less");
    choice.flip[a] = random.uniform() < options.flip[a];
    choice.size[a] = want == 0 ? n : want;
    choice.begin[a] = random.below(n - choice.size[a] + 1);
  }
  choice.scale = 1 + random.uniform(-options.scale, options.scale);
  choice.shift = random.uniform(-options.shift, options.shift);

  AugmentedSample out{detail::crop_and_flip(image, choice), {}};
  if (labels) out.labels = detail::crop_and_flip(*labels, choice);
  const Random noise = random.split(1);
  parallel_chunks(out.image.size(), 1 << 14, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      double v = choice.scale * double(out.image.data()[i]) + choice.shift;
      if (options.noise > 0) v += options.noise * Random(noise.seed, noise.stream, std::uint64_t(i)).normal();
      out.image.data()[i] = float(v);
    }
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
