#pragma once
/// Grey windows, colours of labels, overlays with contours, colour keys, pictures in rows and columns.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/imaging/font.hpp"
#include "m3i/imaging/png.hpp"

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

/// The colour of a label. The first eight are those of Okabe and Ito (2008), which colour-blind readers tell apart,
/// with a lighter blue for dark backgrounds; the next eight follow Tol's schemes (2021); then come hues at the golden
/// angle. 0 is black and never drawn.
inline Rgb label_color(std::int64_t label) {
  static constexpr std::array<Rgb, 16> first{{{230, 159, 0},      // orange
                                              {86, 180, 233},     // sky blue
                                              {0, 158, 115},      // bluish green
                                              {240, 228, 66},     // yellow
                                              {213, 94, 0},       // vermilion
                                              {204, 121, 167},    // reddish purple
                                              {40, 120, 220},     // blue
                                              {230, 230, 230},    // white
                                              {68, 170, 153},     // teal
                                              {170, 68, 153},     // purple
                                              {153, 153, 51},     // olive
                                              {255, 170, 187},    // pink
                                              {136, 34, 85},      // wine
                                              {153, 221, 255},    // pale cyan
                                              {187, 204, 51},     // pear
                                              {119, 136, 221}}};  // periwinkle
  if (label <= 0) return {0, 0, 0};
  if (label <= std::int64_t(first.size())) return first[std::size_t(label - 1)];
  const double hue = std::fmod(double(label) * 137.50776405, 360.0) / 60.0;
  Rgb color;
  for (int c = 0; c < 3; ++c) {  // triangle waves a third of a turn apart
    const double t = std::fmod(hue + 6 - 2 * c, 6.0), wave = std::clamp(std::abs(t - 3) - 1, 0.0, 1.0);
    color[std::size_t(c)] = std::uint8_t(55 + std::lround(190 * wave));
  }
  return color;
}

/// A prediction against the truth, voxel by voxel.
enum class Agreement : std::uint8_t { background = 0, agreed = 1, missed = 2, extra = 3, confused = 4 };

/// Colours of agreement_labels: bluish green, vermilion, sky blue, yellow.
inline Rgb agreement_color(std::int64_t code) {
  static constexpr std::array<Rgb, 5> colors{{{0, 0, 0}, {0, 158, 115}, {213, 94, 0}, {86, 180, 233}, {240, 228, 66}}};
  return code > 0 && code < std::int64_t(colors.size()) ? colors[std::size_t(code)] : Rgb{0, 0, 0};
}

/// Codes of Agreement: missed is labelled in the truth only, extra in the prediction only, confused carries another
/// label in each.
template <class L>
Tensor<std::int32_t> agreement_labels(const Tensor<L>& truth, const Tensor<L>& prediction) {
  require(truth.shape() == prediction.shape(), "agreement_labels: truth ", truth.shape(), ", prediction ",
          prediction.shape(), ", expected equal shapes");
  Tensor<std::int32_t> out(truth.shape());
  const auto t = truth.span(), p = prediction.span();
  for (std::size_t i = 0; i < t.size(); ++i) {
    const Agreement code = t[i] == p[i]   ? (t[i] == L(0) ? Agreement::background : Agreement::agreed)
                           : p[i] == L(0) ? Agreement::missed
                           : t[i] == L(0) ? Agreement::extra
                                          : Agreement::confused;
    out.data()[i] = std::int32_t(code);
  }
  return out;
}

inline Image to_rgb(const Image& image) {
  if (image.channels == 3) return image;
  Image out(image.height, image.width, 3);
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    std::fill_n(out.pixels.begin() + std::ptrdiff_t(3 * i), 3, image.pixels[i]);
  return out;
}

/// How labels are drawn.
struct OverlayStyle {
  double fill = 0.3;     ///< opacity of areas, 0 to 1
  double contour = 1.5;  ///< width of borders in pixels, inside of each area; 0 draws none
  bool smooth = true;    ///< antialiased, borders between the centres of labels interpolated; false: crisp squares
  Rgb (*color)(std::int64_t label) = label_color;
};

