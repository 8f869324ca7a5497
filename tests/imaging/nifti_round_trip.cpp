// Every voxel type, in both byte orders, both versions, single files and pairs, packed or not, with any affine: what is
// written comes back to the bit, and what other programs wrote in the other byte order does too.

#include <unistd.h>
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "../io/scratch.hpp"
#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/nifti.hpp"

using namespace m3i;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> names_in(const Scratch& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

using Bytes = std::vector<std::uint8_t>;
Bytes unpacked_bytes(const std::string& path) {
  detail::InputFile file(path);  // unpacks
  Bytes bytes(std::size_t(1) << 16);
  bytes.resize(std::size_t(file.read(bytes.data(), Index(bytes.size()))));
  return bytes;
}
void write_bytes(const std::string& path, const Bytes& bytes) {
  detail::OutputFile file(path, path.ends_with(".gz"));
  file.write(bytes);
  file.commit();
}

/// Turns the bytes of the fields of a header round.
struct SwapField {
  std::uint8_t* bytes;
  void swap(std::size_t at, std::size_t size) const { std::reverse(bytes + at, bytes + at + size); }
  template <class Field, class S>
  void operator()(std::size_t offset, const Field& field, S) const {
    if constexpr (std::is_arithmetic_v<Field>) swap(offset, sizeof(S));
    else
      for (std::size_t i = 0; i < field.size(); ++i) swap(offset + i * sizeof(S), sizeof(S));
  }
};

/// The file of a volume, in the other byte order. `h` is its header as it was read.
void swap_file(const std::string& path, const NiftiHeader& h) {
  const std::string header_name = h.pair ? detail::pair_name(path, ".hdr", path.ends_with(".gz")) : path;
  Bytes bytes = unpacked_bytes(header_name);
  const SwapField field{bytes.data()};
  field.swap(0, 4);
  if (h.version == 1) {
    detail::nifti1_fields(h, field);
    field.swap(108, 4);
  } else {
    detail::nifti2_fields(h, field);
    field.swap(168, 8);
  }
  std::size_t at = std::size_t(detail::nifti_header_bytes(h.version)) + 4;
  for (const NiftiExtension& e : h.extensions) {
    field.swap(at, 4);
    field.swap(at + 4, 4);
    at += 8 + e.content.size();
  }
  const auto size = std::size_t(detail::nifti_type_bytes(h.datatype));
  const auto swap_voxels = [&](Bytes& b, std::size_t from) {
    for (; from < b.size(); from += size) SwapField{b.data()}.swap(from, size);
  };
  if (h.pair) {
    const std::string voxel_name = detail::pair_name(path, ".img", path.ends_with(".gz"));
    Bytes voxels = unpacked_bytes(voxel_name);
    swap_voxels(voxels, 0);
    write_bytes(voxel_name, voxels);
  } else {
    swap_voxels(bytes, std::size_t(h.vox_offset));
  }
  write_bytes(header_name, bytes);
}

/// Values over the whole range of the type, as far as double holds them exactly.
template <class T>
Tensor<T> voxels_of(const Shape& shape, Random& random) {
  Tensor<T> voxels(shape);
  for (T& v : voxels.span())
    if constexpr (std::is_floating_point_v<T>) v = T(random.normal() * std::pow(10.0, random.uniform(-20, 20)));
    else v = T(std::int64_t(random.below(1ull << 53)) - (std::is_signed_v<T> ? std::int64_t(1) << 52 : 0));
  if constexpr (std::is_floating_point_v<T> || sizeof(T) < 8) {
    voxels.data()[0] = std::numeric_limits<T>::max();
    voxels.data()[1] = std::numeric_limits<T>::lowest();
  }
  return voxels;
}

/// Axes along the body's, oblique, or sheared; of either handedness. Numbers that float holds, as NIfTI-1 needs.
Affine affine_of(int kind, Random& random) {
  Affine a = Affine::scaling({kind % 2 ? -0.75 : 0.75, 1.5, 2.25}, {-31.5, 12.25, 100});
  if (kind >= 2) {
    Affine turn;
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 3; ++c) turn(r, c) = random.normal();
    a = (kind < 4 ? closest_rotation(turn) : turn) * a;
  }
  for (double& x : a.m) x = double(float(x));
  return a;
}

