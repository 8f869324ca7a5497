#include "m3i/imaging/resample_kernel.hpp"

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/resample_grid.hpp"

using namespace m3i;

namespace {

/// A volume of f(i, j, k) in voxels.
template <class F>
Volume<double> field(const Size3& n, const F& f) {
  Tensor<double> t(shape_of(n));
  for (Index i = 0; i < n[0]; ++i)
    for (Index j = 0; j < n[1]; ++j)
      for (Index k = 0; k < n[2]; ++k) t.data()[(i * n[1] + j) * n[2] + k] = f(double(i), double(j), double(k));
  return {t, {}, nullptr};
}

/// Largest difference from f at the resampled positions that lie at least `border` voxels inside.
template <class F>
double worst_inside(const Volume<double>& got, const Size3& n, double border, const F& f) {
  double most = 0;
  const Size3 m = size3(got.shape());
  for (Index i = 0; i < m[0]; ++i)
    for (Index j = 0; j < m[1]; ++j)
      for (Index k = 0; k < m[2]; ++k) {
        const Point3 x = got.affine({double(i), double(j), double(k)});
        bool inside = true;
        for (std::size_t a = 0; a < 3; ++a) inside = inside && x[a] >= border && x[a] <= double(n[a] - 1) - border;
        if (inside) most = std::max(most, std::abs(got.voxels.data()[(i * m[1] + j) * m[2] + k] - f(x[0], x[1], x[2])));
      }
  return most;
}

/// Masks of 0 and 1 for each label, resampled linearly; the largest, the lowest of equal ones.
Tensor<std::int32_t> by_masks(const Volume<std::int32_t>& labels, const Resampling& r, std::int32_t classes) {
  Tensor<std::int32_t> best;
  std::vector<double> most;
  for (std::int32_t c = 0; c < classes; ++c) {
    Tensor<double> mask(labels.shape());
    for (Index i = 0; i < mask.size(); ++i) mask.data()[i] = labels.voxels.data()[i] == c;
    const Tensor<double> p = resample(Volume<double>{mask, {}, nullptr}, r, Sampling::linear).voxels;
    if (c == 0) {
      best = Tensor<std::int32_t>::zeros(p.shape());
      const Volume<double> ones{Tensor<double>::full(labels.shape(), 1), {}, nullptr};
      const Tensor<double> inside = resample(ones, r, Sampling::linear).voxels;
      for (Index i = 0; i < p.size(); ++i)  // what all masks lack is padding, which is label 0
        most.push_back(p.data()[i] + 1 - inside.data()[i]);
      continue;
    }
    for (Index i = 0; i < p.size(); ++i)
      if (p.data()[i] > most[std::size_t(i)] + 1e-9) most[std::size_t(i)] = p.data()[i], best.data()[i] = c;
  }
  return best;
}

}  // namespace

TEST_CASE("cubic: quadratic functions are met, and the values at the sample points kept", "[imaging]") {
  const Size3 n{9, 11, 10};
  const auto quadratic = [](double x, double y, double z) { return 1 + x - 2 * y + 0.3 * x * x - 0.1 * y * z + z * z; };
  const Volume<double> v = field(n, quadratic);
  for (const Size3& m : {Size3{18, 22, 20}, Size3{13, 11, 29}, Size3{7, 8, 9}}) {
    const auto got = resample_to_size(v, m, Sampling::cubic);
    CHECK(worst_inside(got, n, 1, quadratic) < 1e-10);
    CHECK(same_grid(got, resample_to_size(v, m, Sampling::linear), 1e-12).same);
  }
  const auto tripled = resample_to_size(v, {27, 33, 30}, Sampling::cubic);  // every third position is a sample
  for (Index i = 0; i < n[0]; ++i)
    for (Index j = 0; j < n[1]; ++j)
      for (Index k = 0; k < n[2]; ++k)
        CHECK(tripled.voxels.data()[((3 * i + 1) * 33 + 3 * j + 1) * 30 + 3 * k + 1] ==
              Approx(v.voxels.data()[(i * n[1] + j) * n[2] + k]).margin(1e-12));
  // Half way between samples: (-1, 9, 9, -1) / 16.
  const auto w = detail::cubic_weights(0.5);
  CHECK(w[0] == Approx(-1.0 / 16));
  CHECK(w[1] == Approx(9.0 / 16));
}

