#pragma once
/// Handles of NVIDIA's libraries. Empty unless M3I_CUDA.

#include "m3i/core/cuda.hpp"

#if M3I_CUDA
#include <map>

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// The calling thread's handle of a library for a device, which must be current: made at first use, kept until the
/// thread ends. `check` is called with the library's status and what was tried.
template <class Handle, auto create, auto destroy, auto check>
Handle library_handle(Device device) {
  struct Owner {
    Handle handle = nullptr;
    Owner() { check(create(&handle), "making a handle"); }
    ~Owner() { destroy(handle); }
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;
  };
  static thread_local std::map<int, Owner> owners;
  return owners[device.number].handle;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
#endif
