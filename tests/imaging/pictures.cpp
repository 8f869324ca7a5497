/// Slices, PNG and overlays.

#include <filesystem>
#include <fstream>
#include <set>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/views.hpp"
#if M3I_ZLIB
#include <zlib.h>
#endif

using namespace m3i;

TEST_CASE("slices: planes fix the axis they should and pictures stand upright", "[imaging]") {
  Tensor<float> v({3, 4, 5});
  for (Index i = 0; i < v.size(); ++i) v.data()[i] = float(i);
  const auto coronal = extract_slice(v, Plane::coronal, 2);
  CHECK(coronal.shape() == Shape{3, 5});
  CHECK(coronal.data()[1 * 5 + 3] == v.data()[(1 * 4 + 2) * 5 + 3]);
  CHECK(extract_slice(v, Plane::sagittal, 2).data()[1 * 5 + 4] == v.data()[(2 * 4 + 1) * 5 + 4]);
  CHECK(extract_slice(v, Plane::axial, 4).data()[2 * 4 + 3] == v.data()[(2 * 4 + 3) * 5 + 4]);
  const auto picture = slice_display(coronal);
  CHECK(picture.shape() == Shape{5, 3});
  CHECK(picture.data()[0] == v.data()[(0 * 4 + 2) * 5 + 4]);  // top left: leftmost, most superior
  CHECK_THROWS_WITH(extract_slice(v, Plane::axial, 5), Catch::Contains("axial slice 5"));
  const Volume<float> turned{v, Affine::scaling({-1, 1, 1}), nullptr};
  CHECK_THROWS_WITH(extract_slice(turned, Plane::axial, 0), Catch::Contains("LAS"));
}

TEST_CASE("slices: bins and foreground", "[imaging]") {
  CHECK(slice_bin(0, 60) == 0);
  CHECK(slice_bin(59, 60) == 127);
  CHECK(slice_bin(30, 61) == 64);  // 63.5 goes up
  CHECK(slice_bin(0, 1) == 0);
  CHECK(slice_bin(5, 128) == 5);
  CHECK(foreground_fraction(Tensor<float>::from({0, 0.5, 0.01f, 1}, {2, 2})) == 0.5);
}

TEST_CASE("png: the check sums of the standard's examples", "[imaging]") {
  const std::string digits = "123456789";
  const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(digits.data()), digits.size());
  CHECK(detail::crc32_of(bytes) == 0xcbf43926u);
  CHECK(detail::adler32_of(bytes) == 0x091e01deu);
  CHECK(base64(bytes.first(1)) == "MQ==");
  CHECK(base64(bytes.first(2)) == "MTI=");
  CHECK(base64(bytes) == "MTIzNDU2Nzg5");
}

#if M3I_ZLIB
TEST_CASE("png: zlib unpacks what the encoder packs", "[imaging]") {
  Random random(21);
  for (const Index n : {1, 2, 3, 4, 100, 257, 258, 259, 600, 40000, 200000}) {
    for (const Index variety : {1, 2, 5, 256}) {  // from one long repeat to noise
      std::vector<std::uint8_t> in(static_cast<std::size_t>(n)), packed{0x78, 0x01}, out(in.size());
      for (auto& b : in) b = std::uint8_t(random.below(variety));
      if (n > 40000) std::copy_n(in.begin(), 40000, in.begin() + 50000);  // repeats beyond and within the window
      detail::Deflate(packed).compress(in);
      detail::append_big_endian(packed, detail::adler32_of(in));
      uLongf size = uLongf(out.size());
      REQUIRE(uncompress(out.data(), &size, packed.data(), uLong(packed.size())) == Z_OK);
      CHECK(out == in);
      if (variety == 1 && n >= 40000) CHECK(packed.size() < in.size() / 50);
    }
  }
}
#endif

TEST_CASE("png: a file has the right frame and is written whole", "[imaging]") {
  Image image(2, 3, 3, 10);
  image.at(1, 2)[0] = 200;
  const std::vector<std::uint8_t> bytes = png_bytes(image);
  CHECK(std::string(bytes.begin() + 1, bytes.begin() + 4) == "PNG");
  CHECK(std::string(bytes.begin() + 12, bytes.begin() + 16) == "IHDR");
  CHECK(bytes[19] == 3);
  CHECK(bytes[23] == 2);
  CHECK(std::string(bytes.end() - 8, bytes.end() - 4) == "IEND");
  const std::string path = (std::filesystem::temp_directory_path() / text("m3i_", ::getpid(), ".png")).string();
  write_png(path, image);
  CHECK(std::filesystem::file_size(path) == bytes.size());
  std::filesystem::remove(path);
  CHECK_THROWS_AS(write_png("/no/such/folder/x.png", image), FileError);
  CHECK(png_data_uri(image).rfind("data:image/png;base64,iVBORw0KGgo", 0) == 0);
}

namespace {
OverlayStyle crisp(double fill, double contour) {
  return {.fill = fill, .contour = contour, .smooth = false, .color = label_color};
}
bool is(const std::uint8_t* pixel, Rgb color) { return std::equal(color.begin(), color.end(), pixel); }
}  // namespace

