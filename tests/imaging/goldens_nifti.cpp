/// The reader against the reference files: sound ones, broken ones, and whole real volumes.

#include <fstream>
#include <string>

#include "goldens.hpp"
#include "m3i/imaging/nifti.hpp"

using namespace m3i;
using golden::Json;

namespace {

/// Highest resident memory of this process so far, in bytes.
Index peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") {
      Index kib = 0;
      status >> kib;
      return kib * 1024;
    }
  return 0;
}

void check_values(const Json& item, const std::string& folder, const SafeTensors& expected) {
  const std::string path = folder + "/" + item.at("files").at(0).get<std::string>();
  const auto volume = read_nifti_frames<double>(path);
  const auto single = read_nifti_frames<float>(path);
  const auto want = expected.tensor<double>(item.at("values").get<std::string>());
  CHECK(volume.shape() == golden::shape(item.at("shape")));
  REQUIRE(volume.shape() == want.shape());
  CHECK(golden::worst(volume.voxels.data(), want.data(), want.size()) < 1e-12);
  for (Index i = 0; i < want.size(); ++i) {  // a double beyond float's range becomes infinity
    const float f = float(want.data()[i]), got = single.voxels.data()[i];
    const bool same = got == f || (std::isnan(got) && std::isnan(f)) || std::abs(got - f) <= 1e-6f * std::abs(f);
    if (!same) FAIL_CHECK("float voxel " << i << " is " << got << ", expected " << f);
  }
}

}  // namespace

TEST_CASE("nifti goldens: sound files give the reference values and geometry", "[imaging][golden]") {
  const std::string root = golden::imaging_folder();
  if (root.empty()) return;
  const std::string folder = root + "/nifti";
  const Json manifest = golden::read_json(folder + "/manifest.json");
  const SafeTensors expected(folder + "/expected.safetensors");
  Index cases = 0;
  for (const Json& item : manifest.at("cases")) {
    const std::string path = folder + "/" + item.at("files").at(0).get<std::string>();
    INFO(path << ": " << item.at("what").get<std::string>());
    try {
      check_values(item, folder, expected);
      const NiftiHeader header = read_nifti_header(path);
      const Affine affine = grid_of(header, path).affine;
      const bool quaternion =
          item.contains("note") && item["note"].get<std::string>().find("quaternion") != std::string::npos;
      CHECK(golden::worst(affine, golden::affine(item.at("affine"))) < (quaternion ? 1e-4 : 1e-5));
      CHECK(header.version == item.at("nifti_version").get<int>());
      CHECK(header.big_endian == (item.at("byte_order") == "big"));
      CHECK(header.datatype == item.at("datatype").get<std::int64_t>());
      CHECK(orientation(affine) == item.at("orientation").get<std::string>());
      const Point3 spacing = spacing_mm(affine);
      for (std::size_t a = 0; a < 3; ++a)
        CHECK(spacing[a] == Approx(item.at("spacing").at(a).get<double>()).epsilon(1e-4));
    } catch (const Error& error) {
      FAIL_CHECK("refused: " << error.what());
    }
    ++cases;
  }
  CHECK(cases > 0);
}

TEST_CASE("nifti goldens: broken files are refused early and in words, odd ones never crash", "[imaging][golden]") {
  const std::string root = golden::imaging_folder();
  if (root.empty()) return;
  const std::string folder = root + "/malformed";
  const Json manifest = golden::read_json(folder + "/manifest.json");
  const SafeTensors expected(folder + "/expected.safetensors");
  CHECK_FALSE(manifest.at("cases").empty());
  for (const Json& item : manifest.at("cases")) {
    const std::string path = folder + "/" + item.at("files").at(0).get<std::string>();
    const std::string expect = item.at("expect").get<std::string>();
    INFO(path << ": " << item.at("why").get<std::string>() << "; expected: " << expect);
    if (expect == "reads") {
      try {
        check_values(item, folder, expected);
      } catch (const Error& error) {
        FAIL_CHECK("refused: " << error.what());
      }
      continue;
    }
    const Index before = peak_memory();
    try {
      const auto volume = read_nifti_frames<float>(path);
      if (expect == "error") FAIL_CHECK("was read as " << volume.shape().text());
      else CHECK(volume.shape() == golden::shape(item.at("shape")));
    } catch (const FileError& error) {
      const std::string stem = path.substr(0, path.find_last_of('.'));
      CHECK_THAT(error.what(), Catch::Contains(stem));  // a pair may be wrong in either of its files
    }
    CHECK(peak_memory() - before < Index(64) << 20);
  }
}

TEST_CASE("nifti goldens: whole real volumes", "[imaging][golden]") {
  const std::string root = golden::imaging_folder();
  if (root.empty()) return;
  const Json headers = golden::read_json(root + "/headers.json");
  CHECK_FALSE(headers.at("volumes").empty());
  for (const Json& item : headers.at("volumes")) {
    const std::string path = golden::data_folder(root) + "/" + item.at("file").get<std::string>();
    INFO(path);
    if (!std::filesystem::exists(path)) {
      WARN("skipped: no " << path);
      continue;
    }
    const auto volume = read_nifti_frames<double>(path);
    REQUIRE(volume.shape() == golden::shape(item.at("shape")));
    CHECK(golden::worst(volume.affine, golden::affine(item.at("affine"))) < 1e-5);
    CHECK(orientation(volume.affine) == item.at("orientation").get<std::string>());
    double sum = 0, low = HUGE_VAL, high = -HUGE_VAL;
    for (const double v : volume.voxels.span()) {
      sum += v;
      low = std::min(low, v);
      high = std::max(high, v);
    }
    CHECK(low == Approx(golden::number(item.at("min"))));
    CHECK(high == Approx(golden::number(item.at("max"))));
    CHECK(sum / double(volume.voxels.size()) == Approx(golden::number(item.at("mean"))).epsilon(1e-9));
    for (const auto& [name, spot] : item.at("voxels").items()) {
      INFO(name);
      Index at = 0;
      for (int a = 0; a < volume.shape().rank(); ++a)
        at = at * volume.shape()[a] + spot.at("index").at(std::size_t(a)).get<Index>();
      CHECK(volume.voxels.data()[at] == Approx(golden::number(spot.at("value"))).epsilon(1e-9));
    }
  }
}
