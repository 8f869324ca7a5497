#include <sys/resource.h>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "../io/scratch.hpp"
#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/nifti.hpp"

using namespace m3i;
namespace fs = std::filesystem;

namespace {

Affine oblique() {
  Affine a;
  const double c = std::cos(0.3), s = std::sin(0.3);
  a.m = {-c * 1.5, -s * 2, 0, 10.5, -s * 1.5, c * 2, 0, -20.25, 0, 0, 2.5, 30, 0, 0, 0, 1};
  return a;
}

template <class T>
Volume<T> sample() {
  Random random(11);
  Tensor<T> voxels({4, 5, 6});
  for (T& v : voxels.span()) v = std::is_floating_point_v<T> ? T(random.normal() * 100) : T(random.below(100));
  return {voxels, oblique(), nullptr};
}

}  // namespace

TEMPLATE_TEST_CASE("nifti: every voxel type comes back as it was written",
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
  const Volume<TestType> volume = sample<TestType>();
  for (const std::string name : {"v.nii", "v.nii.gz"}) {
    if (name == "v.nii.gz" && !M3I_ZLIB) continue;
    write_nifti(folder / name, volume);
    const auto back = read_nifti<double>(folder / name);
    REQUIRE(back.shape() == volume.shape());
    for (Index i = 0; i < volume.voxels.size(); ++i)
      if (back.voxels.data()[i] != double(volume.voxels.data()[i])) FAIL("voxel " << i);
    CHECK(back.header->datatype == detail::nifti_type_of<TestType>());
    CHECK(same_grid(back, volume, 1e-4).same);
    CHECK(folder.files() == 1);
    fs::remove(folder / name);
  }
}

TEST_CASE("nifti: sform and qform written for a new grid both give its affine", "[imaging]") {
  const Scratch folder;
  Random random(5);
  for (int turn = 0; turn < 50; ++turn) {
    Affine a;
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 4; ++c) a(r, c) = random.normal();
    a = closest_rotation(a);
    if (turn % 2) a(0, 0) = -a(0, 0), a(1, 0) = -a(1, 0), a(2, 0) = -a(2, 0);  // the other handedness
    a = Affine::translation({random.uniform(-90, 90), 5, -7}) * a * Affine::scaling({0.7, 1.3, random.uniform(0.5, 5)});
    Volume<float> volume = sample<float>();
    volume.affine = a;
    write_nifti(folder / "q.nii", volume);
    NiftiHeader h = read_nifti_header(folder / "q.nii");
    CHECK(h.qform_code == 2);
    CHECK(same_grid(grid_of(h), volume.grid(), 1e-3).same);
    h.sform_code = 0;
    CHECK(same_grid(grid_of(h), volume.grid(), 1e-3).same);
  }
}

TEST_CASE("nifti: outputs keep the input's forms, codes, units, texts and extensions", "[imaging]") {
  const Scratch folder;
  for (const int version : {1, 2}) {
    NiftiHeader h;
    h.version = version;
    h.dim = {3, 4, 5, 6, 1, 1, 1, 1};
    h.sform_code = 3;
    h.qform_code = 1;
    h.qoffset = {1, 2, 3};  // the two forms differ, and both stay
    h.xyzt_units = 2 | 8;
    h.descrip[0] = 'x';
    h.extensions.push_back({6, {'h', 'e', 'l', 'l', 'o'}});
    const Affine a = oblique();
    std::copy_n(a.m.begin(), 12, h.srow.begin());
    h.pixdim = {-1, 1.5, 2, 2.5, 1, 1, 1, 1};
    Volume<float> volume = sample<float>();
    write_nifti(folder / "in.nii", volume, &h);
    const auto in = read_nifti<float>(folder / "in.nii");
    CHECK(in.header->version == version);

    const auto turned = to_ras(in);  // there and back: the grid is the input's again
    const auto back = reorient(turned, ras_map(in.affine).inverse());
    Tensor<std::int32_t> labels = Tensor<std::int32_t>::full(back.shape(), 300);
    write_labels(folder / "out.nii", Volume<std::int32_t>{labels, back.affine, back.header});
    const NiftiHeader out = read_nifti_header(folder / "out.nii");
    CHECK(out.datatype == 512);
    CHECK(out.srow == in.header->srow);
    CHECK(out.quatern == in.header->quatern);
    CHECK(out.qoffset == in.header->qoffset);
    CHECK(out.pixdim == in.header->pixdim);
    CHECK(out.sform_code == 3);
    CHECK(out.qform_code == 1);
    CHECK(out.xyzt_units == 10);
    CHECK(out.descrip == in.header->descrip);
    REQUIRE(out.extensions.size() == 1);
    CHECK(out.extensions[0].code == 6);
    CHECK(std::string(out.extensions[0].content.begin(), out.extensions[0].content.begin() + 5) == "hello");

    write_nifti(folder / "ras.nii", turned);  // another grid: codes stay, forms follow the affine
    const NiftiHeader ras = read_nifti_header(folder / "ras.nii");
    CHECK(ras.sform_code == 3);
    CHECK(same_grid(grid_of(ras), turned.grid(), 1e-3).same);
  }
}

