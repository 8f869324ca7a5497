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

static double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return 1e300;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
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

TEST_CASE("surface distances: equal brute force on 1000 pairs of masks, for any spacing", "[fast]") {
  Index empty = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Random random(seed);
    const Index longest = seed % 50 == 0 ? 90 : 8;  // more planes than are searched at once, more bits than a word
    const Shape shape{1 + random.below(seed % 3 ? 8 : longest), 1 + random.below(8),
                      1 + random.below(seed % 3 ? longest : 8)};
    const Spacing mm{random.uniform(0.1, 5), random.uniform(0.1, 5), random.uniform(0.1, 5)};
    const double density = longest > 8 ? 0.02 : 0.9;
    const auto p = random_mask(shape, random.uniform(0.02, density), seed + 1),
               r = random_mask(shape, random.uniform(0.02, density), seed + 2);
    const auto d = surface_distances(p, r, std::uint8_t(1), mm);
    CAPTURE(seed, shape.text());
    REQUIRE(d.prediction_surface == Index(surface_voxels(p).size()));
    REQUIRE(d.reference_surface == Index(surface_voxels(r).size()));
    empty += d.empty();
    if (d.empty()) continue;
    CHECK(largest_difference(directed(p, r, mm), d.prediction_to_reference) < 1e-12);
    CHECK(largest_difference(directed(r, p, mm), d.reference_to_prediction) < 1e-12);
    const auto swapped = surface_distances(r, p, std::uint8_t(1), mm);
    const double far = hausdorff(d), most = hd95(d, Hausdorff95::monai, EmptySurface::error);
    CHECK((hausdorff(swapped) == far && hd95(swapped, Hausdorff95::monai, EmptySurface::error) == most));
    CHECK((assd(swapped) == Approx(assd(d)) && most <= far && assd(d) <= far));
    CHECK((normalised_surface_distance(d, far) == 1 &&
           normalised_surface_distance(swapped, 1) == normalised_surface_distance(d, 1)));
  }
  CHECK(empty < 200);
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

