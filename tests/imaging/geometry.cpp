#include <array>
#include <string>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/geometry.hpp"

using namespace m3i;

namespace {

/// All 48 ways to permute and flip three axes.
std::vector<OrientationMap> all_maps() {
  std::vector<OrientationMap> maps;
  for (const std::array<int, 3>& axis : {std::array{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}})
    for (int flips = 0; flips < 8; ++flips)
      maps.push_back({axis, {(flips & 1) != 0, (flips & 2) != 0, (flips & 4) != 0}});
  return maps;
}

Volume<float> ras_volume() {
  Random random(3);
  Affine affine = Affine::scaling({1.5, 2, 2.5}, {-3, 7, 11});
  return {normal_tensor<float>({3, 4, 5}, random), affine, nullptr};
}

double worst(const Affine& a, const Affine& b) {
  double most = 0;
  for (std::size_t i = 0; i < 16; ++i) most = std::max(most, std::abs(a.m[i] - b.m[i]));
  return most;
}

}  // namespace

TEST_CASE("orientation: to_ras undoes all 48 orientations and back, to the bit", "[imaging]") {
  const Volume<float> ras = ras_volume();
  std::vector<std::string> codes;
  for (const OrientationMap& map : all_maps()) {
    const Volume<float> turned = reorient(ras, map);
    codes.push_back(orientation(turned.affine));
    INFO(codes.back());
    const OrientationMap way = ras_map(turned.affine);
    const Volume<float> back = reorient(turned, way);
    CHECK(back.shape() == ras.shape());
    CHECK(back.voxels.to_vector() == ras.voxels.to_vector());
    CHECK(worst(back.affine, ras.affine) < 1e-12);
    CHECK(orientation(back.affine) == "RAS");
    const Volume<float> again = reorient(back, way.inverse());
    CHECK(again.voxels.to_vector() == turned.voxels.to_vector());
    CHECK(worst(again.affine, turned.affine) < 1e-12);
  }
  std::sort(codes.begin(), codes.end());
  CHECK(std::unique(codes.begin(), codes.end()) == codes.end());
}

TEST_CASE("orientation: a voxel keeps its place in the world", "[imaging]") {
  const Volume<float> ras = ras_volume();
  for (const OrientationMap& map : all_maps()) {
    const Volume<float> turned = reorient(ras, map);
    const Point3 first = turned.affine({0, 0, 0});
    const Point3 voxel = inverse(ras.affine)(first);
    const Index at =
        (Index(std::lround(voxel[0])) * 4 + Index(std::lround(voxel[1]))) * 5 + Index(std::lround(voxel[2]));
    CHECK(turned.voxels.data()[0] == ras.voxels.data()[at]);
  }
}

TEST_CASE("affine: inverse, spacing and closest rotation of an oblique matrix", "[imaging]") {
  Affine a;
  const double c = std::cos(0.4), s = std::sin(0.4);
  a.m = {c * 1.2, -s * 0.8, 0, 12, s * 1.2, c * 0.8, 0, -8, 0, 0, 3, 40, 0, 0, 0, 1};
  CHECK(worst(a * inverse(a), Affine{}) < 1e-12);
  CHECK(spacing_mm(a)[0] == Approx(1.2));
  CHECK(spacing_mm(a)[1] == Approx(0.8));
  CHECK(spacing_mm(a)[2] == Approx(3));
  const Affine r = closest_rotation(a);
  CHECK(r(0, 0) == Approx(c));
  CHECK(r(1, 0) == Approx(s));
  CHECK(r(2, 2) == Approx(1));
}

TEST_CASE("affine: a flat or NaN matrix is refused with its numbers", "[imaging][errors]") {
  CHECK_THROWS_AS(inverse(Affine::scaling({1, 0, 1})), NumericError);
  CHECK_THROWS_WITH(inverse(Affine::scaling({1, 0, 1})), Catch::Contains("1 0 0 0"));
  CHECK_THROWS_AS(orientation(Affine::scaling({1, std::nan(""), 1})), NumericError);
  CHECK(is_invertible(Affine::scaling({1e-6, 1e-6, 1e-6})));  // small voxels are not flat
}

TEST_CASE("grids: the largest corner error is found and named", "[imaging][errors]") {
  const Grid a{{10, 20, 30}, Affine::scaling({1, 1, 2})};
  Grid b = a;
  CHECK(same_grid(a, b).same);
  b.affine(0, 3) = 0.04;
  CHECK(same_grid(a, b).same);
  CHECK(same_grid(a, b).worst_mm == Approx(0.04));
  b.affine(2, 2) = 2.1;  // the far corners move by 29 * 0.1 mm
  CHECK_FALSE(same_grid(a, b).same);
  CHECK(same_grid(a, b).worst_mm == Approx(std::hypot(0.04, 2.9)));
  CHECK_THROWS_WITH(check_same_grid("image.nii", a, "labels.nii", b),
                    Catch::Contains("labels.nii") && Catch::Contains("image.nii") && Catch::Contains("2.9"));
  b.size = {10, 20, 31};
  CHECK_THROWS_WITH(check_same_grid("image.nii", a, "labels.nii", b), Catch::Contains("10 x 20 x 31"));
  b = a;
  b.affine(1, 1) = std::nan("");
  CHECK_FALSE(same_grid(a, b).same);
}
