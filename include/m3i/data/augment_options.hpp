#pragma once
/// What augmentation may do, and the usual sets of it.

#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "m3i/core/random.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// An effect that happens with a probability, with a strength drawn uniformly from an interval.
struct Chance {
  double probability = 0, low = 0, high = 0;

  /// The strength, if it happens. Takes the same count of random numbers either way.
  std::optional<double> draw(Random& random) const {
    const bool happens = random.uniform() < probability;
    const double strength = random.uniform(low, high);
    return happens ? std::optional(strength) : std::nullopt;
  }
};

struct AugmentOptions {
  // Geometry, of image and labels alike, in one resampling; without any of the last five, voxels are only moved.
  std::array<double, 3> flip{0.5, 0, 0};  ///< probability along each axis; the first is left-right in RAS volumes
  double turn = 0;                        ///< probability of quarter turns in a plane whose extents are equal
  Chance rotate;                          ///< degrees about each of the three axes
  Chance zoom;                            ///< factor of all lengths: above 1 enlarges what is seen
  Chance shear;                           ///< tangent, in each of the six directions
  Chance translate;                       ///< share of the extent, along each axis
  Chance elastic;                         ///< largest displacement of the control points, voxels
  double elastic_spacing = 16;            ///< distance of the control points, voxels
  Size3 crop{0, 0, 0};                    ///< extent of a random crop; 0 keeps the axis whole

  // Intensities, in this order.
  Chance noise_variance;  ///< of normal noise, as a share of the image's variance
  Chance blur;            ///< sigma of a Gaussian, voxels
  Chance brightness;      ///< factor
  Chance contrast;        ///< factor about the mean; the range is kept
  Chance low_resolution;  ///< factor of the extents: nearest voxels down to it, cubic back
  Chance gamma_inverted;  ///< exponent, of the negative image; mean and deviation are kept
  Chance gamma;           ///< exponent; mean and deviation are kept
  Chance bias;            ///< largest coefficient of a cubic polynomial, whose exponential multiplies the image
  double scale = 0.1;     ///< always: intensities times 1 + uniform(-scale, scale)
  double shift = 0.1;     ///< always: intensities plus uniform(-shift, shift)
  double noise = 0.02;    ///< always: standard deviation of added normal noise

  std::uint64_t seed = 0;

  /// Calls f(name, chance, smallest strength allowed, largest one) for each effect.
  template <class F>
  void effects(const F& f) const {
    f("rotate", rotate, -180.0, 180.0), f("zoom", zoom, 0.1, 10.0), f("shear", shear, -1.0, 1.0);
    f("translate", translate, -1.0, 1.0), f("elastic", elastic, 0.0, 0.4 * elastic_spacing);
    f("noise_variance", noise_variance, 0.0, 10.0), f("blur", blur, 0.0, 10.0), f("brightness", brightness, 0.0, 10.0);
    f("contrast", contrast, 0.0, 10.0), f("low_resolution", low_resolution, 0.05, 1.0);
    f("gamma_inverted", gamma_inverted, 0.05, 20.0), f("gamma", gamma, 0.05, 20.0), f("bias", bias, 0.0, 2.0);
  }

  /// Whether voxels have to be interpolated whenever the dice say so.
  bool interpolates() const {
    return rotate.probability > 0 || zoom.probability > 0 || shear.probability > 0 || translate.probability > 0 ||
           elastic.probability > 0;
  }
};

/// Nothing at all.
inline AugmentOptions augment_none() {
  AugmentOptions o;
  o.flip = {0, 0, 0};
  o.scale = o.shift = o.noise = 0;
  return o;
}

/// Intensities only, a little: left and right stay what they are.
inline AugmentOptions augment_light() {
  AugmentOptions o = augment_none();
  o.scale = 0.1, o.shift = 0.05, o.noise = 0.02;
  return o;
}

/// The usual augmentation of nnU-Net version 2 for isotropic volumes (nnUNetTrainer.get_training_transforms): each of
/// its transforms with its probability and interval. Differences: mirror images are made along all three axes as there,
/// which is wrong where left and right have labels of their own; intervals of zoom are those of the reciprocal factor;
/// noise is relative to the image's variance, so that it fits images that are not z-scored.
inline AugmentOptions augment_nnunet() {
  AugmentOptions o = augment_none();
  o.flip = {0.5, 0.5, 0.5};
  o.rotate = {0.2, -30, 30};
  o.zoom = {0.2, 1 / 1.4, 1 / 0.7};
  o.noise_variance = {0.1, 0, 0.1};
  o.blur = {0.2, 0.5, 1};
  o.brightness = {0.15, 0.75, 1.25};
  o.contrast = {0.15, 0.75, 1.25};
  o.low_resolution = {0.25, 0.5, 1};
  o.gamma_inverted = {0.1, 0.7, 1.5};
  o.gamma = {0.3, 0.7, 1.5};
  return o;
}

namespace detail {

/// Throws ConfigError that names the option.
inline void check_augment(const AugmentOptions& o) {
  const auto probability = [](const char* name, double p) {
    require<ConfigError>(p >= 0 && p <= 1, "augment: ", name, " probability ", p, " must lie in [0, 1]");
  };
  for (const double p : o.flip) probability("flip", p);
  probability("turn", o.turn);
  for (const double v : {o.scale, o.shift, o.noise})
    require<ConfigError>(std::isfinite(v) && v >= 0 && v < 10, "augment: scale ", o.scale, ", shift ", o.shift,
                         ", noise ", o.noise, "; each must lie in [0, 10)");
  require<ConfigError>(o.elastic_spacing >= 2 && o.elastic_spacing <= 1000, "augment: elastic_spacing ",
                       o.elastic_spacing, " must lie in [2, 1000] voxels");
  o.effects([&](const char* name, const Chance& c, double low, double high) {
    probability(name, c.probability);
    require<ConfigError>(c.probability == 0 || (low <= c.low && c.low <= c.high && c.high <= high), "augment: ", name,
                         " from ", c.low, " to ", c.high, ", expected an interval within [", low, ", ", high, "]",
                         std::string(name) == "elastic" ? " (more than 0.4 of elastic_spacing could fold space)" : "");
  });
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
