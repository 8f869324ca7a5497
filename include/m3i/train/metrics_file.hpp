#pragma once
/// Results as a JSON file whose keys stand in the order in which they were set: the summary first, then the details.

#include <string>

#include "m3i/core/atomic_file.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Writes atomically; NaN becomes null. Throws FileError.
inline void write_metrics(const std::string& path, const OrderedJson& metrics) {
  write_file(path, metrics.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

}  // namespace M3I_ABI
}  // namespace m3i
