/// Resampling, padding, intensities, orientation, slices and the whole chain against the reference.

#include <map>
#include <set>
#include <string>

#include "goldens.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/imaging/preprocess.hpp"
#include "m3i/imaging/slices.hpp"

using namespace m3i;
using golden::Json;

namespace {

template <class T>
Volume<T> load(const SafeTensors& file, const std::string& name) {
  return {file.tensor<T>(name), golden::affine(file.tensor<double>(name + ".affine")), nullptr};
}

Point3 spacing_of(const Json& item) {
  return {item.at("spacing")[0].get<double>(), item.at("spacing")[1].get<double>(),
          item.at("spacing")[2].get<double>()};
}
Size3 size_of(const Json& item) {
  return {item.at("size")[0].get<Index>(), item.at("size")[1].get<Index>(), item.at("size")[2].get<Index>()};
}

/// The case's operation, or an undefined volume if it has a name unknown here.
template <class T>
Volume<T> apply(const Json& item, const Volume<T>& in) {
  const std::string op = item.at("op").get<std::string>();
  if (op == "resample_spacing_linear") return resample_to_spacing(in, spacing_of(item), Sampling::linear);
  if (op == "resample_spacing_nearest") return resample_to_spacing(in, spacing_of(item), Sampling::nearest);
  if (op == "resample_size_linear") return resample_to_size(in, size_of(item), Sampling::linear);
  if (op == "resample_size_nearest") return resample_to_size(in, size_of(item), Sampling::nearest);
  if (op == "pad_cube") return pad_to_cube(in);
  if (op == "to_ras") return to_ras(in);
  if (op == "minmax") return {minmax(in.voxels), in.affine, nullptr};
  if (op == "percentile_clip")
    return {percentile_clip(in.voxels, item.at("low").get<double>(), item.at("high").get<double>()), in.affine,
            nullptr};
  if (op == "slice" || op == "slice_display") {
    const auto s = extract_slice(in, parse_plane(item.at("plane").get<std::string>()), item.at("index").get<Index>());
    return {op == "slice" ? s : slice_display(s), in.affine, nullptr};
  }
  return {};
}

/// Allowed difference: exact for what only moves values, else a share of the input's range.
template <class T>
double tolerance(const std::string& op, const Volume<T>& in) {
  if (op == "minmax" || op == "percentile_clip") return 2e-5;
  if (op.find("linear") == std::string::npos) return 0;
  const auto [low, high] = std::minmax_element(in.voxels.data(), in.voxels.data() + in.voxels.size());
  return 2e-6 * (double(*high) - double(*low));
}

template <class T>
void check(const Json& item, const SafeTensors& file) {
  const auto in = load<T>(file, item.at("input").get<std::string>());
  const auto want = load<T>(file, item.at("output").get<std::string>());
  const Volume<T> got = apply(item, in);
  REQUIRE(got.shape() == want.shape());
  CHECK(golden::worst(got.affine, want.affine) < 1e-9);
  double most = 0;
  for (Index i = 0; i < want.voxels.size(); ++i)
    most = std::max(most, std::abs(double(got.voxels.data()[i]) - double(want.voxels.data()[i])));
  CHECK(most <= tolerance(item.at("op").get<std::string>(), in));
}

}  // namespace

TEST_CASE("resample goldens: every single operation", "[imaging][golden]") {
  const std::string root = golden::imaging_folder();
  if (root.empty()) return;
  const SafeTensors file(root + "/resample/expected.safetensors");
  const std::set<std::string> known{"resample_spacing_linear",
                                    "resample_spacing_nearest",
                                    "resample_size_linear",
                                    "resample_size_nearest",
                                    "pad_cube",
                                    "to_ras",
                                    "minmax",
                                    "percentile_clip",
                                    "slice",
                                    "slice_display"};
  std::map<std::string, int> counts;
  const Json manifest = golden::read_json(root + "/resample/manifest.json");
  for (const Json& item : manifest.at("cases")) {
    const std::string op = item.at("op").get<std::string>(), input = item.at("input").get<std::string>();
    INFO(op << " " << input << " -> " << item.at("output").get<std::string>());
    if (!known.count(op)) {
      WARN("skipped: unknown operation " << op);
      continue;
    }
    if (file.entry(input).dtype == "I32") check<std::int32_t>(item, file);
    else check<float>(item, file);
    ++counts[op];
  }
  CHECK(counts.size() == known.size());
}

TEST_CASE("resample goldens: the whole preprocessing chain on real volumes", "[imaging][golden]") {
  const std::string root = golden::imaging_folder();
  if (root.empty()) return;
  const SafeTensors file(root + "/resample/expected.safetensors");
  const Json manifest = golden::read_json(root + "/resample/manifest.json");
  Index cases = 0;
  for (const Json& item : manifest.at("chain")) {
    const std::string path = golden::data_folder(root) + "/" + item.at("image").get<std::string>();
    INFO(path);
    if (!std::filesystem::exists(path)) {
      WARN("skipped: no " << path);
      continue;
    }
    ++cases;
    const auto volume = read_nifti<float>(path);
    PreprocessOptions options;
    options.size = item.at("size").get<Index>();
    const auto done = preprocess(volume, options).volume;
    const auto want = load<float>(file, item.at("output").get<std::string>());
    REQUIRE(done.shape() == want.shape());
    CHECK(golden::worst(done.affine, want.affine) < 1e-4);  // float32 headers, read in double on both sides
    CHECK(golden::worst(done.voxels.data(), want.voxels.data(), want.voxels.size()) < 2e-5);

    options.size = 128;
    const auto big = preprocess(volume, options).volume;
    const IntensityStats stats = intensity_stats(big.voxels);
    const Json& at_128 = item.at("at_128");
    CHECK(stats.mean == Approx(at_128.at("mean").get<double>()).margin(2e-6));
    CHECK(stats.deviation == Approx(at_128.at("std").get<double>()).margin(2e-6));
    for (const Json& spot : at_128.at("voxels")) {
      const auto& i = spot.at("index");
      const Index at = (i[0].get<Index>() * 128 + i[1].get<Index>()) * 128 + i[2].get<Index>();
      CHECK(double(big.voxels.data()[at]) == Approx(spot.at("value").get<double>()).margin(2e-5));
    }
    if (!item.contains("label")) continue;
    options.size = item.at("size").get<Index>();
    const auto labels = read_labels(golden::data_folder(root) + "/" + item.at("label").get<std::string>());
    const auto small = preprocess_labels(labels, options).volume;
    const auto want_labels = load<std::int32_t>(file, item.at("label_output").get<std::string>());
    CHECK(golden::worst(small.voxels.data(), want_labels.voxels.data(), want_labels.voxels.size()) == 0);
  }
  if (cases == 0) WARN("no chain was compared");
}
