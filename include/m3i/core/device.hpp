#pragma once
/// Where a tensor lives: a run-time value.

#include <string>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// cpu, emulated (the GPU's order of blocks, threads and barriers, walked in host memory), or cuda:i.
struct Device {
  enum class Kind { cpu, emulated, cuda };
  Kind kind = Kind::cpu;
  int number = 0;

  static Device cpu() { return {}; }
  static Device emulated() { return {Kind::emulated, 0}; }
  static Device cuda(int number = 0) { return {Kind::cuda, number}; }

  bool on_host() const { return kind != Kind::cuda; }
  friend bool operator==(const Device&, const Device&) = default;

  std::string text() const {
    switch (kind) {
      case Kind::cpu: return "cpu";
      case Kind::emulated: return "emulated";
      case Kind::cuda: break;
    }
    return m3i::text("cuda:", number);
  }
  /// Reads "cpu", "emulated", "cuda" or "cuda:1".
  static Device parse(const std::string& name) {
    if (name == "cpu") return cpu();
    if (name == "emulated") return emulated();
    if (name == "cuda") return cuda();
    if (name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() < 8 &&
        name.find_first_not_of("0123456789", 5) == std::string::npos)
      return cuda(std::stoi(name.substr(5)));
    fail<ConfigError>("device: \"", name, "\" is not one of cpu, emulated, cuda, cuda:N");
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
