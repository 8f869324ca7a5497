#include "m3i/imaging/preprocess.hpp"
#include "catch.hpp"
#include "m3i/core/random.hpp"

using namespace m3i;

namespace {

/// Three boxes of labels in a grid with unequal spacing and a permuted, flipped orientation.
Volume<std::int32_t> boxes(const OrientationMap& map) {
  Tensor<std::int32_t> l = Tensor<std::int32_t>::zeros({20, 26, 14});
  for (Index i = 0; i < 20; ++i)
    for (Index j = 0; j < 26; ++j)
      for (Index k = 0; k < 14; ++k)
        l.data()[(i * 26 + j) * 14 + k] = i < 6 && j < 8                                   ? 1
                                          : k > 9                                          ? 2
                                          : (i - 12) * (i - 12) + (j - 15) * (j - 15) < 20 ? 7
                                                                                           : 0;
  return reorient(Volume<std::int32_t>{l, Affine::scaling({1.5, 1, 2.25}, {-8, 3, 40}), nullptr}, map);
}

}  // namespace

TEST_CASE("preprocess: labels come back exactly on the input's own grid", "[imaging]") {
  for (const OrientationMap& map : {OrientationMap{}, OrientationMap{{2, 0, 1}, {true, false, true}},
                                    OrientationMap{{1, 0, 2}, {true, true, true}}}) {
    const auto labels = boxes(map);
    const auto done =
        preprocess_labels(labels, {.size = 96, .spacing_mm = 0.5});  // finer than the input: nothing is lost
    CHECK(done.volume.shape() == Shape{96, 96, 96});
    CHECK(orientation(done.volume.affine) == "RAS");
    const auto back = done.record.restore_labels(done.volume.voxels);
    CHECK(back.affine == labels.affine);
    REQUIRE(back.shape() == labels.shape());
    CHECK(back.voxels.to_vector() == labels.voxels.to_vector());
  }
}

TEST_CASE("preprocess: scores come back as the class that wins after interpolation", "[imaging]") {
  const auto labels = boxes({{1, 2, 0}, {false, true, false}});
  const auto done = preprocess_labels(labels, {.size = 80, .spacing_mm = 0.75});
  Tensor<float> scores = Tensor<float>::zeros({80, 80, 80, 8});
  for (Index i = 0; i < done.volume.voxels.size(); ++i) scores.data()[i * 8 + done.volume.voxels.data()[i]] = 1;
  const auto back = done.record.restore_scores(scores);
  REQUIRE(back.shape() == labels.shape());
  Index different = 0;
  for (Index i = 0; i < back.voxels.size(); ++i) different += back.voxels.data()[i] != labels.voxels.data()[i];
  CHECK(double(different) / double(back.voxels.size()) < 0.01);
  CHECK_THROWS_WITH(done.record.restore_scores(Tensor<float>::zeros({80, 80, 79, 8})), Catch::Contains("[80, 80, 79]"));
}

TEST_CASE("preprocess: image and labels of one subject land on the same grid", "[imaging]") {
  const auto labels = boxes({{0, 2, 1}, {true, false, false}});
  Random random(2);
  const Volume<float> image{uniform_tensor<float>(labels.shape(), random, -1000, 2000), labels.affine, nullptr};
  const auto a = preprocess(image, {.size = 32});
  const auto b = preprocess_labels(labels, {.size = 32});
  CHECK(same_grid(a.volume, b.volume, 1e-9).same);
  const IntensityStats s = intensity_stats(a.volume.voxels);
  CHECK(s.min >= 0);
  CHECK(s.max <= 1);
  const auto restored = a.record.restore_image(a.volume.voxels);
  CHECK(same_grid(restored, image, 1e-9).same);
}

