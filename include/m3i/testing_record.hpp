#pragma once
/// What tests compared, for the table of supported operations: scripts/support_matrix.py reads it.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/cuda.hpp"
#include "m3i/core/operation.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace testing {

/// Empty if there is a GPU that this build can use.
inline std::string why_no_gpu() {
  if (cuda_device_count() > 0) return {};
  return M3I_CUDA ? "no NVIDIA GPU that this machine's driver offers" : "built without M3I_CUDA";
}

/// Collects the errors of one test and, when it goes, writes the worst of each device and type to the file that the
/// environment variable M3I_TEST_RECORD names, a line of JSON each. The file begins anew with each program; without the
/// variable nothing is written.
class Record {
 public:
  /// For the operations that start on this thread while the record lives, outside of others, with their gradients.
  Record() : compared_("value and gradients") {
    if (file()) Operation::witness() = &witnessed_;
  }
  /// For one operation, which has a value and no gradient of its own.
  explicit Record(const char* operation) : compared_("value"), witnessed_{operation} {}
  ~Record() {
    if (compared_ == std::string("value and gradients")) Operation::witness() = nullptr;
    if (std::ofstream* const out = file()) write(*out);
  }
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;

  /// Notes a relative error and returns it. `type` as dtype_name() says.
  double add(Device device, const char* type, double error) {
    double& worst = worst_[{device.kind == Device::Kind::cpu ? "host" : device.on_host() ? "emulated" : "cuda", type}];
    return worst = std::max(worst, error);
  }

 private:
  static std::ofstream* file() {
    static const char* const path = std::getenv("M3I_TEST_RECORD");
    if (!path || !*path) return nullptr;
    static std::ofstream out(path);
    require<FileError>(bool(out), path, ": cannot be written; it is what M3I_TEST_RECORD names");
    return &out;
  }
  void write(std::ofstream& out) {
    const std::string no_gpu = why_no_gpu();
    std::sort(witnessed_.begin(), witnessed_.end(), [](auto* a, auto* b) { return std::string(a) < b; });
    for (std::size_t i = 0; i < witnessed_.size(); ++i) {
      if (i > 0 && std::string(witnessed_[i]) == witnessed_[i - 1]) continue;
      const auto line = [&](const std::string& device, const std::string& type, const std::string& result) {
        out << "{\"operation\": \"" << witnessed_[i] << "\", \"compared\": \"" << compared_ << "\", \"device\": \""
            << device << "\", \"dtype\": \"" << type << "\", " << result << "}\n";
      };
      for (const auto& [where, error] : worst_) {
        line(where.first, where.second, "\"error\": " + (std::isfinite(error) ? text(error) : "Infinity"));
        if (where.first == "emulated" && !no_gpu.empty()) line("cuda", where.second, "\"skipped\": \"" + no_gpu + "\"");
      }
    }
    out.flush();
  }

  const char* compared_;
  std::vector<const char*> witnessed_;
  std::map<std::pair<std::string, std::string>, double> worst_;  // by device and type
};

}  // namespace testing
}  // namespace M3I_ABI
}  // namespace m3i
