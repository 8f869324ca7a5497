#pragma once
// Wall time of work on a device, and numbers to work on.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i::bench {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds of the best of some runs, each until the device is idle. A GPU runs short work often enough for 2 ms, beside
/// which a start and a wait are little.
template <class F>
double fastest(Device device, const F& work) {
  const auto seconds = [&](int times) {
    synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < times; ++i) work();
    synchronize(device);
    return seconds_since(start) / times;
  };
  work();  // memory, algorithms
  const int times = device.on_host() ? 1 : int(std::clamp(2e-3 / seconds(1), 1.0, 200.0));
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 7; ++run) best = std::min(best, seconds(times));
  return best;
}

/// Element i of a noise in [-1, 1).
template <class T>
struct Noise {
  T* to;
  std::uint64_t seed;
  M3I_HD void operator()(Index i) const {
    std::uint64_t x = (std::uint64_t(i) + seed) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    to[i] = T(float(std::int32_t(x >> 32)) * 0x1p-31f);
  }
};
/// Made where it is used: hundreds of megabytes would take the host seconds.
template <class T>
Tensor<T> noise(const Shape& shape, Device device, Index which = 0) {
  const Tensor<T> x(shape, device);
  for_each(device, x.size(), Noise<T>{x.data(), std::uint64_t(which) << 40});
  return x;
}

}  // namespace m3i::bench
