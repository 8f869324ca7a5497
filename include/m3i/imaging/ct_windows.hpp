#pragma once
/// Named windows for CT, in Hounsfield units.
///
/// Values: "Windowing (CT)", Radiopaedia.org, where a range is given its usual value. They are habits of
/// reading rooms, not a standard; the steps `window` and `clip` take any other numbers.

#include <array>
#include <string>

#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct CtWindow {
  const char* name;
  double center_hu, width_hu;
};

inline constexpr std::array<CtWindow, 9> ct_windows{{
    {"soft_tissue", 50, 400},      // abdomen
    {"lung", -600, 1500},          // chest
    {"mediastinum", 50, 350},      // chest
    {"liver", 30, 150},            // abdomen
    {"brain", 40, 80},             // head
    {"stroke", 40, 40},            // head, early ischaemia
    {"bone", 400, 1800},           // spine
    {"temporal_bone", 600, 2800},  // head
    {"spine", 50, 250},            // soft tissue around the spine
}};

/// The window of that name. Throws ConfigError that lists the names.
inline CtWindow ct_window(const std::string& name) {
  std::string names;
  for (const CtWindow& w : ct_windows) {
    if (name == w.name) return w;
    names += (names.empty() ? "" : ", ") + std::string(w.name);
  }
  fail<ConfigError>("ct window: \"", name, "\" is not one of ", names);
}

}  // namespace M3I_ABI
}  // namespace m3i