TEST_CASE("antialias: a constant stays, a wave too fine for the new grid goes, a ramp is kept", "[imaging]") {
  const Size3 n{40, 36, 44}, m{10, 9, 11};
  const auto constant =
      resample_to_size(field(n, [](double, double, double) { return 7.25; }), m, Sampling::linear, true);
  for (const double x : constant.voxels.span()) CHECK(x == Approx(7.25).epsilon(1e-12));
  const auto wave = field(n, [](double x, double, double) { return std::cos(3 * x); });
  double plain = 0, smooth = 0;
  for (const double x : resample_to_size(wave, m, Sampling::linear).voxels.span()) plain = std::max(plain, std::abs(x));
  const auto smoothed = resample_to_size(wave, m, Sampling::linear, true);
  for (Index i = 2; i < 8; ++i)
    for (Index k = 0; k < 99; ++k) smooth = std::max(smooth, std::abs(smoothed.voxels.data()[i * 99 + k]));
  CHECK(plain > 0.05);
  CHECK(smooth < 0.02);
  const auto ramp = [](double x, double y, double z) { return x - y + 2 * z; };
  CHECK(worst_inside(resample_to_size(field(n, ramp), m, Sampling::linear, true), n, 8, ramp) < 1e-9);
  // Growing axes are not blurred.
  const auto small = field({4, 5, 6}, ramp);
  CHECK(resample_to_size(small, {8, 10, 12}, Sampling::linear, true).voxels.to_vector() ==
        resample_to_size(small, {8, 10, 12}, Sampling::linear).voxels.to_vector());
  // A Gaussian of deviation s blurs a wave of frequency w by exp(-s^2 w^2 / 2): s = (4 - 1) / 2 here.
  const auto slow = field({400, 1, 1}, [](double x, double, double) { return std::cos(0.1 * x); });
  const auto blurred = resample_to_size(slow, {100, 1, 1}, Sampling::cubic, true);
  CHECK(blurred.voxels.data()[50] == Approx(std::exp(-0.5 * 1.5 * 1.5 * 0.01) * std::cos(0.1 * 201.5)).margin(2e-3));
}

TEST_CASE("fit to a cube: kernels see the padding's zeros as padding first would", "[imaging]") {
  Random random(3);
  for (const Shape& shape : {Shape{9, 7, 5}, Shape{4, 12, 10}}) {
    const Volume<float> v{normal_tensor<float>(shape, random), Affine::scaling({1, 2, 3}), nullptr};
    for (const Index size : {4, 20})
      for (const bool antialias : {false, true})
        for (const Sampling sampling : {Sampling::linear, Sampling::cubic}) {
          const auto once = resample_to_cube(v, size, sampling, antialias);
          const auto twice = resample_to_size(pad_to_cube(v), {size, size, size}, sampling, antialias);
          CHECK(same_grid(once, twice, 1e-9).same);
          for (Index i = 0; i < once.voxels.size(); ++i)
            CHECK(once.voxels.data()[i] == Approx(twice.voxels.data()[i]).margin(1e-6));
        }
  }
}

TEST_CASE("label_linear: the same as masks, linear and the largest", "[imaging]") {
  Random random(5);
  for (const Shape& shape : {Shape{7, 6, 5}, Shape{4, 9, 6}}) {
    Volume<std::int32_t> labels{Tensor<std::int32_t>::zeros(shape), Affine::scaling({1, 1, 2}), nullptr};
    const Tensor<float> draw = uniform_tensor<float>(shape, random, 0, 4);
    for (Index i = 0; i < draw.size(); ++i) labels.voxels.data()[i] = std::int32_t(draw.data()[i]);
    for (const Resampling& r :
         {Resampling::to_size(labels.grid(), {11, 13, 9}), Resampling::to_size(labels.grid(), {3, 4, 5}),
          Resampling::to_cube(labels.grid(), 14)}) {
      const auto got = resample(labels, r, Sampling::label_linear);
      CHECK(got.voxels.to_vector() == by_masks(labels, r, 4).to_vector());
    }
    CHECK(resample_to_grid(labels, labels.grid(), Sampling::label_linear).voxels.to_vector() ==
          labels.voxels.to_vector());
  }
  const Volume<float> v{Tensor<float>::zeros({4, 4, 4}), {}, nullptr};
  CHECK_THROWS_WITH(resample_to_size(v, {2, 2, 2}, Sampling::label_linear), Catch::Contains("label_linear"));
}
