#pragma once
/// What a figure is when the prediction, the reference, or both are empty.

#include <array>
#include <limits>
#include <string>

#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The value of a figure that empty masks leave undefined.
enum class EmptySurface {
  nan,       ///< NaN; means skip it
  zero,      ///< 0, whatever the figure
  perfect,   ///< a distance of 0, an overlap of 1
  diagonal,  ///< a distance of the image diagonal, an overlap of 0
  infinite,  ///< an infinite distance, an overlap of 0
  error,     ///< ShapeError
};
inline constexpr std::array<const char*, 6> empty_names{"skip", "zero", "perfect", "diagonal", "infinite", "error"};
inline const char* name(EmptySurface value) { return empty_names[std::size_t(value)]; }

/// One value for each way of being empty. There is no right one: skipping hides missed structures, 0 rewards them,
/// the diagonal punishes by the size of the image. So reports name the policy and count the empty masks.
struct EmptyPolicy {
  EmptySurface both = EmptySurface::nan, prediction = EmptySurface::nan, reference = EmptySurface::nan;

  EmptyPolicy() = default;
  EmptyPolicy(EmptySurface all) : both(all), prediction(all), reference(all) {}
  EmptyPolicy(EmptySurface both_, EmptySurface prediction_, EmptySurface reference_)
      : both(both_), prediction(prediction_), reference(reference_) {}

  /// For masks of which at least one is empty.
  EmptySurface operator()(bool prediction_empty, bool reference_empty) const {
    return prediction_empty && reference_empty ? both : prediction_empty ? prediction : reference;
  }
  std::string text() const {
    if (both == prediction && both == reference) return name(both);
    return m3i::text(name(both), ',', name(prediction), ',', name(reference));
  }
};

/// Reads "skip", or three such words for both empty, prediction empty, reference empty: "perfect,diagonal,diagonal".
inline EmptyPolicy parse_empty(const std::string& words) {
  std::array<EmptySurface, 3> values{};
  std::size_t count = 0;
  for (std::size_t begin = 0; begin <= words.size() && count < 4; ++count) {
    const std::size_t end = std::min(words.find(',', begin), words.size());
    const std::string word = words.substr(begin, end - begin);
    std::size_t at = 0;
    while (at < empty_names.size() && word != empty_names[at]) ++at;
    require<ConfigError>(at < empty_names.size(), "empty masks: \"", word,
                         "\" is none of skip, zero, perfect, diagonal, infinite, error");
    if (count < 3) values[count] = EmptySurface(at);
    begin = end + 1;
  }
  require<ConfigError>(count == 1 || count == 3, "empty masks: \"", words, "\" has ", count,
                       " values, expected one, or three for: both empty, prediction empty, reference empty");
  return count == 1 ? EmptyPolicy(values[0]) : EmptyPolicy(values[0], values[1], values[2]);
}

namespace detail {

[[noreturn]] inline void fail_empty(const char* metric, bool prediction_empty, bool reference_empty) {
  const char* which = !prediction_empty ? "the reference is" : reference_empty ? "both masks are" : "the prediction is";
  fail(metric, ": ", which, " empty, so it is undefined; choose another policy for empty masks to go on");
}
inline double empty_distance(
    const char* metric, const EmptyPolicy& policy, bool prediction_empty, bool reference_empty, double diagonal) {
  switch (policy(prediction_empty, reference_empty)) {
    case EmptySurface::nan: return std::numeric_limits<double>::quiet_NaN();
    case EmptySurface::zero:
    case EmptySurface::perfect: return 0;
    case EmptySurface::diagonal: return diagonal;
    case EmptySurface::infinite: return std::numeric_limits<double>::infinity();
    case EmptySurface::error: break;
  }
  fail_empty(metric, prediction_empty, reference_empty);
}
inline double empty_overlap(const char* metric,
                            const EmptyPolicy& policy,
                            bool prediction_empty,
                            bool reference_empty) {
  switch (policy(prediction_empty, reference_empty)) {
    case EmptySurface::nan: return std::numeric_limits<double>::quiet_NaN();
    case EmptySurface::perfect: return 1;
    case EmptySurface::zero:
    case EmptySurface::diagonal:
    case EmptySurface::infinite: return 0;
    case EmptySurface::error: break;
  }
  fail_empty(metric, prediction_empty, reference_empty);
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