template <class T>
void check_round_trip(const Scratch& folder, const std::string& name, int version, int kind, Random& random) {
  INFO(name << ", NIfTI-" << version << ", affine " << kind);
  NiftiHeader like;
  like.version = version;
  like.xyzt_units = 2 | 8;
  like.pixdim[4] = 1.5;
  like.scl_slope = 3;  // the volume's values are what they are: written unscaled
  like.extensions = {{4, {'d', 'c', 'm', 0, 0, 0, 0, 0}}, {6, Bytes(24, 'x')}};
  const Shape shape = kind % 3 == 0 ? Shape{3, 4, 5} : kind % 3 == 1 ? Shape{3, 4, 5, 2} : Shape{4, 3, 2, 3, 2};
  const Volume<T> volume{voxels_of<T>(shape, random), affine_of(kind, random), nullptr};
  write_nifti(folder / name, volume, &like);
  CHECK(folder.files() == (name.find(".nii") == std::string::npos ? 2 : 1));
  for (const bool big : {false, true}) {
    if (big) swap_file(folder / name, read_nifti_header(folder / name));
    const auto back = read_nifti_frames<double>(folder / name);
    const NiftiHeader& h = *back.header;
    CHECK(h.big_endian == big);
    CHECK(h.version == version);
    CHECK(h.datatype == detail::nifti_type_of<T>());
    CHECK_FALSE(h.scaled());
    CHECK(h.xyzt_units == 10);
    CHECK(h.pixdim[4] == 1.5);
    CHECK(back.affine == volume.affine);
    CHECK((h.qform_code > 0) == (kind < 4));  // a qform cannot hold shear
    if (kind < 4) {
      NiftiHeader only_qform = h;
      only_qform.sform_code = 0;
      CHECK(same_grid(grid_of(only_qform), volume.grid(), 1e-3).same);
    }
    REQUIRE(h.extensions.size() == 2);
    CHECK(h.extensions[0].code == 4);
    CHECK(h.extensions[0].content == like.extensions[0].content);
    CHECK(h.extensions[1].content == like.extensions[1].content);
    REQUIRE(back.shape() == shape);
    for (Index i = 0; i < shape.size(); ++i)
      if (back.voxels.data()[i] != double(volume.voxels.data()[i])) FAIL("voxel " << i);
    if (!big) continue;
    // Once more, with the header that was read: the file of the first time, to the bit.
    Tensor<T> same(shape);
    for (Index i = 0; i < shape.size(); ++i) same.data()[i] = T(back.voxels.data()[i]);
    write_nifti(folder / ("again_" + name), Volume<T>{same, back.affine, back.header});
    write_nifti(folder / name, volume, &like);
    CHECK(unpacked_bytes(folder / ("again_" + name)) == unpacked_bytes(folder / name));
  }
  fs::remove_all(folder.folder);
  fs::create_directories(folder.folder);
}

}  // namespace

TEMPLATE_TEST_CASE("nifti: types, byte orders, versions, pairs and affines come back to the bit",
                   "[imaging]",
                   std::uint8_t,
                   std::int8_t,
                   std::int16_t,
                   std::uint16_t,
                   std::int32_t,
                   std::uint32_t,
                   std::int64_t,
                   std::uint64_t,
                   float,
                   double) {
  const Scratch folder;
  Random random(std::uint64_t(detail::nifti_type_of<TestType>()));
  for (const std::string name : {"v.nii", "v.nii.gz", "v.hdr", "v.img", "v.hdr.gz", "v.img.gz"})
    for (const int version : {1, 2})
      if (M3I_ZLIB || !name.ends_with(".gz"))
        check_round_trip<TestType>(folder, name, version, int(random.below(6)), random);
}

