#pragma once
/// Pictures of volumes and labels: grey windows, colours, contours, three planes, prediction beside truth.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "m3i/imaging/png.hpp"
#include "m3i/imaging/slices.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A picture [H, W] (see slice_display) as grey: `low` and below is black, `high` and above white, NaN black.
template <class T>
Image gray_image(const Tensor<T>& picture, double low = 0, double high = 1) {
  require(picture.rank() == 2 && picture.size() > 0, "gray_image: needs [H, W], got ", picture.shape());
  require(high > low, "gray_image: window from ", low, " to ", high, ", expected the lower value first");
  Image image(picture.shape()[0], picture.shape()[1], 1);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    const double x = (double(picture.span()[i]) - low) / (high - low);
    image.pixels[i] = x > 0 ? std::uint8_t(std::lround(std::min(x, 1.0) * 255)) : std::uint8_t(0);
  }
  return image;
}

/// A colour for each label, well apart for the first dozen, then by golden-angle hues. 0 is black and never drawn.
inline std::array<std::uint8_t, 3> label_color(std::int64_t label) {
  static constexpr std::array<std::array<std::uint8_t, 3>, 12> first{{{230, 75, 60},
                                                                      {60, 180, 90},
                                                                      {70, 130, 240},
                                                                      {250, 190, 40},
                                                                      {160, 90, 220},
                                                                      {40, 200, 210},
                                                                      {240, 120, 200},
                                                                      {150, 210, 50},
                                                                      {245, 140, 40},
                                                                      {0, 140, 130},
                                                                      {170, 120, 70},
                                                                      {190, 190, 230}}};
  if (label <= 0) return {0, 0, 0};
  if (label <= std::int64_t(first.size())) return first[std::size_t(label - 1)];
  const double hue = std::fmod(double(label) * 137.50776405, 360.0) / 60.0;
  std::array<std::uint8_t, 3> color;
  for (int c = 0; c < 3; ++c) {  // triangle waves a third of a turn apart
    const double t = std::fmod(hue + 6 - 2 * c, 6.0), wave = std::clamp(std::abs(t - 3) - 1, 0.0, 1.0);
    color[std::size_t(c)] = std::uint8_t(55 + std::lround(190 * wave));
  }
  return color;
}

inline Image to_rgb(const Image& image) {
  if (image.channels == 3) return image;
  Image out(image.height, image.width, 3);
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    std::fill_n(out.pixels.begin() + std::ptrdiff_t(3 * i), 3, image.pixels[i]);
  return out;
}

/// Labels [H, W] over a picture of the same size: areas tinted with `opacity`, borders (a pixel whose right, left,
/// upper or lower neighbour has another label) in full colour.
template <class L>
Image overlay_labels(const Image& picture, const Tensor<L>& labels, double opacity = 0.35, bool contours = true) {
  const Index h = picture.height, w = picture.width;
  require(labels.shape() == Shape{h, w}, "overlay_labels: labels ", labels.shape(), " on a picture of ", Shape{h, w});
  Image out = to_rgb(picture);
  const L* l = labels.span().data();
  for (Index r = 0; r < h; ++r)
    for (Index c = 0; c < w; ++c) {
      const L here = l[r * w + c];
      if (here <= L(0)) continue;
      const bool border =
          contours && ((r > 0 && l[(r - 1) * w + c] != here) || (r + 1 < h && l[(r + 1) * w + c] != here) ||
                       (c > 0 && l[r * w + c - 1] != here) || (c + 1 < w && l[r * w + c + 1] != here));
      const double strength = border ? 1.0 : opacity;
      const auto color = label_color(std::int64_t(here));
      for (std::size_t x = 0; x < 3; ++x) {
        std::uint8_t& p = out.at(r, c)[x];
        p = std::uint8_t(std::lround((1 - strength) * p + strength * color[x]));
      }
    }
  return out;
}

/// Pixels repeated or left out, to another size.
inline Image scale_image(const Image& image, Index height, Index width) {
  Image out(height, width, image.channels);
  for (Index r = 0; r < height; ++r)
    for (Index c = 0; c < width; ++c)
      std::copy_n(image.at((2 * r + 1) * image.height / (2 * height), (2 * c + 1) * image.width / (2 * width)),
                  image.channels, out.at(r, c));
  return out;
}

