#pragma once
/// The steps of a transform chain as plain data: one struct a step, one line a field, one list of all.
///
/// A step has a name, which files use, its fields with bounds, and words for people. What a step does to a volume
/// stands in chain.hpp.

#include <array>
#include <cmath>
#include <concepts>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "m3i/imaging/ct_windows.hpp"
#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/resample.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What a number of a step, or each of its numbers, must be; always finite.
struct StepBounds {
  double low = -HUGE_VAL, high = HUGE_VAL;
  bool low_excluded = false;

  bool holds(double x) const { return std::isfinite(x) && x <= high && (low_excluded ? x > low : x >= low); }
  std::string text() const {
    if (low == -HUGE_VAL) return "finite";
    if (high == HUGE_VAL) return m3i::text(low_excluded ? "> " : ">= ", low);
    return m3i::text("in ", low_excluded ? "(" : "[", low, ", ", high, "]");
  }
};

/// "linear", ... : the names of Sampling in files.
inline constexpr std::array<const char*, 4> sampling_names{"linear", "nearest", "cubic", "label_linear"};

namespace steps {

namespace detail {
inline constexpr StepBounds any{}, positive{0, HUGE_VAL, true}, not_negative{0, HUGE_VAL}, percent{0, 100},
    extent{1, 65536};
inline std::string kernel_words(Sampling sampling, bool antialias) {
  return std::string(sampling == Sampling::linear ? "" : std::string(", ") + sampling_names[std::size_t(sampling)]) +
         (antialias ? ", antialiased" : "");
}
template <class Three>
std::string times(const Three& n) {
  return n[0] == n[1] && n[1] == n[2] ? text(n[0], "^3") : text(n[0], " x ", n[1], " x ", n[2]);
}
}  // namespace detail

/// Axes permuted and flipped to an order, "RAS" or any other; never interpolated.
struct Orient {
  static constexpr const char* name = "orient";
  std::string codes = "RAS";
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("codes", s.codes, detail::any);
  }
  void check() const { check_orientation_codes(codes); }
  std::string words() const { return codes + " order"; }
  friend bool operator==(const Orient&, const Orient&) = default;
};

/// Voxels of the given size in mm.
struct Spacing {
  static constexpr const char* name = "spacing";
  Point3 mm{1, 1, 1};
  Sampling sampling = Sampling::linear;
  bool antialias = false;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("mm", s.mm, detail::positive);
    f("sampling", s.sampling, detail::any);
    f("antialias", s.antialias, detail::any);
  }
  std::string words() const {
    const bool isotropic = mm[0] == mm[1] && mm[1] == mm[2];
    return (isotropic ? text(mm[0], " mm isotropic") : text(mm[0], " x ", mm[1], " x ", mm[2], " mm")) +
           detail::kernel_words(sampling, antialias);
  }
  friend bool operator==(const Spacing&, const Spacing&) = default;
};

/// The given extents over the same box.
struct Resize {
  static constexpr const char* name = "resize";
  Size3 size{128, 128, 128};
  Sampling sampling = Sampling::linear;
  bool antialias = false;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("size", s.size, detail::extent);
    f("sampling", s.sampling, detail::any);
    f("antialias", s.antialias, detail::any);
  }
  std::string words() const { return "scaled to " + detail::times(size) + detail::kernel_words(sampling, antialias); }
  friend bool operator==(const Resize&, const Resize&) = default;
};

/// In the middle of a cube of zeros, which is scaled to size^3: pad_to_cube and resize, without making the cube.
struct FitCube {
  static constexpr const char* name = "fit_cube";
  Index size = 128;
  Sampling sampling = Sampling::linear;
  bool antialias = false;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("size", s.size, detail::extent);
    f("sampling", s.sampling, detail::any);
    f("antialias", s.antialias, detail::any);
  }
  std::string words() const {
    return text("padded to a cube, scaled to ", size, "^3") + detail::kernel_words(sampling, antialias);
  }
  friend bool operator==(const FitCube&, const FitCube&) = default;
};

/// In the middle of a cube of one value; labels are padded with 0.
struct PadToCube {
  static constexpr const char* name = "pad_to_cube";
  double value = 0;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("value", s.value, detail::any);
  }
  std::string words() const { return "padded to a cube"; }
  friend bool operator==(const PadToCube&, const PadToCube&) = default;
};

/// Axes that are shorter are padded, half before (rounded down), the rest after; labels with 0.
struct PadToAtLeast {
  static constexpr const char* name = "pad_to_at_least";
  Size3 size{128, 128, 128};
  double value = 0;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("size", s.size, detail::extent);
    f("value", s.value, detail::any);
  }
  std::string words() const { return "padded to at least " + detail::times(size); }
  friend bool operator==(const PadToAtLeast&, const PadToAtLeast&) = default;
};

/// The box of the voxels above a threshold and a margin around; all of the volume if there is none.
struct CropForeground {
  static constexpr const char* name = "crop_foreground";
  double threshold = 0, margin_mm = 0;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("threshold", s.threshold, detail::any);
    f("margin_mm", s.margin_mm, detail::not_negative);
  }
  std::string words() const { return text("cropped to what is above ", threshold, " and ", margin_mm, " mm around"); }
  friend bool operator==(const CropForeground&, const CropForeground&) = default;
};

