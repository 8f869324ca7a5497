#include "m3i/metrics/hausdorff.hpp"

#include "catch.hpp"
#include "m3i/core/random.hpp"

using namespace m3i;
using Mask = Tensor<std::uint8_t>;
using Spacing = std::array<double, 3>;

static Mask random_mask(const Shape& shape, double density, std::uint64_t seed) {
  Random random(seed);
  Mask out(shape);
  for (auto& v : out.span()) v = random.uniform() < density;
  return out;
}

static double squared(const Shape& s, Index a, Index b, const Spacing& mm) {
  const Index plane = s[1] * s[2];
  const double di = double(a / plane - b / plane) * mm[0], dj = double(a / s[2] % s[1] - b / s[2] % s[1]) * mm[1],
               dk = double(a % s[2] - b % s[2]) * mm[2];
  return di * di + dj * dj + dk * dk;
}

// The definition, voxel by voxel.
static std::vector<Index> surface_voxels(const Mask& m) {
  const Shape& s = m.shape();
  std::vector<Index> out;
  const auto at = [&](Index i, Index j, Index k) {
    return i >= 0 && j >= 0 && k >= 0 && i < s[0] && j < s[1] && k < s[2] && m.data()[(i * s[1] + j) * s[2] + k];
  };
  for (Index i = 0; i < s[0]; ++i)
    for (Index j = 0; j < s[1]; ++j)
      for (Index k = 0; k < s[2]; ++k)
        if (at(i, j, k) && !(at(i - 1, j, k) && at(i + 1, j, k) && at(i, j - 1, k) && at(i, j + 1, k) &&
                             at(i, j, k - 1) && at(i, j, k + 1)))
          out.push_back((i * s[1] + j) * s[2] + k);
  return out;
}
static std::vector<double> directed(const Mask& from, const Mask& to, const Spacing& mm) {
  std::vector<double> out;
  for (const Index a : surface_voxels(from)) {
    double best = 1e300;
    for (const Index b : surface_voxels(to)) best = std::min(best, squared(from.shape(), a, b, mm));
    out.push_back(std::sqrt(best));
  }
  return out;
}

TEST_CASE("distance transform: equals brute force on random sets and spacings", "[fast]") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const Shape shape{1 + random.below(9), 1 + random.below(9), 1 + random.below(9)};
    const Spacing mm{random.uniform(0.1, 5), random.uniform(0.1, 5), random.uniform(0.1, 5)};
    const auto set = random_mask(shape, random.uniform(0.005, 0.6), seed + 100);
    const auto d = squared_distance_transform(set, mm);
    double worst = 0;
    for (Index a = 0; a < set.size(); ++a) {
      double best = std::numeric_limits<double>::infinity();
      for (Index b = 0; b < set.size(); ++b)
        if (set.data()[b]) best = std::min(best, squared(shape, a, b, mm));
      if (best == d.data()[a]) continue;  // also both infinite
      worst = std::max(worst, std::abs(best - d.data()[a]));
    }
    CAPTURE(seed, shape.text());
    CHECK(worst < 1e-10);
  }
}

TEST_CASE("surface distances: equal brute force, for any spacing", "[fast]") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const Shape shape{1 + random.below(10), 1 + random.below(10), 1 + random.below(10)};
    const Spacing mm{random.uniform(0.1, 5), random.uniform(0.1, 5), random.uniform(0.1, 5)};
    const auto p = random_mask(shape, random.uniform(0.02, 0.9), seed + 1), r = random_mask(shape, 0.3, seed + 2);
    const auto d = surface_distances(p, r, std::uint8_t(1), mm);
    CAPTURE(seed, shape.text());
    REQUIRE(d.prediction_surface == Index(surface_voxels(p).size()));
    if (d.empty()) continue;
    const auto there = directed(p, r, mm), back = directed(r, p, mm);
    REQUIRE(there.size() == d.prediction_to_reference.size());
    REQUIRE(back.size() == d.reference_to_prediction.size());
    for (std::size_t i = 0; i < there.size(); ++i)
      CHECK(there[i] == Approx(d.prediction_to_reference[i]).margin(1e-10));
    for (std::size_t i = 0; i < back.size(); ++i) CHECK(back[i] == Approx(d.reference_to_prediction[i]).margin(1e-10));
    const auto swapped = surface_distances(r, p, std::uint8_t(1), mm);
    CHECK(hd95(swapped, Hausdorff95::monai, EmptySurface::nan) == hd95(d, Hausdorff95::monai, EmptySurface::nan));
    CHECK(hausdorff(swapped) == hausdorff(d));
    CHECK(assd(swapped) == Approx(assd(d)));
    CHECK(hd95(d, Hausdorff95::monai, EmptySurface::nan) <= hausdorff(d));
  }
}

