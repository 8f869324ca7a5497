#pragma once
/// Slices of volumes as pictures in true proportions: one plane, three planes through a point, many slices, a
/// prediction against the truth. Letters at the borders say which side is which.

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "m3i/imaging/overlay.hpp"
#include "m3i/imaging/resize2d.hpp"
#include "m3i/imaging/slices.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Which side of the patient is on the left of a picture. Radiological: the right side, and in sagittal slices the
/// front, as when one stands at the patient's feet. Neurological: the left side, and the back.
enum class Convention { radiological, neurological };

inline const char* convention_name(Convention c) {
  return c == Convention::radiological ? "radiological" : "neurological";
}

struct ViewOptions {
  double low = 0, high = 1;  ///< window: intensities that are black and white
  double pixel_mm = 0;       ///< side of a pixel; 0: the longest side of the volume is `size` pixels long
  Index size = 384;
  Convention convention = Convention::radiological;
  bool letters = true;    ///< L R A P S I at the borders
  bool crosshair = true;  ///< three_planes: lines through the point
  bool smooth = true;     ///< cubic interpolation; false: voxels as rectangles
};

/// Labels [I, J, K] to draw over a volume, and how.
template <class L>
struct LabelLayer {
  Tensor<L> labels;
  OverlayStyle style{};
};

namespace detail {

/// The axes along a picture's columns and rows.
inline std::array<int, 2> picture_axes(Plane plane) {
  return {plane == Plane::sagittal ? 1 : 0, plane == Plane::axial ? 1 : 2};
}

inline double longest_mm(const Grid& grid) {
  const Point3 mm = spacing_mm(grid.affine);
  double longest = 0;
  for (std::size_t a = 0; a < 3; ++a) longest = std::max(longest, double(grid.size[a]) * mm[a]);
  return longest;
}

inline double pixel_mm(const Grid& grid, const ViewOptions& options) {
  require(options.pixel_mm > 0 || (options.size >= 16 && options.size <= 8192), "picture: pixels of ", options.pixel_mm,
          " mm, a longest side of ", options.size, " pixels; expected a positive size or 16 to 8192 pixels");
  if (options.pixel_mm > 0) return options.pixel_mm;
  return longest_mm(grid) / double(options.size);
}

/// Height and width of a slice in pixels.
inline std::array<Index, 2> picture_size(const Grid& grid, Plane plane, const ViewOptions& options) {
  const Point3 mm = spacing_mm(grid.affine);
  const double pixel = pixel_mm(grid, options);
  const auto side = [&](int axis) {
    const double n = std::round(double(grid.size[std::size_t(axis)]) * mm[std::size_t(axis)] / pixel);
    require(n <= 8192, "picture: a side of ", n, " pixels, expected at most 8192; choose larger pixels than ", pixel,
            " mm");
    return std::max<Index>(1, Index(n));
  };
  const auto [across, up] = picture_axes(plane);
  return {side(up), side(across)};
}

template <class T>
Tensor<T> mirrored(const Tensor<T>& picture) {
  const Index h = picture.shape()[0], w = picture.shape()[1];
  Tensor<T> out(picture.shape());
  for (Index r = 0; r < h; ++r)
    std::reverse_copy(picture.data() + r * w, picture.data() + (r + 1) * w, out.data() + r * w);
  return out;
}
/// slice_display is neurological.
template <class T>
Tensor<T> oriented_slice(const Tensor<T>& voxels, Plane plane, Index at, Convention convention) {
  const Tensor<T> picture = slice_display(extract_slice(voxels, plane, at));
  return convention == Convention::radiological ? mirrored(picture) : picture;
}

inline void draw_letters(Image& image, Plane plane, Convention convention, Index scale) {
  if (std::min(image.height, image.width) < 30 * scale) return;  // no room
  const Index rim = 2 * scale;
  const auto [across, up] = picture_axes(plane);
  const bool radiological = convention == Convention::radiological;
  const std::string low(1, "LPI"[across]), high(1, "RAS"[across]), top(1, "RAS"[up]), bottom(1, "LPI"[up]);
  const Index middle = image.height / 2 - 3 * scale, centre = image.width / 2 - 2 * scale;
  const Rgb color{255, 255, 255};
  draw_text(image, middle, rim, radiological ? high : low, color, scale);
  draw_text(image, middle, image.width - rim - 5 * scale, radiological ? low : high, color, scale);
  draw_text(image, rim, centre, top, color, scale);
  draw_text(image, image.height - rim - 7 * scale, centre, bottom, color, scale);
}

/// Thin lines through a place given in pixels, open around it.
inline void draw_crosshair(Image& image, double row, double column) {
  constexpr Rgb color{255, 255, 120};
  const auto dot = [&](Index r, Index c) {
    if (r < 0 || c < 0 || r >= image.height || c >= image.width) return;
    for (std::size_t x = 0; x < 3; ++x) image.at(r, c)[x] = std::uint8_t((image.at(r, c)[x] + color[x]) / 2);
  };
  const double open = double(std::max(image.height, image.width)) / 40;
  for (Index r = 0; r < image.height; ++r)
    if (std::abs(double(r) + 0.5 - row) > open) dot(r, Index(column));
  for (Index c = 0; c < image.width; ++c)
    if (std::abs(double(c) + 0.5 - column) > open) dot(Index(row), c);
}

/// A line of words above a picture.
inline Image titled(const Image& image, const std::string& words) {
  const Index scale = std::clamp<Index>(image.width / 160, 1, 4);
  Image head(text_height(scale) + 2 * scale, image.width, 3);
  draw_text(head, 2 * scale, std::max<Index>(0, (image.width - text_width_pixels(words, scale)) / 2), words,
            {235, 235, 235}, scale, false);
  return montage({head, image}, 1, 0);
}

}  // namespace detail

