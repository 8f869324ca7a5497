#pragma once
// Wall time of work on a device.

#include <algorithm>
#include <chrono>
#include <limits>

#include "m3i/core/cuda.hpp"

namespace m3i::bench {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds of the best of some runs, each until the device is idle.
template <class F>
double fastest(Device device, const F& work) {
  work();  // memory, algorithms
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 7; ++run) {
    synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    work();
    synchronize(device);
    best = std::min(best, seconds_since(start));
  }
  return best;
}

}  // namespace m3i::bench