TEST_CASE("nifti: millimetres whatever the unit of the header", "[imaging]") {
  NiftiHeader h;
  h.sform_code = 1;
  std::copy_n(Affine::scaling({25, 25, 50}).m.begin(), 12, h.srow.begin());
  h.xyzt_units = 3;
  CHECK(spacing_mm(grid_of(h).affine)[2] == Approx(0.05));
  h.xyzt_units = 1;
  CHECK(spacing_mm(grid_of(h).affine)[0] == Approx(25000));
  h.xyzt_units = 0;
  CHECK(spacing_mm(grid_of(h).affine)[0] == Approx(25));
}

TEST_CASE("nifti: labels take the smallest unsigned type and must be whole numbers", "[imaging][errors]") {
  const Scratch folder;
  auto labels = sample<std::int32_t>();
  for (const auto& [largest, type] : {std::pair{255, 2}, {256, 512}, {65535, 512}, {65536, 768}}) {
    labels.voxels.data()[7] = largest;
    write_labels(folder / "l.nii", labels);
    CHECK(read_nifti_header(folder / "l.nii").datatype == type);
    CHECK(read_labels(folder / "l.nii").voxels.to_vector() == labels.voxels.to_vector());
  }
  CHECK_THROWS_WITH(read_labels<std::uint8_t>(folder / "l.nii"), Catch::Contains("(0, 1, 1) is 65536"));
  labels.voxels.data()[7] = -1;
  CHECK_THROWS_WITH(write_labels(folder / "l.nii", labels), Catch::Contains("-1"));

  auto values = sample<float>();
  for (float& v : values.voxels.span()) v = 1;
  values.voxels.data()[1 * 30 + 2 * 6 + 3] = 1.5f;
  values.voxels.data()[3 * 30] = std::nanf("");
  write_nifti(folder / "l.nii", values);
  CHECK_THROWS_AS(read_labels(folder / "l.nii"), FileError);
  CHECK_THROWS_WITH(read_labels(folder / "l.nii"), Catch::Contains("l.nii") && Catch::Contains("(1, 2, 3) is 1.5"));
}

