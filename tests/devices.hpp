#pragma once
// The devices that tests compare with the host.

#include "catch.hpp"

#include <vector>

#include "m3i/core/cuda.hpp"

/// Emulated, and the first GPU when there is one.
inline std::vector<m3i::Device> other_devices() {
  std::vector<m3i::Device> devices{m3i::Device::emulated()};
  if (m3i::cuda_device_count() > 0) devices.push_back(m3i::Device::cuda());
  return devices;
}

/// Whether a GPU is there; the report says why a test was skipped where none is.
inline bool has_gpu() {
  if (m3i::cuda_device_count() > 0) return true;
  WARN("skipped: " << (M3I_CUDA ? "no NVIDIA GPU that this machine's driver offers" : "built without M3I_CUDA"));
  return false;
}
