#pragma once
/// Intensities: statistics, scaling to [0, 1], windows, z-scores, and the check for volumes that carry no information.
///
/// Statistics are over the finite voxels. NaN and infinity stay what they are; check_intensities refuses them at the
/// door. A constant volume becomes 0.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct IntensityStats {
  Index count = 0, finite = 0;
  double min = 0, max = 0, mean = 0, deviation = 0;  ///< of the finite voxels; the population's deviation
};

namespace detail {

inline constexpr Index intensity_chunk = Index(1) << 14;  // stays in the cache for a few passes

/// All statistics but the deviation, in chunks that any number of threads adds up the same way.
template <class T>
IntensityStats range_and_mean(const Tensor<T>& voxels) {
  struct Part {
    double low, high, sum;
    Index finite;
  };
  const Index n = voxels.size();
  const T* all = voxels.span().data();
  std::vector<Part> parts(std::size_t((n + intensity_chunk - 1) / intensity_chunk));
  parallel_chunks(n, intensity_chunk, [&](Index begin, Index end) {
    const T* v = all + begin;
    const Index count = end - begin;
    double low = HUGE_VAL, high = -HUGE_VAL, sum = 0;
    Index finite = 0;
    M3I_SIMD_REDUCE(+, finite)
    for (Index i = 0; i < count; ++i) finite += std::isfinite(v[i]) ? 1 : 0;
    M3I_SIMD_REDUCE(min, low)
    for (Index i = 0; i < count; ++i) low = std::min(low, std::isfinite(v[i]) ? double(v[i]) : HUGE_VAL);
    M3I_SIMD_REDUCE(max, high)
    for (Index i = 0; i < count; ++i) high = std::max(high, std::isfinite(v[i]) ? double(v[i]) : -HUGE_VAL);
    M3I_SIMD_REDUCE(+, sum)
    for (Index i = 0; i < count; ++i) sum += std::isfinite(v[i]) ? double(v[i]) : 0.0;
    parts[std::size_t(begin / intensity_chunk)] = {low, high, sum, finite};
  });
  IntensityStats s;
  s.count = n;
  double low = HUGE_VAL, high = -HUGE_VAL, sum = 0;
  for (const Part& part : parts) {
    low = std::min(low, part.low);
    high = std::max(high, part.high);
    sum += part.sum;
    s.finite += part.finite;
  }
  if (s.finite > 0) s.min = low, s.max = high, s.mean = sum / double(s.finite);
  return s;
}

}  // namespace detail

template <class T>
IntensityStats intensity_stats(const Tensor<T>& voxels) {
  IntensityStats s = detail::range_and_mean(voxels);
  if (s.finite == 0) return s;
  const T* all = voxels.span().data();
  const double mean = s.mean;
  std::vector<double> parts(std::size_t((s.count + detail::intensity_chunk - 1) / detail::intensity_chunk));
  parallel_chunks(s.count, detail::intensity_chunk, [&](Index begin, Index end) {
    double squares = 0;
    M3I_SIMD_REDUCE(+, squares)
    for (Index i = begin; i < end; ++i) {
      const double d = std::isfinite(all[i]) ? double(all[i]) - mean : 0.0;
      squares += d * d;
    }
    parts[std::size_t(begin / detail::intensity_chunk)] = squares;
  });
  double squares = 0;
  for (const double part : parts) squares += part;
  s.deviation = std::sqrt(squares / double(s.finite));
  return s;
}

/// Throws FileError, naming the file and the first voxel, for a volume [I, J, K] with NaN or infinity or with one
/// value.
template <class T>
void check_intensities(const Tensor<T>& voxels, const std::string& path) {
  detail::require_volume("check_intensities", voxels);
  const T* v = voxels.data();
  const Index plane = voxels.shape()[1] * voxels.shape()[2], row = voxels.shape()[2];
  bool constant = true;
  for (Index i = 0; i < voxels.size(); ++i) {
    if (!std::isfinite(v[i]))
      fail<FileError>(path, ": voxel (", i / plane, ", ", i % plane / row, ", ", i % row, ") is ", v[i],
                      ", expected finite intensities; repair or leave out this volume");
    constant = constant && v[i] == v[0];
  }
  require<FileError>(!constant, path, ": all ", voxels.size(), " voxels are ", v[0],
                     ", expected an image; leave out this volume");
}
template <class T>
void check_intensities(const Volume<T>& volume, const std::string& path) {
  check_intensities(volume.voxels, path);
}