TEST_CASE("nifti: files with several frames", "[imaging][errors]") {
  const Scratch folder;
  Volume<float> volume = sample<float>();
  write_nifti(folder / "v.nii", volume);
  std::string bytes = file_bytes(folder / "v.nii");
  const std::int16_t dim[8] = {4, 4, 5, 3, 2, 1, 1, 1};  // the 6 slices as 2 frames of 3
  std::memcpy(bytes.data() + 40, dim, sizeof dim);
  put_bytes(folder / "v.nii", bytes);
  CHECK_THROWS_WITH(read_nifti<float>(folder / "v.nii"), Catch::Contains("[4, 5, 3, 2]"));
  const auto first = read_nifti<float>(folder / "v.nii", {.first_frame = true});
  const auto all = read_nifti_frames<float>(folder / "v.nii");
  CHECK(first.shape() == Shape{4, 5, 3});
  CHECK(all.shape() == Shape{4, 5, 3, 2});
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 5; ++j)
      for (Index k = 0; k < 3; ++k)
        for (Index t = 0; t < 2; ++t) {
          const float want = volume.voxels.data()[(i * 5 + j) * 6 + k + 3 * t];
          if (all.voxels.data()[((i * 5 + j) * 3 + k) * 2 + t] != want) FAIL("frame " << t);
          if (t == 0 && first.voxels.data()[(i * 5 + j) * 3 + k] != want) FAIL("first frame");
        }
}

TEST_CASE("nifti: every truncation and every changed header byte is an error or a volume, never a crash",
          "[imaging][errors]") {
  const Scratch folder;
  Volume<std::int16_t> volume = sample<std::int16_t>();
  write_nifti(folder / "v.nii", volume);
  const std::string good = file_bytes(folder / "v.nii");
  for (std::size_t length = 0; length < good.size(); length += length < 352 ? 7 : 31) {
    put_bytes(folder / "t.nii", good.substr(0, length));
    CHECK_THROWS_AS(read_nifti<float>(folder / "t.nii"), FileError);
  }
  Random random(17);
  Index refused = 0;
  for (int turn = 0; turn < 600; ++turn) {
    std::string bytes = good;
    for (int change = 0; change < 1 + turn % 3; ++change)
      bytes[std::size_t(random.below(352))] = char(random.below(256));
    put_bytes(folder / "m.nii", bytes);
    try {
      read_nifti_frames<float>(folder / "m.nii");
    } catch (const FileError& error) {
      CHECK_THAT(error.what(), Catch::Contains("m.nii"));
      ++refused;
    }
  }
  CHECK(refused > 50);
}

TEST_CASE("nifti: a full disk leaves the earlier file and no temporary one", "[imaging][errors]") {
  const Scratch folder;
  const Volume<float> volume = sample<float>();
  write_nifti(folder / "v.nii", volume);
  const std::string before = file_bytes(folder / "v.nii");
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  rlimit small = old;
  small.rlim_cur = 400;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    write_nifti(folder / "v.nii", volume);
  } catch (const FileError& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Catch::Contains("v.nii: could not be written"));
  CHECK(file_bytes(folder / "v.nii") == before);
  CHECK(folder.files() == 1);
}

TEST_CASE("nifti: names and places that cannot be written", "[imaging][errors]") {
  const Scratch folder;
  const Volume<float> volume = sample<float>();
  CHECK_THROWS_WITH(write_nifti(folder / "v.mha", volume), Catch::Contains(".nii.gz"));
  CHECK_THROWS_WITH(write_nifti(folder / "no/v.nii", volume), Catch::Contains("no/v.nii"));
  fs::create_directory(folder / "d.nii");
  CHECK_THROWS_AS(write_nifti(folder / "d.nii", volume), FileError);
  CHECK_THROWS_WITH(read_nifti<float>(folder / "none.nii"), Catch::Contains("No such file"));
  Volume<float> flat = volume;
  flat.affine = Affine::scaling({1, 1, 0});
  CHECK_THROWS_WITH(write_nifti(folder / "v.nii", flat), Catch::Contains("flat"));
  CHECK(folder.files() == 1);
}

#if !M3I_ZLIB
TEST_CASE("nifti: without zlib, gzip is an error that says so", "[imaging][errors]") {
  const Scratch folder;
  CHECK_THROWS_WITH(write_nifti(folder / "v.nii.gz", sample<float>()), Catch::Contains("zlib"));
  put_bytes(folder / "v.nii.gz", {'\x1f', '\x8b', 8, 0});
  CHECK_THROWS_WITH(read_nifti<float>(folder / "v.nii.gz"), Catch::Contains("M3I_ZLIB=1"));
}
#endif
