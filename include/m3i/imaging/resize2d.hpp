#pragma once
/// Pictures to a tower's input size: bicubic, antialiased when shrinking (the filter grows with the step).

#include <algorithm>
#include <cmath>
#include <vector>

#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Keys 1981 with a = -1/2, the kernel of the usual image libraries.
inline double cubic_kernel(double x) {
  const double a = -0.5, t = std::abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return 0;
}

/// The input positions and weights of one output position.
struct PictureTaps {
  Index first = 0;
  std::vector<double> weight;
};
inline std::vector<PictureTaps> cubic_taps(Index in, Index out) {
  const double step = double(in) / double(out), stretch = std::max(step, 1.0), support = 2 * stretch;
  std::vector<PictureTaps> taps(static_cast<std::size_t>(out));
  for (Index o = 0; o < out; ++o) {
    const double centre = (double(o) + 0.5) * step;
    PictureTaps& t = taps[std::size_t(o)];
    t.first = std::max<Index>(0, Index(centre - support + 0.5));
    const Index last = std::min(in, Index(centre + support + 0.5));
    double total = 0;
    for (Index i = t.first; i < last; ++i) {
      t.weight.push_back(cubic_kernel((double(i) + 0.5 - centre) / stretch));
      total += t.weight.back();
    }
    for (double& w : t.weight) w /= total;
  }
  return taps;
}

}  // namespace detail

/// picture [H, W] -> [rows, columns]. Values may overshoot the input's range a little, as bicubic filters do.
template <class T>
Tensor<T> resize_cubic(const Tensor<T>& picture, Index rows, Index columns) {
  require(picture.rank() == 2 && picture.size() > 0 && rows > 0 && columns > 0, "resize_cubic: ", picture.shape(),
          " to ", rows, " x ", columns);
  const Index h = picture.shape()[0], w = picture.shape()[1];
  const auto across = detail::cubic_taps(w, columns), down = detail::cubic_taps(h, rows);
  Tensor<double> wide({h, columns});
  Tensor<T> out({rows, columns});
  for (Index r = 0; r < h; ++r)
    for (Index c = 0; c < columns; ++c) {
      const auto& t = across[std::size_t(c)];
      double sum = 0;
      for (std::size_t k = 0; k < t.weight.size(); ++k)
        sum += t.weight[k] * double(picture.data()[r * w + t.first + Index(k)]);
      wide.data()[r * columns + c] = sum;
    }
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      const auto& t = down[std::size_t(r)];
      double sum = 0;
      for (std::size_t k = 0; k < t.weight.size(); ++k)
        sum += t.weight[k] * wide.data()[(t.first + Index(k)) * columns + c];
      out.data()[r * columns + c] = T(sum);
    }
  return out;
}

/// A picture in the middle of the smallest square that holds it, 0 around.
template <class T>
Tensor<T> pad_to_square(const Tensor<T>& picture) {
  require(picture.rank() == 2, "pad_to_square: needs [H, W], got ", picture.shape());
  const Index h = picture.shape()[0], w = picture.shape()[1], side = std::max(h, w);
  const Tensor<T> out = Tensor<T>::zeros({side, side});
  for (Index r = 0; r < h; ++r)
    std::copy_n(picture.data() + r * w, w, out.data() + (r + (side - h) / 2) * side + (side - w) / 2);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