TEST_CASE("gray: the window's ends are black and white, what is no number is black", "[imaging]") {
  const auto gray = gray_image(Tensor<float>::from({-1, 0.5, 2, std::nanf("")}, {2, 2}));
  CHECK(gray.pixels == std::vector<std::uint8_t>{0, 128, 255, 0});
  CHECK_THROWS_WITH(gray_image(Tensor<float>::zeros({2, 2}), 1, 1), Catch::Contains("window from 1 to 1"));
}

TEST_CASE("overlay: areas are tinted, borders lie inside of each area", "[imaging]") {
  Tensor<std::int32_t> labels = Tensor<std::int32_t>::zeros({5, 5});
  for (Index r = 1; r < 4; ++r)
    for (Index c = 1; c < 4; ++c) labels.data()[r * 5 + c] = 2;
  const Image over = overlay_labels(Image(5, 5, 1, 100), labels, crisp(0.5, 1));
  const Rgb color = label_color(2);
  CHECK(is(over.at(0, 0), {100, 100, 100}));
  CHECK(is(over.at(1, 1), color));
  CHECK(int(over.at(2, 2)[0]) == Approx((100 + color[0]) / 2.0).margin(1));
  CHECK(is(overlay_labels(Image(5, 5, 1, 100), labels, crisp(0, 0)).at(1, 1), {100, 100, 100}));
  CHECK_THROWS_AS(overlay_labels(Image(5, 5, 1), labels, crisp(2, 0)), ShapeError);
  CHECK_THROWS_AS(overlay_labels(Image(5, 5, 1), Tensor<std::int32_t>::zeros({2, 2, 2})), ShapeError);
}

TEST_CASE("overlay: a border keeps its width when the picture grows, and its ink when it is antialiased", "[imaging]") {
  Tensor<std::int32_t> labels = Tensor<std::int32_t>::zeros({10, 10});
  for (Index r = 0; r < 10; ++r)
    for (Index c = 0; c < 5; ++c) labels.data()[r * 10 + c] = 1;
  for (const bool smooth : {false, true})
    for (const double width : {1.0, 2.0, 5.0}) {
      const OverlayStyle style{.fill = 0, .contour = width, .smooth = smooth, .color = label_color};
      const Image over = overlay_labels(Image(80, 80, 1, 0), labels, style);
      double ink = 0;
      for (Index c = 0; c < 80; ++c) ink += double(over.at(40, c)[0]) / label_color(1)[0];
      CHECK(ink == Approx(width).margin(0.35));
      CHECK(over.at(40, 39)[0] == label_color(1)[0]);
      CHECK(over.at(40, 41)[0] == 0);
    }
}

TEST_CASE("colours: the first labels are far apart, also without red and green", "[imaging]") {
  const auto distance = [](Rgb a, Rgb b) {
    return std::abs(a[0] - b[0]) + std::abs(a[1] - b[1]) + std::abs(a[2] - b[2]);
  };
  // Viénot, Brettel and Mollon 1999 in linear RGB, for deuteranopia.
  const auto seen = [](Rgb c) {
    const auto linear = [](std::uint8_t v) { return std::pow(v / 255.0, 2.2); };
    const auto coded = [](double v) {
      return std::uint8_t(std::lround(255 * std::pow(std::clamp(v, 0.0, 1.0), 1 / 2.2)));
    };
    const double yellow = 0.29275 * linear(c[0]) + 0.70725 * linear(c[1]);
    const double blue = -0.02234 * linear(c[0]) + 0.02234 * linear(c[1]) + linear(c[2]);
    return Rgb{coded(yellow), coded(yellow), coded(blue)};
  };
  for (std::int64_t a = 1; a <= 8; ++a)
    for (std::int64_t b = 1; b < a; ++b) {
      CAPTURE(a, b);
      CHECK(distance(label_color(a), label_color(b)) > 80);
      CHECK(distance(seen(label_color(a)), seen(label_color(b))) > 30);
    }
  std::set<Rgb> all;
  for (std::int64_t label = 1; label <= 100; ++label) all.insert(label_color(label));
  CHECK(all.size() == 100);
  CHECK(label_color(0) == Rgb{0, 0, 0});
  CHECK(label_color(-3) == Rgb{0, 0, 0});
}

TEST_CASE("agreement: agreed, missed, extra and another label", "[imaging]") {
  const auto truth = Tensor<std::uint8_t>::from({0, 1, 1, 0, 1}, {1, 1, 5});
  const auto prediction = Tensor<std::uint8_t>::from({0, 1, 0, 2, 2}, {1, 1, 5});
  CHECK(agreement_labels(truth, prediction).to_vector() == std::vector<std::int32_t>{0, 1, 2, 3, 4});
  CHECK(agreement_key().size() == 4);
  CHECK_THROWS_AS(agreement_labels(truth, Tensor<std::uint8_t>::zeros({1, 5, 1})), ShapeError);
}

