/// Window starts, importance maps and stitched scores against the reference.

#include <set>
#include <string>

#include "goldens.hpp"
#include "m3i/imaging/sliding_window.hpp"

using namespace m3i;
using golden::Json;

namespace {

Size3 size_of(const Json& j) { return {j.at(0).get<Index>(), j.at(1).get<Index>(), j.at(2).get<Index>()}; }

/// The reference's predictor: two channels that depend on the place in the window, so that blending shows.
Tensor<double> predict(const Tensor<double>& windows) {
  const Shape& s = windows.shape();
  const Tensor<double> out({s[0], s[1], s[2], s[3], 2});
  const Index voxels = s[1] * s[2] * s[3];
  for (Index b = 0; b < s[0]; ++b) {
    const double* w = windows.data() + b * voxels;
    double mean = 0;
    for (Index v = 0; v < voxels; ++v) mean += w[v] / double(voxels);
    for (Index v = 0; v < voxels; ++v) {
      const double i = double(v / (s[2] * s[3])) / double(s[1]), j = double(v / s[3] % s[2]) / double(s[2]),
                   k = double(v % s[3]) / double(s[3]);
      double* to = out.data() + (b * voxels + v) * 2;
      to[0] = w[v] * (1 + i + 2 * j - k);
      to[1] = 0.5 * w[v] + (std::cos(3 * i) * (j + 0.5) + k * k) * mean;
    }
  }
  return out;
}

/// The sum of the windows' weights, in the padded volume.
Tensor<double> weight_sum(const WindowPlan& plan, const Tensor<double>& map, const Shape& padded) {
  const auto out = Tensor<double>::zeros(padded);
  for (const Index a : plan.starts[0])
    for (const Index b : plan.starts[1])
      for (const Index c : plan.starts[2])
        for (Index v = 0; v < map.size(); ++v) {
          const Index i = v / (map.shape()[1] * map.shape()[2]), j = v / map.shape()[2] % map.shape()[1];
          out.data()[((a + i) * padded[1] + b + j) * padded[2] + c + v % map.shape()[2]] += map.data()[v];
        }
  return out;
}

void check_case(const Json& item, const SafeTensors& file, const std::string& mode) {
  const std::string name = item.at("name").get<std::string>();
  SlidingWindow options;
  options.window = size_of(item.at("roi"));
  for (std::size_t a = 0; a < 3; ++a) options.overlap[a] = item.at("overlap")[a].get<double>();
  options.importance = mode == "gaussian" ? Importance::gaussian : Importance::constant;
  options.batch = 3;

  const WindowPlan plan = plan_windows(size_of(item.at("shape")), options);
  CHECK(plan.windows() == item.at("windows").get<Index>());
  CHECK(plan.before == size_of(item.at("padding_before")));
  for (std::size_t a = 0; a < 3; ++a) CHECK(plan.starts[a] == item.at("starts")[a].get<std::vector<Index>>());

  const auto map = importance_map<double>(options.window, options.importance);
  const auto sums = file.tensor<double>(name + "." + mode + ".weight_sum");
  CHECK(golden::worst(weight_sum(plan, map, sums.shape()).data(), sums.data(), sums.size()) < 1e-5);

  const auto got = sliding_window(file.tensor<double>(name + ".input"), options, predict);
  const auto want = file.tensor<double>(name + "." + mode + ".output");  // [2, i, j, k]
  REQUIRE(got.size() == want.size());
  const Index voxels = got.size() / 2;
  double worst = 0;
  for (Index v = 0; v < voxels; ++v)
    for (Index c = 0; c < 2; ++c)
      worst = std::max(worst, std::abs(got.data()[v * 2 + c] - want.data()[c * voxels + v]) /
                                  std::max(1.0, std::abs(want.data()[c * voxels + v])));
  CHECK(worst < 1e-5);
}

/// Large maps are given by some of their values.
void check_map_facts(const Json& item, const Tensor<double>& map) {
  const Size3 n = size3(map.shape());
  const auto at = [&](Index i, Index j, Index k) { return map.data()[(i * n[1] + j) * n[2] + k]; };
  double sum = 0, smallest = 1, largest = 0;
  Index clamped = 0;
  for (const double v : map.span()) {
    sum += v, clamped += v == 1e-3;
    smallest = std::min(smallest, v), largest = std::max(largest, v);
  }
  CHECK(sum == Approx(item.at("sum").get<double>()).epsilon(1e-6));
  CHECK(smallest == Approx(item.at("min").get<double>()).epsilon(1e-5));
  CHECK(largest == Approx(item.at("max").get<double>()).epsilon(1e-5));
  CHECK(clamped == item.at("clamped_voxels").get<Index>());
  for (const auto& point : item.at("diagonal")) {
    const Index i = point.at("index").get<Index>();
    CHECK(at(i, i, i) == Approx(point.at("value").get<double>()).epsilon(1e-5));
  }
  for (const auto& point : item.at("axis")) {
    const Index i = point.at("index").get<Index>();
    CHECK(at(i, n[1] / 2, n[2] / 2) == Approx(point.at("value").get<double>()).epsilon(1e-5));
  }
}

}  // namespace

TEST_CASE("goldens: windows, weights and stitched scores", "[golden][imaging]") {
  const std::string folder = golden::imaging_folder();
  if (folder.empty()) return;
  const Json manifest = golden::read_json(folder + "/sliding_window/manifest.json");
  const SafeTensors file(folder + "/sliding_window/expected.safetensors");
  std::size_t outputs = 0, maps = 0;
  for (const std::string& name : file.names()) {
    outputs += name.ends_with(".output");
    maps += name.rfind("map_", 0) == 0;
  }

  std::size_t checked = 0;
  for (const auto& item : manifest.at("cases"))
    for (const std::string mode : {"constant", "gaussian"}) {
      INFO(item.at("name") << ", " << mode);
      check_case(item, file, mode);
      ++checked;
    }
  CHECK(checked == outputs);
  std::size_t compared = 0;
  for (const auto& item : manifest.at("importance_maps")) {
    INFO(item);
    const auto got =
        importance_map<double>(size_of(item.at("roi")), Importance::gaussian, item.at("sigma_scale").get<double>());
    if (!item.contains("tensor")) {
      check_map_facts(item, got);
      continue;
    }
    ++compared;
    const auto want = file.tensor<double>(item.at("tensor").get<std::string>());
    REQUIRE(got.shape() == want.shape());
    CHECK(golden::worst(got.data(), want.data(), want.size(), 1e-2) < 1e-5);
  }
  CHECK(compared == maps);
  for (const auto& item : manifest.at("one_axis_starts")) {
    INFO(item);
    CHECK(window_starts(item.at("size").get<Index>(), item.at("roi").get<Index>(), item.at("overlap").get<double>()) ==
          item.at("starts").get<std::vector<Index>>());
  }
}
