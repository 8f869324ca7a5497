#include <limits>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/intensity.hpp"

using namespace m3i;

TEST_CASE("intensity: minmax, z-score and window of known values", "[imaging]") {
  const auto v = Tensor<float>::from({-100, 0, 100, 300}, {4, 1, 1});
  CHECK(minmax(v).to_vector() == std::vector<float>{0, 0.25, 0.5, 1});
  CHECK(window(v, 100, 200).to_vector() == std::vector<float>{0, 0, 0.5, 1});
  const auto z = zscore(v);
  const IntensityStats s = intensity_stats(z);
  CHECK(s.mean == Approx(0).margin(1e-6));
  CHECK(s.deviation == Approx(1));
  CHECK(percentiles(v, {0, 25, 50, 100}) == std::vector<double>{-100, -25, 50, 300});
}

TEST_CASE("intensity: NaN and infinity do not count and stay what they are", "[imaging]") {
  const float inf = std::numeric_limits<float>::infinity();
  const auto v = Tensor<float>::from({1, std::nanf(""), 3, inf}, {4, 1, 1});
  const auto m = minmax(v).to_vector();
  CHECK(m[0] == 0);
  CHECK(std::isnan(m[1]));
  CHECK(m[2] == 1);
  CHECK(m[3] == inf);
  CHECK(intensity_stats(v).finite == 2);
}

TEST_CASE("intensity: a constant volume becomes zero", "[imaging]") {
  const auto v = Tensor<double>::full({2, 2, 2}, 7);
  for (const auto& out : {minmax(v), percentile_clip(v), zscore(v)})
    CHECK(out.to_vector() == std::vector<double>(8, 0.0));
}

TEST_CASE("intensity: volumes without information are refused with file and voxel", "[imaging][errors]") {
  auto v = Tensor<float>::zeros({2, 3, 4});
  CHECK_THROWS_AS(check_intensities(v, "a.nii"), FileError);
  CHECK_THROWS_WITH(check_intensities(v, "a.nii"), Catch::Contains("a.nii") && Catch::Contains("all 24 voxels are 0"));
  v.data()[1] = 1;
  CHECK_NOTHROW(check_intensities(v, "a.nii"));
  v.data()[1 * 12 + 2 * 4 + 3] = std::nanf("");
  CHECK_THROWS_WITH(check_intensities(v, "a.nii"), Catch::Contains("(1, 2, 3) is nan"));
  CHECK_THROWS_AS(window(v, 0, 0), ConfigError);
  CHECK_THROWS_AS(percentile_clip(v, 99, 1), ConfigError);
}

TEST_CASE("intensity: statistics of many voxels, some not finite, for any number of threads", "[imaging]") {
  Random random(9);
  Tensor<float> voxels({70000});
  long double sum = 0, squares = 0;
  Index finite = 0;
  for (float& v : voxels.span()) {
    v = float(1000 + random.normal());
    if (random.below(10) == 0) v = random.below(2) == 0 ? std::nanf("") : -HUGE_VALF;
    if (std::isfinite(v)) sum += v, squares += (long double)(v)*v, ++finite;
  }
  const long double mean = sum / (long double)(finite);
  const int threads = thread_count();
  std::vector<IntensityStats> found;
  for (const int n : {1, 3}) {
    set_thread_count(n);
    found.push_back(intensity_stats(voxels));
  }
  set_thread_count(threads);
  CHECK(found[0].finite == finite);
  CHECK(found[0].mean == Approx(double(mean)).epsilon(1e-12));
  CHECK(found[0].deviation == Approx(std::sqrt(double(squares / (long double)(finite)-mean * mean))).epsilon(1e-9));
  CHECK(found[0].min > 990);
  CHECK(found[0].max < 1010);
  CHECK(found[0].mean == found[1].mean);
  CHECK(found[0].deviation == found[1].deviation);
  const Tensor<float> scaled = minmax(voxels);
  for (Index i = 0; i < voxels.size(); ++i)
    if (std::isfinite(voxels.data()[i]) && !(scaled.data()[i] >= 0 && scaled.data()[i] <= 1)) FAIL("voxel " << i);
}
