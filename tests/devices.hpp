#pragma once
// The devices that tests compare with the host.

#include <vector>

#include "m3i/core/cuda.hpp"

/// Emulated, and the first GPU when there is one.
inline std::vector<m3i::Device> other_devices() {
  std::vector<m3i::Device> devices{m3i::Device::emulated()};
  if (m3i::cuda_device_count() > 0) devices.push_back(m3i::Device::cuda());
  return devices;
}