TEST_CASE("surface distances: moving both masks changes nothing, moving one gives the shift", "[fast]") {
  const auto box = [](Index at) {
    auto m = Mask::zeros({20, 8, 8});
    for (Index i = at; i < at + 4; ++i)
      for (Index j = 2; j < 6; ++j)
        for (Index k = 2; k < 6; ++k) m.data()[(i * 8 + j) * 8 + k] = 7;
    return m;
  };
  const Spacing mm{2, 1, 1};
  const auto distance = [&](Index a, Index b) {
    return hausdorff(surface_distances(box(a), box(b), std::uint8_t(7), mm));
  };
  CHECK(distance(1, 3) == 4);
  CHECK(distance(11, 13) == 4);
  CHECK(distance(5, 5) == 0);
  CHECK(hd95(box(1), box(3), std::uint8_t(7), mm, Hausdorff95::nnformer) == 2);  // voxels
}

TEST_CASE("hd95: the percentile is linear between order statistics", "[fast]") {
  CHECK(percentile_of({4, 1, 3, 2, 5}, 50) == 3);
  CHECK(percentile_of({0, 10}, 95) == Approx(9.5));
  CHECK(percentile_of({7}, 95) == 7);
  CHECK(percentile_of({3, 1, 2}, 0) == 1);
  CHECK(percentile_of({3, 1, 2}, 100) == 3);
  CHECK_THROWS_AS(percentile_of({}, 95), ShapeError);
  CHECK_THROWS_AS(percentile_of({1}, 101), ShapeError);
}

TEST_CASE("hd95: empty masks follow the named policy", "[fast]") {
  const auto none = Mask::zeros({3, 3, 3});
  auto one = Mask::zeros({3, 3, 3});
  one.data()[13] = 1;
  const Spacing mm{1, 1, 1};
  const auto score = [&](const Mask& p, const Mask& r, Hausdorff95 c) { return hd95(p, r, std::uint8_t(1), mm, c); };
  CHECK(std::isnan(score(none, one, Hausdorff95::monai)));
  CHECK(score(none, one, Hausdorff95::nnformer) == 0);
  CHECK_THROWS_WITH(score(none, one, Hausdorff95::medpy), Catch::Contains("the prediction is empty"));
  CHECK_THROWS_WITH(score(one, none, Hausdorff95::medpy), Catch::Contains("the reference is empty"));
  CHECK_THROWS_WITH(score(none, none, Hausdorff95::medpy), Catch::Contains("both masks are empty"));
  CHECK(std::isnan(hausdorff(surface_distances(none, none, std::uint8_t(1), mm))));
  CHECK(std::isinf(hausdorff(surface_distances(one, none, std::uint8_t(1), mm))));
}

TEST_CASE("surface distances: bad input is refused", "[fast]") {
  const auto m = Mask::zeros({3, 3, 3});
  CHECK_THROWS_WITH(surface_distances(m, Mask::zeros({3, 3, 4}), std::uint8_t(1), {1, 1, 1}),
                    Catch::Contains("[3, 3, 4]"));
  CHECK_THROWS_WITH(surface_distances(m, m, std::uint8_t(1), {1, 0, 1}), Catch::Contains("spacing 0"));
  CHECK_THROWS_WITH(surface_distances(m, m, std::uint8_t(1), {1, std::nan(""), 1}), Catch::Contains("spacing nan"));
  CHECK_THROWS_AS(surface_distances(Mask::zeros({3, 3}), Mask::zeros({3, 3}), std::uint8_t(1), {1, 1, 1}), ShapeError);
  CHECK_THROWS_AS(squared_distance_transform(Mask::zeros({3, 3}), {1, 1, 1}), ShapeError);
  CHECK(surface_distances(Mask::zeros({0, 3, 3}), Mask::zeros({0, 3, 3}), std::uint8_t(1), {1, 1, 1}).empty());
}

TEST_CASE("surface distances: the result does not depend on the number of threads", "[fast]") {
  const auto p = random_mask({40, 30, 20}, 0.01, 1), r = random_mask({40, 30, 20}, 0.01, 2);
  const auto many = surface_distances(p, r, std::uint8_t(1), {1, 2, 3});
  const int threads = thread_count();
  set_thread_count(1);
  const auto one = surface_distances(p, r, std::uint8_t(1), {1, 2, 3});
  set_thread_count(threads);
  CHECK(one.prediction_to_reference == many.prediction_to_reference);
  CHECK(one.reference_to_prediction == many.reference_to_prediction);
}