TEST_CASE("nifti: any frame of a file, by its number in the file", "[imaging][errors]") {
  const Scratch folder;
  Random random(3);
  const Volume<float> all{voxels_of<float>({3, 4, 5, 2, 3}, random), Affine::scaling({1, 2, 3}), nullptr};
  for (const std::string name : {"v.nii", "v.img"}) {
    write_nifti(folder / name, all);
    for (Index frame = 0; frame < 6; ++frame) {
      const auto one = read_nifti<float>(folder / name, {.frame = frame});
      REQUIRE(one.shape() == Shape{3, 4, 5});
      const Index place = frame % 2 * 3 + frame / 2;  // the file's fourth axis runs faster than its fifth
      for (Index i = 0; i < 60; ++i)
        if (one.voxels.data()[i] != all.voxels.data()[i * 6 + place]) FAIL("frame " << frame << ", voxel " << i);
    }
    CHECK_THROWS_WITH(read_nifti<float>(folder / name, {.frame = 6}), Catch::Contains("no frame 6"));
    CHECK_THROWS_WITH(read_nifti<float>(folder / name), Catch::Contains("[3, 4, 5, 2, 3]"));
  }
}

TEST_CASE("nifti: a frame of a file is written on the file's grid", "[imaging]") {
  const Scratch folder;
  Random random(4);
  const Volume<std::int16_t> all{voxels_of<std::int16_t>({3, 4, 5, 2}, random), affine_of(2, random), nullptr};
  write_nifti(folder / "all.nii", all);
  const auto one = read_nifti<float>(folder / "all.nii", {.frame = 1});
  write_nifti(folder / "one.nii", one);
  const NiftiHeader h = read_nifti_header(folder / "one.nii");
  CHECK(h.shape() == Shape{3, 4, 5});
  CHECK(h.srow == one.header->srow);
}

TEST_CASE("nifti: a pair that cannot be written leaves the earlier pair and no temporary file", "[imaging][errors]") {
  const Scratch folder;
  Random random(6);
  const Volume<float> volume{voxels_of<float>({3, 4, 5}, random), Affine::scaling({1, 2, 3}), nullptr};
  write_nifti(folder / "v.hdr", volume);
  const Bytes header = unpacked_bytes(folder / "v.hdr"), voxels = unpacked_bytes(folder / "v.img");
  CHECK(header.size() == 352);
  CHECK(voxels.size() == 240);
  fs::create_directory(folder / "w.img");  // one of the two has no place
  CHECK_THROWS_WITH(write_nifti(folder / "w.hdr", volume), Catch::Contains("w.img"));
  CHECK(names_in(folder) == std::vector<std::string>{"v.hdr", "v.img", "w.img"});
  fs::remove(folder / "v.img");
  CHECK_THROWS_WITH(read_nifti<float>(folder / "v.hdr"), Catch::Contains("v.img"));
}

#if M3I_ZLIB
TEST_CASE("nifti: a packed file that goes on far beyond its voxels is refused", "[imaging][errors]") {
  const Scratch folder;
  Random random(7);
  const Volume<float> volume{voxels_of<float>({3, 4, 5}, random), Affine::scaling({1, 2, 3}), nullptr};
  write_nifti(folder / "v.nii", volume);
  Bytes bytes = unpacked_bytes(folder / "v.nii");
  bytes.resize(bytes.size() + 1000);
  write_bytes(folder / "some.nii.gz", bytes);
  CHECK(read_nifti<float>(folder / "some.nii.gz").voxels.to_vector() == volume.voxels.to_vector());
  bytes.resize(bytes.size() + (std::size_t(17) << 20));
  write_bytes(folder / "many.nii.gz", bytes);
  CHECK_THROWS_WITH(read_nifti<float>(folder / "many.nii.gz"), Catch::Contains("follow what the header describes"));
}
#endif
