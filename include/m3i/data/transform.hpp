#pragma once
/// Augmentation of a training volume and its labels. Every random number is a function of (seed, epoch, item), so that
/// any number of loader threads gives the same stream, and a resumed run sees what an uninterrupted one would have
/// seen.

#include <algorithm>
#include <array>
#include <optional>

#include "m3i/core/parallel.hpp"
#include "m3i/core/random.hpp"
#include "m3i/data/augment_geometry.hpp"
#include "m3i/data/augment_intensity.hpp"
#include "m3i/data/augment_options.hpp"
#include "m3i/data/volume_cache.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// An image and, if there are any, its labels, moved alike.
struct AugmentedSample {
  Tensor<float> image;
  std::optional<Tensor<std::uint8_t>> labels;
};

namespace detail {

/// A quarter turn of the volume in one of the planes whose extents are equal.
inline void draw_turn(VoxelMap& map, const AugmentOptions& o, const Size3& n, Random random) {
  std::vector<std::pair<int, int>> planes;
  for (int a = 0; a < 3; ++a)
    for (int b = a + 1; b < 3; ++b)
      if (n[std::size_t(a)] == n[std::size_t(b)]) planes.emplace_back(a, b);
  if (planes.empty() || !(random.uniform() < o.turn)) return;
  const auto [a, b] = planes[std::size_t(random.below(Index(planes.size())))];
  map.turn(a, b, int(random.below(3)) + 1, n);
}

/// The box itself where it is the whole volume, else a copy of it.
template <class T>
Tensor<T> read_box(const StoredVolume<T>& volume, const Box& box) {
  return box.size == size3(volume.shape()) ? volume.whole() : volume.crop(box.begin, box.size);
}

}  // namespace detail

/// Augments one sample: geometry, one interpolation at most, then intensities. Only the box of voxels that is needed is
/// read.
///
///   image    [I, J, K]; labels of the same shape or none; neither is changed
///   epoch, item   where the sample occurs in training
///   begin    where a crop starts, instead of anywhere; effects of the geometry then see what is around the crop
///   ->       tensors of their own
///
/// Beyond the image lies the lowest intensity of that box, and label 0. Throws ConfigError for options out of range,
/// ShapeError for labels of another shape or a crop that does not lie in the image.
inline AugmentedSample augment(const StoredVolume<float>& image,
                               const std::optional<StoredVolume<std::uint8_t>>& labels,
                               const AugmentOptions& options,
                               Index epoch,
                               Index item,
                               const std::optional<Size3>& begin = {}) {
  require(image.shape().rank() == 3 && image.shape().size() > 0, "augment: needs a non-empty volume [I, J, K], got ",
          image.shape());
  require(!labels || labels->shape() == image.shape(), "augment: labels ", labels ? labels->shape() : Shape{},
          " on an image ", image.shape());
  detail::check_augment(options);
  Random random = Random(options.seed, 0x6175676d).split(std::uint64_t(epoch)).split(std::uint64_t(item));
  const Size3 n = size3(image.shape());
  detail::GeometryPlan plan;
  detail::VoxelMap& map = plan.moved;
  for (std::size_t a = 0; a < 3; ++a) {
    const Index want = options.crop[a];
    require(want >= 0 && want <= n[a], "augment: crop of ", want, " along axis ", a, " of an image ", image.shape(),
            "; pad the image or crop less");
    const bool flip = random.uniform() < options.flip[a];
    map.size[a] = want == 0 ? n[a] : want;
    const Index anywhere = random.below(n[a] - map.size[a] + 1), first = begin ? (*begin)[a] : anywhere;
    require(first >= 0 && first <= n[a] - map.size[a], "augment: a crop of ", map.size[a], " from ", first,
            " along axis ", a, " of an image ", image.shape(), " does not lie in it");
    map.start[a] = flip ? first + map.size[a] - 1 : first;
    map.step[a] = flip ? -1 : 1;
  }
  const double scale = 1 + random.uniform(-options.scale, options.scale);
  const double shift = random.uniform(-options.shift, options.shift);
  const Random noise = random.split(1);
  detail::draw_turn(map, options, n, random.split(2));
  if (options.interpolates()) detail::draw_interpolation(plan, options, random.split(3));

  const detail::Box box = detail::needed_box(plan, n);
  detail::look_into(plan, box);
  const Tensor<float> voxels = detail::read_box(image, box);
  std::optional<Tensor<std::uint8_t>> codes;
  if (labels) codes = detail::read_box(*labels, box);
  AugmentedSample out;
  if (plan.affine) {
    out.image = detail::warp_image(voxels, plan, float(intensity_stats(voxels).min));
    if (codes) out.labels = detail::warp_labels(*codes, plan);
  } else {
    out.image = detail::move_voxels(voxels, map);
    if (codes) out.labels = detail::move_voxels(*codes, map);
  }
  detail::change_intensities(out.image, options, random.split(4));
  if (scale != 1 || shift != 0 || options.noise > 0)
    detail::change_voxels(out.image, [&](Index i, double v) {
      const double moved = scale * v + shift;
      if (!(options.noise > 0)) return moved;
      return moved + options.noise * Random(noise.seed, noise.stream, std::uint64_t(i)).normal();
    });
  return out;
}

/// The same for tensors in memory.
inline AugmentedSample augment(const Tensor<float>& image,
                               const std::optional<Tensor<std::uint8_t>>& labels,
                               const AugmentOptions& options,
                               Index epoch,
                               Index item,
                               const std::optional<Size3>& begin = {}) {
  std::optional<StoredVolume<std::uint8_t>> codes;
  if (labels) codes.emplace(*labels);
  return augment(StoredVolume<float>(image), codes, options, epoch, item, begin);
}

}  // namespace M3I_ABI
}  // namespace m3i