/// One slice of a RAS volume with labels over it, a pixel being as wide as high in mm.
/// Throws ShapeError if the axes are not RAS (see to_ras) or a layer has another shape than the volume.
template <class T, class L = std::int32_t>
Image slice_picture(const Volume<T>& volume,
                    const std::vector<LabelLayer<L>>& layers,
                    Plane plane,
                    Index at,
                    const ViewOptions& options = {}) {
  require(ras_map(volume.affine).is_identity(), "slice_picture: the volume's axes are ", orientation(volume.affine),
          ", expected RAS; use to_ras first");
  const auto [height, width] = detail::picture_size(volume.grid(), plane, options);
  const Tensor<T> slice = detail::oriented_slice(volume.voxels, plane, at, options.convention);
  Image image;
  if (options.smooth) {
    Tensor<float> values(slice.shape());
    for (Index i = 0; i < slice.size(); ++i) values.data()[i] = float(slice.data()[i]);
    image = gray_image(resize_cubic(values, height, width), options.low, options.high);
  } else {
    image = scale_image(gray_image(slice, options.low, options.high), height, width);
  }
  image = to_rgb(image);
  for (const auto& layer : layers) {
    require(layer.labels.shape() == volume.shape(), "slice_picture: labels ", layer.labels.shape(), " for a volume of ",
            volume.shape());
    image = overlay_labels(image, detail::oriented_slice(layer.labels, plane, at, options.convention), layer.style);
  }
  if (options.letters) {
    const double longest = detail::longest_mm(volume.grid()) / detail::pixel_mm(volume.grid(), options);
    detail::draw_letters(image, plane, options.convention, std::clamp<Index>(Index(longest / 190), 1, 6));
  }
  return image;
}

/// Sagittal, coronal and axial slices through voxel `at` of a RAS volume, side by side.
template <class T, class L = std::int32_t>
Image three_planes(const Volume<T>& volume,
                   const Size3& at,
                   const std::vector<LabelLayer<L>>& layers = {},
                   const ViewOptions& options = {}) {
  std::vector<Image> images;
  for (const Plane plane : {Plane::sagittal, Plane::coronal, Plane::axial}) {
    Image& image =
        images.emplace_back(slice_picture(volume, layers, plane, at[std::size_t(plane_axis(plane))], options));
    if (!options.crosshair) continue;
    const auto axes = detail::picture_axes(plane);
    const auto share = [&](int axis) {  // of the way along the axis
      return (double(at[std::size_t(axis)]) + 0.5) / double(volume.shape()[axis]);
    };
    const double across = options.convention == Convention::radiological ? 1 - share(axes[0]) : share(axes[0]);
    detail::draw_crosshair(image, (1 - share(axes[1])) * double(image.height), across * double(image.width));
  }
  return side_by_side(images);
}

