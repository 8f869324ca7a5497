#pragma once
/// Before a process uses cuDNN for something on a device, it compares a case of it with kernels of its own there. Empty
/// unless M3I_CUDA and M3I_CUDNN.

#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/graph_cudnn.hpp"

#if M3I_CUDA && M3I_CUDNN
#include <cmath>
#include <limits>
#include <mutex>
#include <string>

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// A wave between -1 and 1.
template <class T>
struct CheckWave {
  T* x;
  Index shift;
  M3I_HD void operator()(Index i) const { x[i] = T(accumulate_t<T>(((i + shift) * 37 % 101) - 50) / 50); }
};
template <class T>
Tensor<T> check_wave(Index n, Device device, Index shift = 0) {
  Tensor<T> x({n}, device);
  for_each(device, n, CheckWave<T>{x.data(), shift});
  return x;
}
/// Whether the largest difference is at most `allowed` of the largest value.
template <class T>
bool check_agrees(const Tensor<T>& a, const Tensor<T>& b, double allowed) {
  double worst = 0, largest = 0;
  const auto one = a.to_vector(), two = b.to_vector();
  for (std::size_t i = 0; i < one.size(); ++i) {
    const double p = double(accumulate_t<T>(one[i])), q = double(accumulate_t<T>(two[i]));
    worst = std::max(worst, p - q == p - q ? std::abs(p - q) : std::numeric_limits<double>::infinity());
    largest = std::max(largest, std::abs(q));
  }
  return worst <= allowed * largest;
}

/// Why cuDNN is not used on a device for what `self_check` checks; empty when it is. Found out once a process.
template <auto self_check>
const std::string& cudnn_objection(Device device) {
  static std::mutex mutex;
  static std::map<int, std::string> found;
  const std::scoped_lock lock(mutex);
  const auto known = found.find(device.number);
  if (known != found.end()) return known->second;
  std::string objection;
  try {
    DeviceGuard guard(device);
    objection = self_check(device);
  } catch (const DeviceError& error) {
    objection = error.what();
  }
  return found[device.number] = objection;
}
template <auto self_check>
bool cudnn_usable(Device device) {
  return device.kind == Device::Kind::cuda && cudnn_objection<self_check>(device).empty();
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
#endif
