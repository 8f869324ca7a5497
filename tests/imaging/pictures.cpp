/// Slices, PNG and overlays.

#include <filesystem>
#include <fstream>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/overlay.hpp"
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

TEST_CASE("overlay: tints, borders and montage", "[imaging]") {
  const auto gray = gray_image(Tensor<float>::from({-1, 0.5, 2, std::nanf("")}, {2, 2}));
  CHECK(gray.pixels == std::vector<std::uint8_t>{0, 128, 255, 0});
  Tensor<std::int32_t> labels = Tensor<std::int32_t>::zeros({5, 5});
  for (Index r = 1; r < 4; ++r)
    for (Index c = 1; c < 4; ++c) labels.data()[r * 5 + c] = 2;
  const Image over = overlay_labels(Image(5, 5, 1, 100), labels, 0.5);
  const auto color = label_color(2);
  CHECK(over.at(0, 0)[0] == 100);
  CHECK(over.at(1, 1)[0] == color[0]);
  CHECK(int(over.at(2, 2)[0]) == Approx((100 + color[0]) / 2.0).margin(1));
  CHECK_THROWS_AS(overlay_labels(Image(5, 4, 1), labels), ShapeError);

  Volume<float> v{Tensor<float>::full({4, 6, 3}, 0.5f), Affine::scaling({1, 1, 2}), nullptr};
  Tensor<std::int32_t> l = Tensor<std::int32_t>::zeros({4, 6, 3});
  l.data()[(1 * 6 + 2) * 3 + 1] = 1;
  const Image planes = three_planes(v, {1, 2, 1}, l);
  CHECK(planes.width == 6 + 4 + 4 + 4 + 4);  // sagittal 6, coronal 4, axial 4, two gaps
  CHECK(planes.height == 6);                 // three slices of 2 mm, or six rows of 1 mm
  CHECK(compare_labels(v, l, l, Plane::axial, 1).width == 3 * 4 + 2 * 4);
  CHECK(fullest_slice(l, Plane::coronal) == 2);
}
