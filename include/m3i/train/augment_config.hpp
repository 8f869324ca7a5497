#pragma once
/// Settings of augmentation: a preset, and what is to differ from it.

#include <array>
#include <optional>
#include <string>

#include "m3i/data/augment_options.hpp"
#include "m3i/train/config.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace choice {

enum class Augment { none, light, nnunet };
inline auto enum_names(Augment) { return std::array{"none", "light", "nnunet"}; }

}  // namespace choice

/// Random changes of a training volume; those of an epoch are a function of the seed alone. An effect of three numbers
/// is [probability, smallest, largest strength].
struct AugmentConfig {
  using Effect = std::optional<std::array<double, 3>>;
  choice::Augment preset = choice::Augment::light;
  std::optional<std::array<double, 3>> flip;
  std::optional<double> turn;
  Effect rotate, zoom, shear, translate, elastic;
  std::optional<double> elastic_spacing;
  Effect noise_variance, blur, brightness, contrast, low_resolution, gamma_inverted, gamma, bias;
  std::optional<double> scale, shift, noise;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("preset", self.preset,
          "none; light: scale 0.1, shift 0.05, noise 0.02 (ours); nnunet: that of nnU-Net, with mirror images. The "
          "other keys replace parts of it, null keeps them");
    field("flip", self.flip, "probability of a mirror image along right, anterior, superior", between(0, 1));
    field("turn", self.turn, "probability of quarter turns in a plane of equal extents", between(0, 1));
    field("rotate", self.rotate, "probability, and degrees about each axis");
    field("zoom", self.zoom, "probability, and factor of lengths");
    field("shear", self.shear, "probability, and tangent");
    field("translate", self.translate, "probability, and share of the extent");
    field("elastic", self.elastic, "probability, and largest displacement in voxels");
    field("elastic_spacing", self.elastic_spacing, "voxels between control points", above(0));
    field("noise_variance", self.noise_variance, "probability, and variance as a share of the image's");
    field("blur", self.blur, "probability, and sigma in voxels");
    field("brightness", self.brightness, "probability, and factor");
    field("contrast", self.contrast, "probability, and factor about the mean");
    field("low_resolution", self.low_resolution, "probability, and factor of the extents");
    field("gamma_inverted", self.gamma_inverted, "probability, and exponent for the negative image");
    field("gamma", self.gamma, "probability, and exponent");
    field("bias", self.bias, "probability, and largest coefficient of the shading");
    field("scale", self.scale, "always: intensities times 1 + uniform(-scale, scale)", from_below(0, 1));
    field("shift", self.shift, "always: intensities plus uniform(-shift, shift)", from_below(0, 1));
    field("noise", self.noise, "always: standard deviation of added noise", from_below(0, 1));
  }

  AugmentOptions options(std::uint64_t seed) const {
    AugmentOptions o = preset == choice::Augment::none    ? augment_none()
                       : preset == choice::Augment::light ? augment_light()
                                                          : augment_nnunet();
    const auto effect = [](Chance& to, const Effect& from) {
      if (from) to = {(*from)[0], (*from)[1], (*from)[2]};
    };
    effect(o.rotate, rotate), effect(o.zoom, zoom), effect(o.shear, shear), effect(o.translate, translate);
    effect(o.elastic, elastic), effect(o.noise_variance, noise_variance), effect(o.blur, blur);
    effect(o.brightness, brightness), effect(o.contrast, contrast), effect(o.low_resolution, low_resolution);
    effect(o.gamma_inverted, gamma_inverted), effect(o.gamma, gamma), effect(o.bias, bias);
    o.flip = flip.value_or(o.flip);
    o.turn = turn.value_or(o.turn);
    o.elastic_spacing = elastic_spacing.value_or(o.elastic_spacing);
    o.scale = scale.value_or(o.scale), o.shift = shift.value_or(o.shift), o.noise = noise.value_or(o.noise);
    o.seed = seed;
    return o;
  }
  void check(const ConfigCheck& check) const {
    try {
      detail::check_augment(options(0));
    } catch (const ConfigError& error) {
      fail<ConfigError>(check.origin, ": ", check.prefix, "preset or one of its effects: ", error.what());
    }
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