TEST_CASE("resample: cube in one step equals padding, then resizing", "[imaging]") {
  Random random(4);
  for (const Shape& shape : {Shape{9, 7, 5}, Shape{1, 6, 2}, Shape{8, 8, 8}, Shape{4, 11, 10}}) {
    const Volume<float> v{normal_tensor<float>(shape, random), Affine::scaling({1, 2, 3}), nullptr};
    for (const Index size : {1, 4, 11, 24}) {
      for (const Sampling sampling : {Sampling::linear, Sampling::nearest}) {
        const auto once = resample_to_cube(v, size, sampling);
        const auto twice = resample_to_size(pad_to_cube(v), {size, size, size}, sampling);
        CHECK(same_grid(once, twice, 1e-9).same);
        double most = 0;
        for (Index i = 0; i < once.voxels.size(); ++i)
          most = std::max(most, double(std::abs(once.voxels.data()[i] - twice.voxels.data()[i])));
        CHECK(most < 1e-6);
      }
    }
  }
}

TEST_CASE("resample: to its own grid is the identity, to a shifted grid a shift", "[imaging]") {
  Random random(6);
  const Volume<float> v{normal_tensor<float>({5, 6, 7}, random), Affine::scaling({1, 2, 3}, {4, 5, 6}), nullptr};
  CHECK(resample_to_grid(v, v.grid(), Sampling::nearest).voxels.to_vector() == v.voxels.to_vector());
  const auto same = resample_to_grid(v, v.grid(), Sampling::linear);
  for (Index i = 0; i < v.voxels.size(); ++i) CHECK(same.voxels.data()[i] == Approx(v.voxels.data()[i]).margin(1e-6));
  Grid shifted = v.grid();
  shifted.affine(1, 3) += 2;  // one voxel along j
  const auto moved = resample_to_grid(v, shifted, Sampling::linear, -9.f);
  CHECK(moved.voxels.data()[0] == Approx(v.voxels.data()[7]));
  CHECK(moved.voxels.data()[5 * 7] == -9.f);  // beyond the last voxel
}

TEST_CASE("resample: pad and crop undo each other", "[imaging]") {
  Random random(8);
  const Volume<float> v{normal_tensor<float>({3, 4, 5}, random), Affine::scaling({1, 2, 3}, {4, 5, 6}), nullptr};
  const auto back = crop(pad(v, {1, 0, 2}, {0, 3, 1}, 7.f), {1, 0, 2}, {3, 4, 5});
  CHECK(back.voxels.to_vector() == v.voxels.to_vector());
  CHECK(same_grid(back, v, 1e-9).same);
  CHECK_THROWS_AS(crop(v, {1, 0, 0}, {3, 4, 5}), ShapeError);
}

TEST_CASE("resample: wrong sizes and spacings are refused before memory is taken", "[imaging][errors]") {
  const Volume<float> v{Tensor<float>::zeros({4, 4, 4}), Affine::scaling({1000, 1000, 1000}), nullptr};
  CHECK_THROWS_WITH(resample_to_spacing(v, {1, 1, 1}, Sampling::linear), Catch::Contains("voxel size"));
  CHECK_THROWS_AS(resample_to_spacing(v, {0, 1, 1}, Sampling::linear), ShapeError);
  CHECK_THROWS_AS(resample_to_size(v, {4, -1, 4}, Sampling::linear), ShapeError);
  CHECK_THROWS_AS(resample_to_size(v, {1 << 20, 1 << 20, 1 << 20}, Sampling::linear), ShapeError);
  const Volume<std::int32_t> labels{Tensor<std::int32_t>::zeros({4, 4, 4}), {}, nullptr};
  CHECK_THROWS_WITH(resample_to_size(labels, {2, 2, 2}, Sampling::linear), Catch::Contains("nearest"));
}

TEST_CASE("resample: results do not depend on the number of threads", "[imaging]") {
  Random random(9);
  const Volume<float> v{normal_tensor<float>({17, 15, 13}, random), Affine::scaling({1, 1.5, 2}), nullptr};
  const int threads = thread_count();
  set_thread_count(1);
  const auto one = preprocess(v, {.size = 24}).volume.voxels.to_vector();
  set_thread_count(4);
  const auto four = preprocess(v, {.size = 24}).volume.voxels.to_vector();
  set_thread_count(threads);
  CHECK(one == four);
}