/// Pictures in one row on black, each in the middle of the height, `gap` pixels apart.
inline Image side_by_side(const std::vector<Image>& images, Index gap = 4) {
  require(!images.empty(), "side_by_side: no pictures");
  Index height = 0, width = gap * Index(images.size() - 1);
  for (const Image& image : images) {
    height = std::max(height, image.height);
    width += image.width;
  }
  Image out(height, width, 3);
  Index left = 0;
  for (const Image& image : images) {
    const Image rgb = to_rgb(image);
    for (Index r = 0; r < rgb.height; ++r)
      std::copy_n(rgb.at(r, 0), rgb.width * 3, out.at(r + (height - rgb.height) / 2, left));
    left += image.width + gap;
  }
  return out;
}

namespace detail {
/// Picture of one slice in square pixels: the finer of the two spacings is a pixel of `zoom`.
template <class T, class L>
Image slice_picture(
    const Volume<T>& volume, const Tensor<L>& labels, Plane plane, Index at, double low, double high, double zoom) {
  Image image = gray_image(slice_display(extract_slice(volume, plane, at)), low, high);
  if (labels.defined()) {
    require(labels.shape() == volume.shape(), "slice_picture: labels ", labels.shape(), " for a volume of ",
            volume.shape());
    image = overlay_labels(image, slice_display(extract_slice(labels, plane, at)));
  }
  const Point3 mm = spacing_mm(volume.affine);
  const int axis = plane_axis(plane);
  const double across = mm[axis == 0 ? 1 : 0], down = mm[axis == 2 ? 1 : 2],
               pixel = std::min({mm[0], mm[1], mm[2]}) / zoom;
  const auto side = [&](Index n, double size) {
    return std::clamp<Index>(Index(std::lround(double(n) * size / pixel)), 1, 8192);
  };
  return scale_image(image, side(image.height, down), side(image.width, across));
}
}  // namespace detail

/// Sagittal, coronal and axial slices through voxel `at` of a RAS volume, side by side, in true proportions.
///
///   labels     [I, J, K] drawn over it; undefined draws none
///   low, high  window of intensities
///   zoom       pixels per smallest voxel size
template <class T, class L = std::int32_t>
Image three_planes(const Volume<T>& volume,
                   const Size3& at,
                   const Tensor<L>& labels = {},
                   double low = 0,
                   double high = 1,
                   double zoom = 1) {
  std::vector<Image> images;
  for (const Plane plane : {Plane::sagittal, Plane::coronal, Plane::axial})
    images.push_back(detail::slice_picture(volume, labels, plane, at[std::size_t(plane_axis(plane))], low, high, zoom));
  return side_by_side(images);
}

/// The same slice three times: plain, with the truth, with the prediction.
template <class T, class L>
Image compare_labels(const Volume<T>& volume,
                     const Tensor<L>& truth,
                     const Tensor<L>& prediction,
                     Plane plane,
                     Index at,
                     double low = 0,
                     double high = 1,
                     double zoom = 1) {
  const auto picture = [&](const Tensor<L>& labels) {
    return detail::slice_picture(volume, labels, plane, at, low, high, zoom);
  };
  return side_by_side({picture({}), picture(truth), picture(prediction)});
}

/// The slice of a plane that shows most labelled voxels; the middle one if there are none.
template <class L>
Index fullest_slice(const Tensor<L>& labels, Plane plane) {
  detail::require_volume("fullest_slice", labels);
  const Index n = labels.shape()[plane_axis(plane)];
  Index best = n / 2, most = 0;
  for (Index s = 0; s < n; ++s) {
    const Tensor<L> slice = extract_slice(labels, plane, s);
    const Index count = slice.size() - Index(std::count(slice.data(), slice.data() + slice.size(), L(0)));
    if (count > most) {
      most = count;
      best = s;
    }
  }
  return best;
}

}  // namespace M3I_ABI
}  // namespace m3i
