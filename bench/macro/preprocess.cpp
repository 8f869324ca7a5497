// The paper's preprocessing of one file: read a .nii.gz of 256 x 256 x 180 int16 voxels of 0.94 x 0.94 x 1.2 mm, RAS
// order, 1 mm, intensities to [0, 1], padded to a cube, scaled to 128^3; as one JSON line, best of 5.
// bench/peers/preprocess.py does the same with nibabel and SciPy.
//
//     preprocess FILE.nii.gz        FILE is made, a head with noise, if it does not exist

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>

#include "m3i/core/random.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/imaging/preprocess.hpp"

using namespace m3i;

namespace {

/// A head in noisy air, with folds inside, so that it packs about as well as a real image does.
Volume<std::int16_t> head() {
  const Size3 n{256, 256, 180};
  Volume<std::int16_t> volume{Tensor<std::int16_t>(shape_of(n)), Affine::scaling({-0.94, 0.94, 1.2}), nullptr};
  Random random(1);
  std::int16_t* out = volume.voxels.data();
  for (Index i = 0; i < n[0]; ++i)
    for (Index j = 0; j < n[1]; ++j)
      for (Index k = 0; k < n[2]; ++k) {
        const double x = double(i - 128) * 0.94, y = double(j - 128) * 0.94, z = double(k - 90) * 1.2;
        const double r = std::sqrt(x * x / (75 * 75) + y * y / (95 * 95) + z * z / (85 * 85));
        const double tissue = r < 1 ? 500 + 200 * std::sin(0.15 * x) * std::cos(0.12 * y) * std::sin(0.14 * z) : 0;
        *out++ = std::int16_t(std::lround(std::abs(tissue + 12 * random.normal())));
      }
  return volume;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: preprocess FILE.nii.gz\n"), 2;
  const std::string path = argv[1];
  if (!std::filesystem::exists(path)) write_nifti(path, head());
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto seconds = [](auto from, auto to) { return std::chrono::duration<double>(to - from).count(); };
  double best = std::numeric_limits<double>::infinity(), read = 0, sum = 0;
  for (int run = 0; run < 5; ++run) {
    const auto start = now();
    const Volume<float> volume = read_nifti<float>(path);
    const auto middle = now();
    const Preprocessed<float> done = preprocess(volume, {});
    const auto end = now();
    if (seconds(start, end) < best) best = seconds(start, end), read = seconds(start, middle);
    sum = 0;
    for (const float v : done.volume.voxels.span()) sum += double(v);
  }
  std::printf(
      "{\"work\": \"preprocess 256 x 256 x 180 .nii.gz to 128^3\", \"step_s\": %.4f, \"read_s\": %.4f, "
      "\"mean\": %.6f, \"threads\": %d}\n",
      best, read, sum / (128.0 * 128 * 128), thread_count());
}