namespace detail {

/// Labels [h, w] looked up over the same area in rows x columns samples: the nearest, or the label that weighs most
/// among the four around.
template <class L>
std::vector<L> sample_labels(const Tensor<L>& labels, Index rows, Index columns, bool smooth) {
  const Index h = labels.shape()[0], w = labels.shape()[1];
  const L* l = labels.span().data();
  std::vector<L> out(std::size_t(rows * columns));
  const auto place = [](Index i, Index samples, Index n) {
    return (double(i) + 0.5) * double(n) / double(samples) - 0.5;
  };
  for (Index r = 0; r < rows; ++r) {
    const double y = place(r, rows, h);
    const Index y0 = Index(std::floor(y)), above = std::clamp<Index>(y0, 0, h - 1),
                below = std::clamp<Index>(y0 + 1, 0, h - 1);
    const double down = y - double(y0);
    for (Index c = 0; c < columns; ++c) {
      const double x = place(c, columns, w);
      const Index x0 = Index(std::floor(x)), left = std::clamp<Index>(x0, 0, w - 1),
                  right = std::clamp<Index>(x0 + 1, 0, w - 1);
      const double across = x - double(x0);
      const std::array<L, 4> value{l[above * w + left], l[above * w + right], l[below * w + left],
                                   l[below * w + right]};
      const std::array<double, 4> weight{(1 - down) * (1 - across), (1 - down) * across, down * (1 - across),
                                         down * across};
      std::size_t best = 0;
      double most = -1;
      for (std::size_t k = 0; k < 4; ++k) {
        double mass = weight[k];
        if (smooth)
          for (std::size_t other = 0; other < 4; ++other)
            if (other != k && value[other] == value[k]) mass += weight[other];
        if (mass > most + 1e-12) most = mass, best = k;
      }
      out[std::size_t(r * columns + c)] = value[best];
    }
  }
  return out;
}

/// 1 where a labelled sample lies within `width` samples of the inner side of its border.
template <class L>
std::vector<std::uint8_t> border_samples(const std::vector<L>& labels, Index rows, Index columns, double width) {
  std::vector<std::uint8_t> out(labels.size());
  const Index reach = Index(std::ceil(width));
  const double radius = width - 0.5;  // the border sample itself is the first of the width
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      const L here = labels[std::size_t(r * columns + c)];
      const auto other = [&](Index y, Index x) {
        return y >= 0 && y < rows && x >= 0 && x < columns && labels[std::size_t(y * columns + x)] != here;
      };
      if (here <= L(0) || !(other(r - 1, c) || other(r + 1, c) || other(r, c - 1) || other(r, c + 1))) continue;
      for (Index y = std::max<Index>(0, r - reach); y <= std::min(rows - 1, r + reach); ++y)
        for (Index x = std::max<Index>(0, c - reach); x <= std::min(columns - 1, c + reach); ++x)
          if (std::hypot(double(y - r), double(x - c)) <= radius && labels[std::size_t(y * columns + x)] == here)
            out[std::size_t(y * columns + x)] = 1;
    }
  return out;
}

}  // namespace detail

