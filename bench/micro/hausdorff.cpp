// HD95 of two spheres in a grid of 250^3, shifted against each other: with voxels of 1 mm, with anisotropic ones, and
// far apart. bench/peers/hausdorff.py measures the same masks with SciPy.

#include <array>

#include <benchmark/benchmark.h>

#include "m3i/metrics/hausdorff.hpp"

using namespace m3i;

namespace {

struct Spheres {
  double radius_mm;
  std::array<double, 3> shift_voxels, spacing_mm;
};
constexpr Spheres near{110, {6, 6, 6}, {1, 1, 1}}, anisotropic{80, {3, 8, 4}, {1.5, 0.7, 0.9}},
    apart{60, {40, 40, 40}, {1, 1, 1}};

Tensor<std::uint8_t> sphere(const Spheres& s, double side) {
  Tensor<std::uint8_t> mask({250, 250, 250});
  std::uint8_t* out = mask.data();
  const auto square = [&](Index at, std::size_t axis) {
    const double d = (double(at) - 124.5 - side * s.shift_voxels[axis] / 2) * s.spacing_mm[axis];
    return d * d;
  };
  for (Index i = 0; i < 250; ++i)
    for (Index j = 0; j < 250; ++j)
      for (Index k = 0; k < 250; ++k) *out++ = square(i, 0) + square(j, 1) + square(k, 2) <= s.radius_mm * s.radius_mm;
  return mask;
}

void hd95_spheres(benchmark::State& state, const Spheres& spheres) {
  const auto prediction = sphere(spheres, -1), reference = sphere(spheres, 1);
  double value = 0;
  for (auto _ : state) value = hd95(prediction, reference, std::uint8_t(1), spheres.spacing_mm, Hausdorff95::monai);
  state.counters["hd95_mm"] = value;
}
BENCHMARK_CAPTURE(hd95_spheres, near, near)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(hd95_spheres, anisotropic, anisotropic)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(hd95_spheres, apart, apart)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