/// (v - low) / (high - low), or 0 where that interval is empty; clamped to [0, 1] if asked. NaN stays NaN.
template <class T>
Tensor<T> rescale(const Tensor<T>& voxels, double low, double high, bool clamp) {
  if (!(high > low)) return Tensor<T>::zeros(voxels.shape());
  Tensor<T> out(voxels.shape());
  const T* from = voxels.span().data();
  T* to = out.data();
  parallel_chunks(voxels.size(), detail::intensity_chunk, [=](Index begin, Index end) {
    M3I_SIMD for (Index i = begin; i < end; ++i) to[i] = T((double(from[i]) - low) / (high - low));
    if (!clamp) return;
    M3I_SIMD for (Index i = begin; i < end; ++i) to[i] = to[i] < 0 ? T(0) : to[i] > 1 ? T(1) : to[i];
  });
  return out;
}

/// (v - min) / (max - min): all of the range, to [0, 1].
template <class T>
Tensor<T> minmax(const Tensor<T>& voxels) {
  const IntensityStats s = detail::range_and_mean(voxels);
  return rescale(voxels, s.min, s.max, false);
}

/// Percentiles of the finite voxels, linear between order statistics: position percent / 100 * (n - 1).
template <class T>
std::vector<double> percentiles(const Tensor<T>& voxels, const std::vector<double>& percents) {
  std::vector<T> values;
  values.reserve(std::size_t(voxels.size()));
  for (const T v : voxels.span())
    if (std::isfinite(v)) values.push_back(v);
  std::vector<double> out;
  for (const double percent : percents) {
    require<ConfigError>(percent >= 0 && percent <= 100, "percentile: ", percent, ", expected 0 to 100");
    if (values.empty()) {
      out.push_back(0);
      continue;
    }
    const double position = percent / 100 * double(values.size() - 1), whole = std::floor(position);
    const auto at = values.begin() + std::ptrdiff_t(whole);
    std::nth_element(values.begin(), at, values.end());
    const double low = double(*at);
    const double high = at + 1 == values.end() ? low : double(*std::min_element(at + 1, values.end()));
    out.push_back(low + (position - whole) * (high - low));
  }
  return out;
}

/// The two percentiles to 0 and 1, what lies outside clamped: a few extreme voxels no longer set the contrast.
template <class T>
Tensor<T> percentile_clip(const Tensor<T>& voxels, double low_percent = 0.5, double high_percent = 99.5) {
  require<ConfigError>(low_percent < high_percent, "percentile_clip: from ", low_percent, " to ", high_percent,
                       " percent, expected the lower one first");
  const std::vector<double> range = percentiles(voxels, {low_percent, high_percent});
  return rescale(voxels, range[0], range[1], true);
}

/// A CT window: center - width / 2 becomes 0, center + width / 2 becomes 1, in the volume's units (HU).
template <class T>
Tensor<T> window(const Tensor<T>& voxels, double center, double width) {
  require<ConfigError>(std::isfinite(center) && std::isfinite(width) && width > 0, "window: center ", center,
                       ", width ", width, ", expected a positive width");
  return rescale(voxels, center - width / 2, center + width / 2, true);
}

/// Values clamped to [low, high]; NaN stays NaN.
template <class T>
Tensor<T> clip_intensities(const Tensor<T>& voxels, double low, double high) {
  require<ConfigError>(low < high, "clip_intensities: from ", low, " to ", high, ", expected the lower one first");
  Tensor<T> out(voxels.shape());
  const T* from = voxels.span().data();
  T* to = out.data();
  const T least = T(low), most = T(high);
  parallel_chunks(voxels.size(), detail::intensity_chunk, [=](Index begin, Index end) {
    M3I_SIMD for (Index i = begin; i < end; ++i) to[i] = from[i] < least ? least : from[i] > most ? most : from[i];
  });
  return out;
}

/// (v - mean) / standard deviation.
template <class T>
Tensor<T> zscore(const Tensor<T>& voxels) {
  const IntensityStats s = intensity_stats(voxels);
  return rescale(voxels, s.mean, s.mean + s.deviation, false);
}

/// The same with the statistics of the voxels that are not 0; those that are stay 0. For images whose background was
/// set to 0, such as brains without their skull.
template <class T>
Tensor<T> zscore_nonzero(const Tensor<T>& voxels) {
  std::vector<T> values;
  for (const T v : voxels.span())
    if (v != 0) values.push_back(v);
  Tensor<T> out = Tensor<T>::zeros(voxels.shape());
  if (values.empty()) return out;
  const IntensityStats s = intensity_stats(Tensor<T>::from(values, {Index(values.size())}));
  if (!(s.deviation > 0)) return out;
  const T* from = voxels.span().data();
  T* to = out.data();
  for (Index i = 0; i < voxels.size(); ++i)
    if (from[i] != 0) to[i] = T((double(from[i]) - s.mean) / s.deviation);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
