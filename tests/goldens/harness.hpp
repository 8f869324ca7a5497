#pragma once
/// Golden cases are discovered: every safetensors file below $M3I_GOLDENS, and below the small set that travels with
/// the sources (M3I_TEST_DATA/goldens), is looked at, and what its metadata names is built and compared. A kind that
/// nothing here builds is listed as skipped, never passed in silence.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "m3i/io/safetensors.hpp"
#include "m3i/kernels/reduce.hpp"
#include "m3i/testing.hpp"

/// At the start of a test: without reference files it says so and ends.
#define M3I_NEEDS_GOLDENS()                                  \
  if (!goldens::present()) {                                 \
    WARN("skipped: no golden files at " << goldens::root()); \
    return;                                                  \
  }

namespace goldens {

using namespace m3i;
using Json = nlohmann::json;
namespace fs = std::filesystem;

inline std::string root() {
  const char* given = std::getenv("M3I_GOLDENS");
  return given && *given ? given : M3I_GOLDENS_DEFAULT;
}
inline bool present() { return fs::is_directory(root()); }

/// What a comparison found. `worst` is relative to the largest absolute value of the expected array.
struct Comparison {
  std::string name;
  double worst = 0, tolerance = 0;
  bool ok() const { return worst <= tolerance; }
  std::string text() const { return m3i::text(name, ": relative difference ", worst, ", tolerance ", tolerance); }
};

/// Changes one digit of an expected value: the harness must then fail. Off by default.
struct Sabotage {
  bool on = false;
  template <class T>
  void apply(const Tensor<T>& expected) const {
    if (on && expected.size() > 0) {
      double largest = 0;
      for (const T v : expected.span()) largest = std::max(largest, std::abs(double(v)));
      expected.span()[std::size_t(expected.size() / 2)] += T(largest > 1e-12 ? 1e-3 * largest : 1.0);
    }
  }
};

/// Compares results with the arrays of one file, collecting every comparison.
template <class T>
class Comparer {
 public:
  Comparer(const SafeTensors& file, std::string name, Sabotage sabotage)
      : file_(file), name_(std::move(name)), sabotage_(sabotage) {}

  void check(const std::string& key, const Tensor<T>& actual) {
    Tensor<double> expected = file_.tensor<double>(key).clone();
    sabotage_.apply(expected);
    const Tensor<double> got = cast<double>(actual);
    if (expected.shape() != got.shape()) {
      results.push_back({text(name_, " ", key, ": shape ", got.shape(), " against ", expected.shape()), INFINITY, 0});
      return;
    }
    results.push_back({text(name_, " ", key, sizeof(T) == 4 ? " (float)" : " (double)"),
                       testing::relative_difference(got, expected) * scale_of(key, expected), tolerance(key)});
  }
  double tolerance(const std::string& key) const {
    if (sizeof(T) == 4) return cancels(key) ? 2e-2 : 2e-4;
    return file_.entry(key).dtype == "F32" ? 1e-7 : 1e-9;
  }
  std::vector<Comparison> results;

 private:
  /// A 1 x 1 x 1 convolution of one channel before an instance normalisation: its scale is divided out again, so that
  /// its gradient is the difference of two nearly equal sums, and float keeps few of its digits (PyTorch's float
  /// gradient is 1.8e-2 off, ours 9e-4). Double is held to the common tolerance.
  static bool cancels(const std::string& key) { return key == "grad.encoder1.layer.conv3.conv.weight"; }

  /// A gradient that is zero in exact arithmetic (the bias of keys: softmax does not see it) holds nothing but
  /// rounding; it is measured against the largest gradient of the file instead of against itself.
  double scale_of(const std::string& key, const Tensor<double>& expected) {
    if (key.find("grad") == key.npos) return 1;
    if (largest_gradient_ < 0)
      for (const auto& name : file_.names())
        if (name.find("grad") != name.npos)
          largest_gradient_ = std::max(largest_gradient_, largest(file_.tensor<double>(name)));
    const double own = largest(expected);
    return own < 1e-10 * largest_gradient_ ? std::max(own, 1e-12) / largest_gradient_ : 1;
  }
  static double largest(const Tensor<double>& t) {
    double top = 0;
    for (const double v : t.span()) top = std::max(top, std::abs(v));
    return top;
  }

  double largest_gradient_ = -1;
  const SafeTensors& file_;
  std::string name_;
  Sabotage sabotage_;
};

/// All safetensors files of both sets, in order.
inline std::vector<std::string> files() {
  std::vector<std::string> found;
  for (const std::string& folder : {root(), std::string(M3I_TEST_DATA "/goldens")})
    if (fs::is_directory(folder))
      for (const auto& entry : fs::recursive_directory_iterator(folder))
        if (entry.path().extension() == ".safetensors") found.push_back(entry.path().string());
  std::sort(found.begin(), found.end());
  return found;
}

/// A tensor of a reference file, made a leaf that needs a gradient.
template <class T>
Var<T> leaf(const SafeTensors& file, const std::string& key) {
  return Var<T>(file.tensor<T>(key), true);
}

}  // namespace goldens
