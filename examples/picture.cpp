// Pictures of a volume as PNG: three planes through a point, one plane, many slices, labels over it, a prediction
// against the truth.
//
//     picture scan.nii.gz scan.png --labels labels.nii.gz --names liver,spleen,kidney --window soft_tissue

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "m3i/imaging/ct_windows.hpp"
#include "m3i/imaging/intensity.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/imaging/views.hpp"
#include "m3i/train/guard.hpp"

namespace {

using namespace m3i;
using Labels = Tensor<std::int32_t>;

struct Request {
  std::string image, out, labels, truth, window = "auto", plane, compare = "panels";
  std::vector<std::string> names;
  std::vector<double> at_mm;
  Index montage = 0, size = 384;
  double fill = 0.3, contour = 1.5, pixel_mm = 0;
  bool first_frame = false, neurological = false, crisp = false, no_letters = false, no_crosshair = false;
};

std::string ct_window_names() {
  std::string out;
  for (const CtWindow& w : ct_windows) out += text(out.empty() ? "" : ", ", w.name);
  return out;
}

/// The intensities that are black and white: the window's ends, or the range between two percentiles.
std::array<double, 2> window_of(const Request& request, const Volume<float>& volume) {
  if (request.window == "auto") {
    const auto range = percentiles(volume.voxels, {0.5, 99.5});
    if (range[1] > range[0]) return {range[0], range[1]};
    const IntensityStats s = intensity_stats(volume.voxels);  // nearly all voxels are equal
    return {s.min, s.max};
  }
  double center = 0, width = 0;
  const std::size_t comma = request.window.find(',');
  if (comma == std::string::npos) {
    const CtWindow named = ct_window(request.window);
    center = named.center_hu, width = named.width_hu;
  } else {
    const auto number = [&](const std::string& word, double& value) {
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
      require<UsageError>(error == std::errc() && end == word.data() + word.size() && std::isfinite(value),
                          "--window: \"", word, "\" of \"", request.window,
                          "\" is not a number; expected CENTER,WIDTH");
    };
    number(request.window.substr(0, comma), center);
    number(request.window.substr(comma + 1), width);
  }
  require<UsageError>(width > 0, "--window: a width of ", width, ", expected a positive one");
  return {center - width / 2, center + width / 2};
}

/// Labels on the image's grid, in RAS order; undefined without a path.
Labels labels_of(const std::string& path, const std::string& image_path, const Volume<float>& image) {
  if (path.empty()) return {};
  const auto labels = read_labels<std::int32_t>(path);
  check_same_grid(image_path, image.grid(), path, labels.grid());
  return reorient(labels.voxels, ras_map(image.affine));
}

/// The voxel to show: the one at --at, or the slices that show most of the labels, or the middle.
Size3 voxel_of(const Request& request, const Volume<float>& ras, const Labels& labels) {
  Size3 voxel = size3(ras.shape());
  if (request.at_mm.empty()) {
    for (const Plane plane : {Plane::sagittal, Plane::coronal, Plane::axial}) {
      Index& v = voxel[std::size_t(plane_axis(plane))];
      v = labels.defined() ? fullest_slice(labels, plane) : v / 2;
    }
    return voxel;
  }
  const Point3 place = inverse(ras.affine)({request.at_mm[0], request.at_mm[1], request.at_mm[2]});
  for (std::size_t a = 0; a < 3; ++a) {
    const Index n = voxel[a];
    voxel[a] = Index(std::lround(std::clamp(place[a], -1e9, 1e9)));
    if (voxel[a] >= 0 && voxel[a] < n) continue;
    const Point3 low = ras.affine({0, 0, 0}), size = spacing_mm(ras.affine);
    fail<UsageError>("--at: ", request.at_mm[0], ",", request.at_mm[1], ",", request.at_mm[2], " mm (right, anterior, ",
                     "superior) is voxel ", voxel[a], " of the axis ", "RAS"[a], ", which has 0 to ", n - 1, " of ",
                     size[a], " mm from ", low[a], " mm on");
  }
  return voxel;
}

/// The first and last slice that --montage shows: those with labels, or those with something brighter than black.
std::array<Index, 2> montage_range(const Volume<float>& ras, const Labels& labels, Plane plane, double low) {
  const int axis = plane_axis(plane);
  Index first = -1, last = -1;
  for (Index s = 0; s < ras.shape()[axis]; ++s) {
    bool shows = false;
    if (labels.defined()) {
      for (const std::int32_t v : extract_slice(labels, plane, s).span()) shows = shows || v > 0;
    } else {
      const Tensor<float> slice = extract_slice(ras.voxels, plane, s);
      shows = foreground_fraction(slice, low) > 0.02;
    }
    if (!shows) continue;
    if (first < 0) first = s;
    last = s;
  }
  if (first < 0) return {0, ras.shape()[axis] - 1};
  return {first, last};
}

bool panels_asked(const Request& request) { return request.compare == "panels" && request.montage == 0; }

Image draw(const Request& request,
           const Size3& at,
           const Volume<float>& ras,
           const Labels& labels,
           const Labels& truth,
           ViewOptions view) {
  const Plane plane = request.plane.empty() ? Plane::axial : parse_plane(request.plane);
  const Index slice = at[std::size_t(plane_axis(plane))];
  const bool both = labels.defined() && truth.defined();
  if (panels_asked(request) && both) return compare_labels(ras, truth, labels, plane, slice, view);
  std::vector<LabelLayer<std::int32_t>> layers;
  const OverlayStyle style{
      .fill = request.fill, .contour = request.contour, .smooth = !request.crisp, .color = label_color};
  if (both) {
    layers = {{truth, {.fill = 0, .contour = 2 * request.contour, .smooth = !request.crisp, .color = truth_color}},
              {labels, {.fill = 0, .contour = request.contour, .smooth = !request.crisp, .color = prediction_color}}};
  } else if (labels.defined() || truth.defined()) {
    layers = {{labels.defined() ? labels : truth, style}};
  }
  if (request.montage > 0) {
    const auto [first, last] = montage_range(ras, truth.defined() ? truth : labels, plane, view.low);
    return slice_montage(ras, layers, plane, first, last, request.montage, view);
  }
  return request.plane.empty() ? three_planes(ras, at, layers, view) : slice_picture(ras, layers, plane, slice, view);
}

/// The labels in the slices that are shown, for the key.
Labels shown_labels(const Request& request, const Labels& labels, const Size3& at, bool panels) {
  if (request.montage > 0) return labels;
  std::vector<std::int32_t> values;
  for (const Plane plane : {Plane::sagittal, Plane::coronal, Plane::axial}) {
    const std::string only = request.plane.empty() && panels ? "axial" : request.plane;
    if (!only.empty() && only != plane_name(plane)) continue;
    const Labels slice = extract_slice(labels, plane, at[std::size_t(plane_axis(plane))]);
    values.insert(values.end(), slice.span().begin(), slice.span().end());
  }
  return Labels::from(values, {Index(values.size())});
}

int run(const Request& request) {
  require<UsageError>(request.out.ends_with(".png") || request.out.ends_with(".PNG"), request.out,
                      ": expected the name of a .png file");
  const Volume<float> image = read_nifti<float>(request.image, {request.first_frame});
  check_intensities(image, request.image);
  const Labels labels = labels_of(request.labels, request.image, image),
               truth = labels_of(request.truth, request.image, image);
  const Volume<float> ras = to_ras(image);
  const auto [low, high] = window_of(request, ras);
  ViewOptions view{.low = low, .high = high, .pixel_mm = request.pixel_mm, .size = request.size};
  view.convention = request.neurological ? Convention::neurological : Convention::radiological;
  view.letters = !request.no_letters;
  view.crosshair = !request.no_crosshair;
  view.smooth = !request.crisp;
  const Labels main = truth.defined() ? truth : labels;
  const Size3 at = voxel_of(request, ras, main);
  Image picture = draw(request, at, ras, labels, truth, view);

  std::vector<std::string> names{"background"};
  names.insert(names.end(), request.names.begin(), request.names.end());
  const bool both = labels.defined() && truth.defined(), panels = both && panels_asked(request);
  std::vector<std::pair<std::string, Rgb>> key;
  if (both && !panels) key = contour_key();
  else if (labels.defined() || truth.defined()) key = structure_key(shown_labels(request, main, at, panels), names);
  std::vector<Image> parts{picture};
  if (!key.empty()) parts.push_back(color_key(key, picture.width));
  if (panels) parts.push_back(color_key(agreement_key(), picture.width));
  if (parts.size() > 1) picture = montage(parts, 1, 0);
  write_png(request.out, picture);
  std::printf("picture: wrote %s, %lld x %lld pixels, black %g, white %g, %s (%s)\n", request.out.c_str(),
              (long long)picture.width, (long long)picture.height, low, high, convention_name(view.convention),
              request.neurological ? "the patient's left is on the left" : "the patient's right is on the left");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Draws a NIfTI volume as PNG in true proportions, whatever its axes and voxel sizes: sagittal, coronal and "
        "axial\n"
        "slices through a point, one plane (--plane), or many slices (--montage). Labels are drawn over it with a "
        "key.\n"
        "With --labels and --truth, the prediction is compared with the truth.");
    Request r;
    app.add_option("image", r.image, "a .nii or .nii.gz file")->required();
    app.add_option("out", r.out, "the PNG file to write")->required();
    app.add_option("-l,--labels", r.labels, "labels (or a prediction) on the image's grid");
    app.add_option("-t,--truth", r.truth, "true labels, to compare --labels with");
    app.add_option("--names", r.names, "names of labels 1, 2, ..., for the key")->delimiter(',');
    app.add_option("-w,--window", r.window,
                   text("auto (0.5 to 99.5 percent), CENTER,WIDTH, or a CT preset: ", ct_window_names()))
        ->capture_default_str();
    app.add_option("--at", r.at_mm, "the point to show, x,y,z in mm right, anterior, superior")
        ->delimiter(',')
        ->expected(3);
    app.add_option("-p,--plane", r.plane, "only this plane: sagittal, coronal or axial")
        ->check(CLI::IsMember({"sagittal", "coronal", "axial"}));
    app.add_option("-m,--montage", r.montage, "this many slices of --plane (axial unless given)")
        ->check(CLI::Range(1, 400));
    app.add_option("--compare", r.compare,
                   "with --labels and --truth: panels (image, truth, prediction, agreement) or contours (both in one)")
        ->check(CLI::IsMember({"panels", "contours"}))
        ->capture_default_str();
    app.add_option("--size", r.size, "pixels along the volume's longest side")
        ->check(CLI::Range(16, 4096))
        ->capture_default_str();
    app.add_option("--pixel", r.pixel_mm, "side of a pixel in mm, instead of --size")->check(CLI::PositiveNumber);
    app.add_option("--fill", r.fill, "opacity of labelled areas")->check(CLI::Range(0.0, 1.0))->capture_default_str();
    app.add_option("--contour", r.contour, "width of their borders in pixels")
        ->check(CLI::Range(0.0, 20.0))
        ->capture_default_str();
    app.add_flag("--neurological", r.neurological,
                 "the patient's left on the left; without it the convention is radiological: right on the left, as "
                 "seen from the feet");
    app.add_flag("--crisp", r.crisp, "voxels as rectangles, borders along them");
    app.add_flag("--no-letters", r.no_letters, "leave out L R A P S I");
    app.add_flag("--no-crosshair", r.no_crosshair, "leave out the lines through the point");
    app.add_flag("--first-frame", r.first_frame, "of a file with several frames, take the first");
    app.footer(
        "Example:  picture scan.nii.gz scan.png --window lung\n"
        "          picture scan.nii.gz organs.png --labels labels.nii.gz --names liver,spleen --plane axial --at "
        "20,0,-35\n"
        "          picture scan.nii.gz check.png --labels predicted.nii.gz --truth labels.nii.gz --montage 12");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(r);
  });
}