TEST_CASE("surface distances: spheres, boxes and planes have the distances of geometry", "[fast]") {
  const Spacing mm{0.8, 1.1, 2.5};
  const Shape shape{61, 47, 23};
  const auto filled = [&](const auto& inside) {
    auto m = Mask::zeros(shape);
    for (Index i = 0; i < shape[0]; ++i)
      for (Index j = 0; j < shape[1]; ++j)
        for (Index k = 0; k < shape[2]; ++k)
          m.data()[(i * shape[1] + j) * shape[2] + k] = inside(double(i) * mm[0], double(j) * mm[1], double(k) * mm[2]);
    return m;
  };
  const auto all_near = [](const std::vector<double>& distances, double value, double tolerance) {
    return std::all_of(distances.begin(), distances.end(), [&](double d) { return std::abs(d - value) <= tolerance; });
  };
  const double voxel = std::sqrt(0.8 * 0.8 + 1.1 * 1.1 + 2.5 * 2.5);
  {  // concentric spheres of 10 and 20 mm: 10 mm everywhere, but for half a voxel of each surface
    const auto ball = [&](double r) {
      return filled([=](double x, double y, double z) {
        return (x - 24) * (x - 24) + (y - 25.3) * (y - 25.3) + (z - 27.5) * (z - 27.5) <= r * r;
      });
    };
    const auto d = surface_distances(ball(10), ball(20), std::uint8_t(1), mm);
    CHECK(all_near(d.prediction_to_reference, 10, voxel));
    CHECK(all_near(d.reference_to_prediction, 10, voxel));
    CHECK(assd(d) == Approx(10).margin(voxel / 2));
  }
  {  // boxes, one grown by 2, 3 and 1 voxels on each side: the farthest are the corners
    const auto box = [&](Index a, Index b, Index c) {
      return filled([=](double x, double y, double z) {
        return std::abs(x / 0.8 - 30) < double(10 + a) + 0.5 && std::abs(y / 1.1 - 23) < double(8 + b) + 0.5 &&
               std::abs(z / 2.5 - 11) < double(4 + c) + 0.5;
      });
    };
    const auto d = surface_distances(box(0, 0, 0), box(2, 3, 1), std::uint8_t(1), mm);
    CHECK(hausdorff(d) == Approx(std::sqrt(1.6 * 1.6 + 3.3 * 3.3 + 2.5 * 2.5)));
    CHECK(*std::max_element(d.prediction_to_reference.begin(), d.prediction_to_reference.end()) == Approx(3.3));
    CHECK(*std::min_element(d.reference_to_prediction.begin(), d.reference_to_prediction.end()) == Approx(1.6));
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {  // one plane each, three voxels apart
    const auto plane = [&](double at) {
      return filled([=](double x, double y, double z) {
        const std::array<double, 3> v{x, y, z};
        return std::abs(v[axis] - at * mm[axis]) < 0.1;
      });
    };
    const auto d = surface_distances(plane(5), plane(8), std::uint8_t(1), mm);
    CHECK(all_near(d.prediction_to_reference, 3 * mm[axis], 1e-12));
    CHECK(all_near(d.reference_to_prediction, 3 * mm[axis], 1e-12));
    CHECK(normalised_surface_distance(d, 3 * mm[axis] + 1e-9) == 1);
    CHECK(normalised_surface_distance(d, 3 * mm[axis] - 1e-9) == 0);
  }
}

TEST_CASE("surface distances: boxes of labels, found in one pass, give the same", "[fast]") {
  const auto p = random_mask({20, 18, 140}, 0.02, 1), r = random_mask({20, 18, 140}, 0.02, 2);
  for (Index i = 0; i < p.size(); ++i) {  // labels 0, 1 and 2; 2 only within a part
    const Index k = i % 140, part = k > 60 && k < 130 && i / 140 % 18 > 3 ? 2 : 1;
    p.data()[i] = std::uint8_t(p.data()[i] * part), r.data()[i] = std::uint8_t(r.data()[i] * part);
  }
  const auto boxes_p = label_boxes(p, 4), boxes_r = label_boxes(r, 4);
  CHECK(boxes_p[3].empty());
  CHECK(boxes_p[2].begin[1] >= 4);
  CHECK(boxes_p[2].begin[2] >= 61);
  CHECK(boxes_p[2].end[2] <= 130);
  for (std::uint8_t label = 0; label < 4; ++label) {
    const auto a = surface_distances(p, r, label, {1, 2, 3}),
               b = surface_distances(p, r, label, {1, 2, 3}, boxes_p[label].joined(boxes_r[label]));
    CHECK(a.prediction_to_reference == b.prediction_to_reference);
    CHECK(a.reference_to_prediction == b.reference_to_prediction);
    CHECK(a.prediction_surface == b.prediction_surface);
  }
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

TEST_CASE("empty masks: each way of being empty has its own value", "[fast]") {
  const auto none = Mask::zeros({3, 4, 12});
  auto one = Mask::zeros({3, 4, 12});
  one.data()[13] = 1;
  const auto at = [](const Mask& p, const Mask& r) { return surface_distances(p, r, std::uint8_t(1), {1, 1, 1}); };
  const EmptyPolicy policy = parse_empty("perfect,diagonal,infinite");
  CHECK(policy.text() == "perfect,diagonal,infinite");
  CHECK(parse_empty("skip").text() == "skip");
  CHECK(assd(at(none, none), policy) == 0);
  CHECK(hausdorff(at(none, one), policy) == 13);  // sqrt(9 + 16 + 144)
  CHECK(std::isinf(hd95(at(one, none), Hausdorff95::medpy, policy)));
  CHECK(normalised_surface_distance(at(none, none), 1, policy) == 1);
  CHECK(normalised_surface_distance(at(none, one), 1, policy) == 0);
  CHECK(std::isnan(normalised_surface_distance(at(none, none), 1)));
  CHECK(normalised_surface_distance(at(one, none), 1) == 0);
  CHECK(normalised_surface_distance(at(one, one), 0) == 1);
  CHECK_THROWS_WITH(normalised_surface_distance(at(one, one), -1), Catch::Contains("tolerance -1 mm"));
  CHECK_THROWS_WITH(assd(at(one, none), EmptySurface::error), Catch::Contains("the reference is empty"));
  CHECK_THROWS_WITH(parse_empty("skip,zero"), Catch::Contains("has 2 values"));
  CHECK_THROWS_WITH(parse_empty("nothing"), Catch::Contains("\"nothing\" is none of skip"));
  CHECK_THROWS_AS(parse_empty("zero,zero,zero,zero"), ConfigError);
  CHECK_THROWS_AS(parse_empty("zero,zero,"), ConfigError);
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