/// center - width / 2 to 0, center + width / 2 to 1, the rest clamped.
struct Window {
  static constexpr const char* name = "window";
  double center = 40, width = 400;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("center", s.center, detail::any);
    f("width", s.width, detail::positive);
  }
  std::string words() const {
    return text("intensities from ", center - width / 2, " to ", center + width / 2, " to [0, 1]");
  }
  friend bool operator==(const Window&, const Window&) = default;
};

/// A window of ct_windows.hpp by its name.
struct Ct {
  static constexpr const char* name = "ct";
  std::string preset = "soft_tissue";
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("preset", s.preset, detail::any);
  }
  void check() const { ct_window(preset); }
  std::string words() const {
    const CtWindow w = ct_window(preset);
    return text("intensities from ", w.center_hu - w.width_hu / 2, " to ", w.center_hu + w.width_hu / 2, " HU (",
                preset, ") to [0, 1]");
  }
  friend bool operator==(const Ct&, const Ct&) = default;
};

/// Minimum to 0, maximum to 1.
struct Minmax {
  static constexpr const char* name = "minmax";
  template <class Self, class F>
  static void fields(Self&, F&&) {}
  std::string words() const { return "intensities from minimum to maximum to [0, 1]"; }
  friend bool operator==(const Minmax&, const Minmax&) = default;
};

/// Two percentiles to 0 and 1, the rest clamped.
struct Percentile {
  static constexpr const char* name = "percentile";
  double low = 0.5, high = 99.5;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("low", s.low, detail::percent);
    f("high", s.high, detail::percent);
  }
  void check() const { require<ConfigError>(low < high, "low is ", low, ", expected less than high ", high); }
  std::string words() const { return text("intensities from percentiles ", low, " to ", high, " to [0, 1]"); }
  friend bool operator==(const Percentile&, const Percentile&) = default;
};

/// (v - mean) / standard deviation. nonzero: statistics over the voxels that are not 0, and 0 stays 0 (MONAI's
/// convention for images whose background was set to 0).
struct Zscore {
  static constexpr const char* name = "zscore";
  bool nonzero = false;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("nonzero", s.nonzero, detail::any);
  }
  std::string words() const {
    return std::string("intensities to mean 0 and deviation 1") + (nonzero ? " over the voxels other than 0" : "");
  }
  friend bool operator==(const Zscore&, const Zscore&) = default;
};

/// Values clamped to an interval.
struct Clip {
  static constexpr const char* name = "clip";
  double low = 0, high = 1;
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("low", s.low, detail::any);
    f("high", s.high, detail::any);
  }
  void check() const { require<ConfigError>(low < high, "low is ", low, ", expected less than high ", high); }
  std::string words() const { return text("clipped to [", low, ", ", high, "]"); }
  friend bool operator==(const Clip&, const Clip&) = default;
};

}  // namespace steps

/// Any step. This list is what files can name.
using TransformStep = std::variant<steps::Orient,
                                   steps::Spacing,
                                   steps::Resize,
                                   steps::FitCube,
                                   steps::PadToCube,
                                   steps::PadToAtLeast,
                                   steps::CropForeground,
                                   steps::Window,
                                   steps::Ct,
                                   steps::Minmax,
                                   steps::Percentile,
                                   steps::Zscore,
                                   steps::Clip>;

/// Steps in the order in which they are applied.
struct TransformChain {
  std::vector<TransformStep> steps;

  /// "RAS order, 1 mm isotropic, ...".
  std::string text() const {
    std::string out;
    for (const TransformStep& step : steps)
      out += (out.empty() ? "" : ", ") + std::visit([](const auto& s) { return s.words(); }, step);
    return out.empty() ? "nothing" : out;
  }
  friend bool operator==(const TransformChain&, const TransformChain&) = default;
};

namespace detail {

/// Refuses a field outside its bounds, by name.
struct CheckField {
  std::string where;

  void number(const char* field, double x, const StepBounds& bounds) const {
    require<ConfigError>(bounds.holds(x), where, ": ", field, " is ", x, ", expected ", bounds);
  }
  template <class Field>
  void operator()(const char* field, const Field& value, const StepBounds& bounds) const {
    if constexpr (std::same_as<Field, Point3> || std::same_as<Field, Size3>)
      for (const auto x : value) number(field, double(x), bounds);
    else if constexpr (std::same_as<Field, double> || std::same_as<Field, Index>) number(field, double(value), bounds);
    else if constexpr (std::same_as<Field, Sampling>)
      require<ConfigError>(value == Sampling::linear || value == Sampling::cubic || value == Sampling::nearest, where,
                           ": ", field, " is label_linear, expected linear, nearest or cubic");
  }
};

template <class Step>
void check_step(const Step& step, const std::string& where) {
  Step::fields(step, CheckField{where});
  if constexpr (requires { step.check(); }) {
    try {
      step.check();
    } catch (const ConfigError& error) {
      fail<ConfigError>(where, ": ", error.what());
    }
  }
}

}  // namespace detail

/// Throws ConfigError that names step and field for a value out of its bounds.
inline void check_chain(const TransformChain& chain, const std::string& where = "transform chain") {
  for (std::size_t i = 0; i < chain.steps.size(); ++i)
    std::visit([&](const auto& s) { detail::check_step(s, text(where, ": step ", i + 1, " (", s.name, ")")); },
               chain.steps[i]);
}

}  // namespace M3I_ABI
}  // namespace m3i