/// Labels [h, w] over a picture of the same area, of any size: areas tinted, borders in full colour. Negative labels
/// and 0 are not drawn.
template <class L>
Image overlay_labels(const Image& picture, const Tensor<L>& labels, const OverlayStyle& style = {}) {
  require(labels.rank() == 2 && labels.size() > 0, "overlay_labels: needs labels [h, w], got ", labels.shape());
  require(style.fill >= 0 && style.fill <= 1 && style.contour >= 0 && style.contour <= 100, "overlay_labels: fill ",
          style.fill, ", contour ", style.contour, " pixels, expected 0 to 1 and 0 to 100");
  const Index h = picture.height, w = picture.width;
  const Index fine = style.smooth && h * w <= (Index(1) << 23) ? 3 : 1;  // samples of a pixel along each side
  const auto sample = detail::sample_labels(labels, h * fine, w * fine, style.smooth);
  std::vector<std::uint8_t> border(sample.size());
  if (style.contour > 0) border = detail::border_samples(sample, h * fine, w * fine, style.contour * double(fine));
  Image out = to_rgb(picture);
  for (Index r = 0; r < h; ++r)
    for (Index c = 0; c < w; ++c) {
      double cover = 0;
      std::array<double, 3> paint{};
      for (Index s = 0; s < fine * fine; ++s) {
        const auto at = std::size_t((r * fine + s / fine) * w * fine + c * fine + s % fine);
        if (sample[at] <= L(0)) continue;
        const double strength = (border[at] ? 1.0 : style.fill) / double(fine * fine);
        const Rgb color = style.color(std::int64_t(sample[at]));
        cover += strength;
        for (std::size_t x = 0; x < 3; ++x) paint[x] += strength * color[x];
      }
      if (cover == 0) continue;
      for (std::size_t x = 0; x < 3; ++x) {
        std::uint8_t& p = out.at(r, c)[x];
        p = std::uint8_t(std::clamp(std::lround((1 - cover) * p + paint[x]), 0l, 255l));
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

namespace detail {
inline void paste(Image& out, const Image& image, Index top, Index left) {
  const Image rgb = to_rgb(image);
  for (Index r = 0; r < rgb.height; ++r) std::copy_n(rgb.at(r, 0), rgb.width * 3, out.at(top + r, left));
}
}  // namespace detail

/// Pictures in rows of `columns` on black, each in the middle of its cell, `gap` pixels apart. Columns are as wide as
/// their widest picture, rows as high as their highest.
inline Image montage(const std::vector<Image>& images, Index columns, Index gap = 4) {
  require(!images.empty() && columns > 0, "montage: ", images.size(), " pictures in ", columns,
          " columns, expected at least one of both");
  const Index n = Index(images.size()), rows = (n + columns - 1) / columns;
  columns = std::min(columns, n);
  std::vector<Index> height(static_cast<std::size_t>(rows)), width(static_cast<std::size_t>(columns));
  for (Index i = 0; i < n; ++i) {
    const Image& image = images[std::size_t(i)];
    Index &h = height[std::size_t(i / columns)], &w = width[std::size_t(i % columns)];
    h = std::max(h, image.height), w = std::max(w, image.width);
  }
  const auto total = [gap](const std::vector<Index>& sizes) {
    Index sum = gap * (Index(sizes.size()) - 1);
    for (const Index s : sizes) sum += s;
    return sum;
  };
  Image out(total(height), total(width), 3);
  for (Index i = 0, top = 0, left = 0; i < n; ++i) {
    const Image& image = images[std::size_t(i)];
    const Index h = height[std::size_t(i / columns)], w = width[std::size_t(i % columns)];
    detail::paste(out, image, top + (h - image.height) / 2, left + (w - image.width) / 2);
    left += w + gap;
    if ((i + 1) % columns == 0) left = 0, top += h + gap;
  }
  return out;
}

/// Pictures in one row on black, each in the middle of the height, `gap` pixels apart.
inline Image side_by_side(const std::vector<Image>& images, Index gap = 4) {
  return montage(images, std::max<Index>(1, Index(images.size())), gap);
}

/// Names with squares of their colours, in as many columns as fit into `width` pixels.
inline Image color_key(const std::vector<std::pair<std::string, Rgb>>& entries, Index width, Index scale = 2) {
  require(!entries.empty() && width > 0 && width <= 65535, "color_key: ", entries.size(), " names in ", width,
          " pixels");
  const Index line = text_height(scale) + 3 * scale, square = 7 * scale, space = 4 * scale;
  Index cell = 0;
  for (const auto& [name, color] : entries)
    cell = std::max(cell, space + square + space + text_width_pixels(name, scale) + 2 * space);
  const Index n = Index(entries.size()), columns = std::clamp<Index>(width / cell, 1, n),
              rows = (n + columns - 1) / columns;
  Image out(rows * line + 2 * scale, width, 3);
  for (Index i = 0; i < n; ++i) {  // column by column, as a list is read
    const auto& [name, color] = entries[std::size_t(i)];
    const Index top = i % rows * line + 2 * scale, left = i / rows * cell + space;
    for (Index r = top; r < std::min(top + square, out.height); ++r)
      for (Index c = left; c < std::min(left + square, width); ++c) std::copy_n(color.begin(), 3, out.at(r, c));
    draw_text(out, top, left + square + space, name, {235, 235, 235}, scale, false);
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