TEST_CASE("font: letters are drawn where they should be, and cut at the border", "[imaging]") {
  Image image(9, 5, 1, 0);
  draw_text(image, 0, 0, "L", {255, 255, 255}, 1, false);
  for (Index r = 0; r < 9; ++r)
    for (Index c = 0; c < 5; ++c) CHECK((image.at(r, c)[0] == 255) == (r < 7 && (c == 0 || r == 6)));
  CHECK(text_width_pixels("ab", 2) == 22);
  CHECK(text_width_pixels("é", 1) == 5);
  Image small(3, 3, 3);
  draw_text(small, -100, 2, "outside and \xff bytes", {1, 2, 3}, 3);
  for (int c = 32; c < 127; ++c)
    for (const char digit : detail::glyph(static_cast<unsigned char>(c)))
      CHECK(((digit >= '0' && digit <= '9') || (digit >= 'A' && digit <= 'V')));
}

TEST_CASE("views: voxels that are not cubes come out in true proportions, in each plane", "[imaging]") {
  const Volume<float> v{Tensor<float>::full({20, 30, 5}, 0.5f), Affine::scaling({1, 1, 4}), nullptr};
  const ViewOptions view{.pixel_mm = 0.5};
  const auto sides = [&](Plane plane) {
    const Image image = slice_picture(v, {}, plane, 2, view);
    return std::pair(image.height, image.width);
  };
  CHECK(sides(Plane::sagittal) == std::pair<Index, Index>(40, 60));
  CHECK(sides(Plane::coronal) == std::pair<Index, Index>(40, 40));
  CHECK(sides(Plane::axial) == std::pair<Index, Index>(60, 40));
  CHECK(three_planes(v, {10, 15, 2}, {}, view).width == 60 + 40 + 40 + 8);
  CHECK(slice_picture(v, {}, Plane::axial, 2, {.size = 300}).height == 300);
  CHECK_THROWS_WITH(slice_picture(v, {}, Plane::axial, 2, {.pixel_mm = 1e-4}), Catch::Contains("choose larger pixels"));
  const Volume<float> turned{v.voxels, Affine::scaling({-1, 1, 4}), nullptr};
  CHECK_THROWS_WITH(slice_picture(turned, {}, Plane::axial, 0), Catch::Contains("LAS"));
}

TEST_CASE("views: the convention says on which side the patient's right is", "[imaging]") {
  Volume<float> v{Tensor<float>::zeros({40, 40, 40}), Affine{}, nullptr};
  for (Index i = 30; i < 40; ++i)  // right, anterior, superior
    for (Index j = 30; j < 40; ++j)
      for (Index k = 30; k < 40; ++k) v.voxels.data()[(i * 40 + j) * 40 + k] = 1;
  for (const Plane plane : {Plane::sagittal, Plane::coronal, Plane::axial}) {
    ViewOptions view{.size = 40, .letters = false};
    CHECK(slice_picture(v, {}, plane, 35, view).at(5, 5)[0] == 255);
    view.convention = Convention::neurological;
    CHECK(slice_picture(v, {}, plane, 35, view).at(5, 34)[0] == 255);
    CHECK(slice_picture(v, {}, plane, 35, view).at(5, 5)[0] == 0);
  }
}

TEST_CASE("views: comparison, montage, key and the fullest slice", "[imaging]") {
  const Volume<float> v{Tensor<float>::full({4, 6, 3}, 0.5f), Affine::scaling({1, 1, 2}), nullptr};
  Tensor<std::int32_t> l = Tensor<std::int32_t>::zeros({4, 6, 3});
  l.data()[(1 * 6 + 2) * 3 + 1] = 1;
  l.data()[(1 * 6 + 2) * 3 + 2] = 7;
  const ViewOptions view{.pixel_mm = 0.1};
  const Image panels = compare_labels(v, l, l, Plane::axial, 1, view);
  CHECK(panels.width == 4 * 40 + 3 * 4);
  CHECK(panels.height > 60);
  CHECK(compare_contours(v, l, l, Plane::axial, 1, view).width == 40);
  CHECK(fullest_slice(l, Plane::coronal) == 2);
  const auto key = structure_key(l, {"background", "liver"});
  REQUIRE(key.size() == 2);
  CHECK(key[0].first == "liver");
  CHECK(key[1].first == "label 7");
  CHECK(key[1].second == label_color(7));
  const Image drawn = color_key(key, 200);
  CHECK(drawn.width == 200);
  CHECK(color_key(key, 20).width == 20);                                           // no room for the names: cut
  const Image slices = slice_montage(v, {{l, {}}}, Plane::axial, 0, 2, 12, view);  // three slices are all there are
  CHECK(slices.height * slices.width >= 3 * 40 * 60);
  CHECK_THROWS_AS(slice_montage(v, {{l, {}}}, Plane::axial, 0, 3, 2, view), ShapeError);
  CHECK_THROWS_AS(slice_picture(v, {{Tensor<std::int32_t>::zeros({4, 6, 2}), {}}}, Plane::axial, 0), ShapeError);
}
