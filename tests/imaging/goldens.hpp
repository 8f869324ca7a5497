#pragma once
/// Where the reference data lie, and comparisons that name the worst element.

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include <nlohmann/json.hpp>

#include "catch.hpp"
#include "m3i/imaging/volume.hpp"
#include "m3i/io/safetensors.hpp"

namespace golden {

using Json = nlohmann::json;

/// $M3I_GOLDENS/imaging, or the folder beside the sources; "" if there is none, with a warning that names it.
inline std::string imaging_folder() {
  std::string root;
  if (const char* given = std::getenv("M3I_GOLDENS"); given && *given) root = given;
#ifdef M3I_GOLDENS_DEFAULT
  if (root.empty()) root = M3I_GOLDENS_DEFAULT;
#endif
  const std::string folder = root + "/imaging";
  if (!root.empty() && std::filesystem::is_directory(folder)) return folder;
  WARN("skipped: no reference data at \"" << folder << "\"; set M3I_GOLDENS to the folder that holds them");
  return {};
}
/// Real volumes lie in the folder `data` beside the root.
inline std::string data_folder(const std::string& imaging) { return imaging + "/../../data"; }

inline Json read_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) FAIL("cannot open " << path);
  return Json::parse(file);
}
/// JSON has no NaN or infinity: strings stand for them.
inline double number(const Json& j) {
  if (!j.is_string()) return j.get<double>();
  const std::string s = j.get<std::string>();
  if (s == "nan") return std::numeric_limits<double>::quiet_NaN();
  return s == "inf" ? HUGE_VAL : -HUGE_VAL;
}
inline m3i::Affine affine(const Json& rows) {
  m3i::Affine a;
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) a(r, c) = rows.at(std::size_t(r)).at(std::size_t(c)).get<double>();
  return a;
}
inline m3i::Affine affine(const m3i::Tensor<double>& t) {
  m3i::Affine a;
  std::copy_n(t.data(), 16, a.m.begin());
  return a;
}
inline m3i::Shape shape(const Json& extents) {
  m3i::Shape s;
  for (const auto& e : extents) s.push_back(e.get<m3i::Index>());
  return s;
}

/// Largest |a - b| over max(1, |b|); equal infinities and NaN in the same places count as equal.
template <class T, class U>
double worst(const T* a, const U* b, m3i::Index n, double scale_floor = 1) {
  double most = 0;
  for (m3i::Index i = 0; i < n; ++i) {
    const double x = double(a[i]), y = double(b[i]);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double error = std::abs(x - y) / std::max(scale_floor, std::abs(y));
    most = std::max(most, std::isnan(error) ? HUGE_VAL : error);
  }
  return most;
}
inline double worst(const m3i::Affine& a, const m3i::Affine& b) { return worst(a.m.data(), b.m.data(), 16); }

}  // namespace golden
