#pragma once
/// The intensities' part of augmentation, each effect in place on an image of its own.

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "m3i/core/parallel.hpp"
#include "m3i/data/augment_options.hpp"
#include "m3i/imaging/intensity.hpp"
#include "m3i/imaging/resample.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// v = f(i, v) for every voxel.
template <class F>
void change_voxels(const Tensor<float>& image, const F& f) {
  parallel_chunks(image.size(), 1 << 14, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) image.data()[i] = float(f(i, double(image.data()[i])));
  });
}

/// Adds normal noise; voxel i's is a function of (random, i).
inline void add_noise(const Tensor<float>& image, double deviation, const Random& random) {
  if (!(deviation > 0)) return;
  change_voxels(image, [&](Index i, double v) {
    return v + deviation * Random(random.seed, random.stream, std::uint64_t(i)).normal();
  });
}

/// Gaussian blur; what lies beyond the border repeats it.
inline void blur(Tensor<float>& image, double sigma) {
  const std::vector<double> kernel = gaussian_taps(sigma);
  const auto radius = Index(kernel.size() / 2);
  for (int axis = 0; axis < 3; ++axis) {
    const Index n = image.shape()[axis];
    Taps taps;
    for (Index x = 0; x < n; ++x) {
      for (Index d = -radius; d <= radius; ++d) {
        taps.position.push_back(std::clamp<Index>(x + d, 0, n - 1));
        taps.weight.push_back(kernel[std::size_t(d + radius)]);
      }
      taps.begin.push_back(taps.position.size());
    }
    image = apply_taps(image, axis, taps);
  }
}

/// As a scanner with larger voxels would show it: nearest voxels down to `factor` of the extents, cubic back.
inline void lower_resolution(Tensor<float>& image, double factor) {
  const Size3 n = size3(image.shape());
  Size3 small;
  for (std::size_t a = 0; a < 3; ++a) small[a] = std::max<Index>(1, Index(std::lround(factor * double(n[a]))));
  if (small == n) return;
  const Volume<float> coarse = resample_to_size(Volume<float>{image, {}, nullptr}, small, Sampling::nearest);
  image = resample_to_size(coarse, n, Sampling::cubic).voxels;
}

/// (v - mean) * factor + mean, within the old range.
inline void change_contrast(const Tensor<float>& image, double factor) {
  const IntensityStats s = intensity_stats(image);
  change_voxels(image, [&](Index, double v) { return std::clamp((v - s.mean) * factor + s.mean, s.min, s.max); });
}

/// The range as [0, 1] to a power, of the image or of its negative; mean and deviation become the old ones again.
inline void change_gamma(const Tensor<float>& image, double exponent, bool negative) {
  const IntensityStats before = intensity_stats(image);
  const double range = before.max - before.min;
  if (!(range > 0)) return;
  change_voxels(image, [&](Index, double v) {
    const double x = (negative ? before.max - v : v - before.min) / range, y = std::pow(std::max(x, 0.0), exponent);
    return negative ? before.max - y * range : before.min + y * range;
  });
  const IntensityStats after = intensity_stats(image);
  if (!(after.deviation > 0)) return;
  const double factor = before.deviation / after.deviation;
  change_voxels(image, [&](Index, double v) { return (v - after.mean) * factor + before.mean; });
}

/// The image above its minimum times exp(p), p a polynomial of degree 3 in the position (-1 to 1 along each axis) with
/// coefficients up to `largest`: a receive coil's shading. MONAI's and TorchIO's bias field.
inline void add_bias_field(const Tensor<float>& image, double largest, Random random) {
  std::array<double, 64> c{};  // of x^a y^b z^c at 16 a + 4 b + c
  for (std::size_t p = 0; p < 64; ++p)
    if (p / 16 + p / 4 % 4 + p % 4 <= 3) c[p] = random.uniform(-largest, largest);
  const Size3 n = size3(image.shape());
  const double low = intensity_stats(image).min;
  const auto place = [&](std::size_t a, Index x) { return n[a] > 1 ? 2 * double(x) / double(n[a] - 1) - 1 : 0.0; };
  parallel_for(n[0], [&](Index i) {
    const double x = place(0, i);
    for (Index j = 0; j < n[1]; ++j) {
      const double y = place(1, j);
      std::array<double, 4> row{};  // the polynomial in z that is left
      for (std::size_t p = 0; p < 64; ++p)
        row[p % 4] += c[p] * std::pow(x, double(p / 16)) * std::pow(y, double(p / 4 % 4));
      float* v = image.data() + (i * n[1] + j) * n[2];
      for (Index k = 0; k < n[2]; ++k) {
        const double z = place(2, k), field = row[0] + z * (row[1] + z * (row[2] + z * row[3]));
        v[k] = float((double(v[k]) - low) * std::exp(field) + low);
      }
    }
  });
}

/// All effects that the dice of one sample choose, in nnU-Net's order.
inline void change_intensities(Tensor<float>& image, const AugmentOptions& o, Random random) {
  if (const auto share = o.noise_variance.draw(random))
    add_noise(image, std::sqrt(*share) * intensity_stats(image).deviation, random.split(1));
  if (const auto sigma = o.blur.draw(random)) blur(image, *sigma);
  if (const auto factor = o.brightness.draw(random)) change_voxels(image, [&](Index, double v) { return v * *factor; });
  if (const auto factor = o.contrast.draw(random)) change_contrast(image, *factor);
  if (const auto factor = o.low_resolution.draw(random)) lower_resolution(image, *factor);
  if (const auto exponent = o.gamma_inverted.draw(random)) change_gamma(image, *exponent, true);
  if (const auto exponent = o.gamma.draw(random)) change_gamma(image, *exponent, false);
  if (const auto largest = o.bias.draw(random)) add_bias_field(image, *largest, random.split(2));
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