/// Slices first, ..., last of a plane in rows and columns, at most `count` and evenly spaced, each with its place in
/// mm.
template <class T, class L = std::int32_t>
Image slice_montage(const Volume<T>& volume,
                    const std::vector<LabelLayer<L>>& layers,
                    Plane plane,
                    Index first,
                    Index last,
                    Index count,
                    const ViewOptions& options = {}) {
  const int axis = plane_axis(plane);
  require(first >= 0 && first <= last && last < volume.shape()[axis] && count >= 1 && count <= 400,
          "slice_montage: ", count, " slices from ", first, " to ", last, " of ", volume.shape()[axis],
          ", expected 1 to 400 slices inside the volume");
  count = std::min(count, last - first + 1);
  std::vector<Image> images;
  for (Index i = 0; i < count; ++i) {
    const Index at = count == 1 ? (first + last) / 2 : first + (i * (last - first) + (count - 1) / 2) / (count - 1);
    Point3 voxel{};
    voxel[std::size_t(axis)] = double(at);
    const double mm = volume.affine(voxel)[std::size_t(axis)];
    images.push_back(detail::titled(slice_picture(volume, layers, plane, at, options),
                                    text("RAS"[axis], " ", std::round(mm * 10) / 10, " mm")));
  }
  const double shape = double(images[0].height) / double(images[0].width);  // about 4 : 3 as a whole
  const auto columns = Index(std::lround(std::sqrt(double(count) * shape * 4 / 3)));
  return montage(images, std::clamp<Index>(columns, 1, count));
}

/// One slice four times: plain, with the truth, with the prediction, and where the two agree. Entries of the last are
/// explained by agreement_key.
template <class T, class L>
Image compare_labels(const Volume<T>& volume,
                     const Tensor<L>& truth,
                     const Tensor<L>& prediction,
                     Plane plane,
                     Index at,
                     const ViewOptions& options = {}) {
  const auto plain = [&](const std::vector<LabelLayer<L>>& layers) {
    return slice_picture(volume, layers, plane, at, options);
  };
  const Tensor<std::int32_t> codes = agreement_labels(truth, prediction), differing = codes.clone();
  for (std::int32_t& code : differing.span())
    if (code == std::int32_t(Agreement::agreed)) code = 0;
  const OverlayStyle pale{.fill = 0.25, .contour = 0, .smooth = options.smooth, .color = agreement_color},
      strong{.fill = 0.9, .contour = 0, .smooth = options.smooth, .color = agreement_color};
  const Image differences =
      slice_picture<T, std::int32_t>(volume, {{codes, pale}, {differing, strong}}, plane, at, options);
  return side_by_side({detail::titled(plain({}), "image"), detail::titled(plain({{truth, {}}}), "truth"),
                       detail::titled(plain({{prediction, {}}}), "prediction"),
                       detail::titled(differences, "agreement")});
}

/// Bluish green and vermilion: the two contours of compare_contours.
inline Rgb truth_color(std::int64_t label) { return label > 0 ? Rgb{0, 200, 140} : Rgb{0, 0, 0}; }
inline Rgb prediction_color(std::int64_t label) { return label > 0 ? Rgb{255, 110, 0} : Rgb{0, 0, 0}; }
inline std::vector<std::pair<std::string, Rgb>> contour_key() {
  return {{"truth", truth_color(1)}, {"prediction", prediction_color(1)}};
}

/// One slice with the borders of the truth and, thinner and over them, those of the prediction (see contour_key).
template <class T, class L>
Image compare_contours(const Volume<T>& volume,
                       const Tensor<L>& truth,
                       const Tensor<L>& prediction,
                       Plane plane,
                       Index at,
                       const ViewOptions& options = {}) {
  const std::vector<LabelLayer<L>> layers{
      {truth, {.fill = 0, .contour = 3, .smooth = options.smooth, .color = truth_color}},
      {prediction, {.fill = 0, .contour = 1.4, .smooth = options.smooth, .color = prediction_color}}};
  return slice_picture(volume, layers, plane, at, options);
}

/// Names and colours of the structures that occur, for color_key. Entry i of `names` is label i; labels beyond are
/// called by their number.
template <class L>
std::vector<std::pair<std::string, Rgb>> structure_key(const Tensor<L>& labels, const std::vector<std::string>& names) {
  std::vector<std::int64_t> seen;
  std::int64_t last = 0;
  for (const L v : labels.span()) {
    const auto label = std::int64_t(v);
    if (label == last || label <= 0) continue;
    last = label;
    if (const auto at = std::lower_bound(seen.begin(), seen.end(), label); at == seen.end() || *at != label)
      seen.insert(at, label);
  }
  std::vector<std::pair<std::string, Rgb>> out;
  for (const std::int64_t label : seen)
    out.emplace_back(label < std::int64_t(names.size()) ? names[std::size_t(label)] : text("label ", label),
                     label_color(label));
  return out;
}

/// Names and colours of agreement_labels.
inline std::vector<std::pair<std::string, Rgb>> agreement_key() {
  std::vector<std::pair<std::string, Rgb>> out;
  for (const auto& [name, code] : {std::pair("agreed", Agreement::agreed), std::pair("missed", Agreement::missed),
                                   std::pair("extra", Agreement::extra), std::pair("other label", Agreement::confused)})
    out.emplace_back(name, agreement_color(std::int64_t(code)));
  return out;
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
