#pragma once
/// The golden cases of partial transport: every manifest of a folder, told apart by what its cases contain.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "m3i/io/safetensors.hpp"
#include "m3i/kernels/math.hpp"

namespace golden {

using nlohmann::json;

struct Manifest {
  std::string name;
  json content;
  std::string tensors_path;  ///< empty if there is no safetensors file of that name
};

inline std::string folder() {
  if (const char* root = std::getenv("M3I_GOLDENS"); root && *root) return std::string(root) + "/ot";
#ifdef M3I_GOLDENS_DEFAULT
  return std::string(M3I_GOLDENS_DEFAULT) + "/ot";
#else
  return "";
#endif
}

inline std::vector<Manifest> manifests() {
  std::vector<Manifest> out;
  const std::filesystem::path root = folder();
  if (root.empty() || !std::filesystem::is_directory(root)) return out;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(root))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (auto& path : files) {
    Manifest m;
    m.name = path.stem().string();
    m.content = json::parse(std::ifstream(path));
    path.replace_extension(".safetensors");
    if (std::filesystem::exists(path)) m.tensors_path = path.string();
    out.push_back(std::move(m));
  }
  return out;
}

/// Of the first case: which kind of manifest this is.
inline bool has_cases_with(const Manifest& m, const char* field) {
  const auto cases = m.content.find("cases");
  return cases != m.content.end() && !cases->empty() && (*cases)[0].contains(field);
}

/// A case's own tensor, or the one that all cases of the file share.
inline m3i::Tensor<double> tensor(const m3i::SafeTensors& file, const json& c, const std::string& name) {
  const std::string own = c.at("key").get<std::string>() + "/" + name;
  return file.tensor<double>(file.contains(own) ? own : name);
}

/// "nan", "inf" and "-inf" are written as strings.
inline double number(const json& x) {
  if (!x.is_string()) return x.get<double>();
  return std::strtod(x.get<std::string>().c_str(), nullptr);
}

inline m3i::Tensor<double> vector(const json& x) {
  std::vector<double> values;
  for (const auto& v : x) values.push_back(number(v));
  return m3i::Tensor<double>::from(values, {m3i::Index(values.size())});
}
inline m3i::Tensor<double> matrix(const json& x) {
  if (x.empty()) return m3i::Tensor<double>(m3i::Shape{0, 0});
  std::vector<double> values;
  for (const auto& row : x)
    for (const auto& v : row) values.push_back(number(v));
  return m3i::Tensor<double>::from(values, {m3i::Index(x.size()), m3i::Index(x[0].size())});
}

/// The largest |a - b| over elements where keep(i) holds; infinities of the same sign agree.
template <class Keep>
double distance(const m3i::Tensor<double>& a, const m3i::Tensor<double>& b, const Keep& keep) {
  if (!(a.shape() == b.shape())) return INFINITY;
  double worst = 0;
  for (m3i::Index i = 0; i < a.size(); ++i) {
    if (!keep(i) || a.data()[i] == b.data()[i]) continue;
    const double d = std::abs(a.data()[i] - b.data()[i]);
    worst = d <= worst ? worst : d;  // NaN counts
  }
  return worst;
}
inline double distance(const m3i::Tensor<double>& a, const m3i::Tensor<double>& b) {
  return distance(a, b, [](m3i::Index) { return true; });
}
inline double largest(const m3i::Tensor<double>& a) {
  double worst = 0;
  for (m3i::Index i = 0; i < a.size(); ++i)
    if (m3i::math::is_finite(a.data()[i])) worst = std::max(worst, std::abs(a.data()[i]));
  return worst;
}

}  // namespace golden
