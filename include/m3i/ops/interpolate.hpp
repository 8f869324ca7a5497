#pragma once
/// Resizing of channels-last volumes: trilinear and nearest.

#include <array>
#include <cmath>

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_rows.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class Interpolation { trilinear, nearest };

namespace detail {

/// One axis of a resize, as tables on the device: output o is (1 - weight[o]) * input low[o] + weight[o] * input high,
/// high = low + 1 held inside the volume; input i is read by the outputs [first[i], first_after[i]).
struct ResizeAxis {
  Index in = 0, out = 0;
  Tensor<Index> low, first, first_after;
  Tensor<double> weight;

  ResizeAxis() = default;
  ResizeAxis(Index in_extent, Index out_extent, Interpolation mode, bool align_corners, Device device)
      : in(in_extent), out(out_extent) {
    std::vector<Index> lows(static_cast<std::size_t>(out)), firsts(static_cast<std::size_t>(in), out),
        afters(static_cast<std::size_t>(in), 0);
    std::vector<double> weights(static_cast<std::size_t>(out));
    for (Index o = 0; o < out; ++o) {
      const auto i = std::size_t(o);
      if (mode == Interpolation::nearest) {
        lows[i] = o * in / out;
      } else {
        const double position = align_corners ? (out > 1 ? double(o) * double(in - 1) / double(out - 1) : 0.0)
                                              : std::max(0.0, (double(o) + 0.5) * double(in) / double(out) - 0.5);
        lows[i] = std::min(Index(position), in - 1);
        weights[i] = lows[i] + 1 < in ? position - double(lows[i]) : 0.0;
      }
      for (const Index source : {lows[i], std::min(lows[i] + 1, in - 1)}) {
        firsts[std::size_t(source)] = std::min(firsts[std::size_t(source)], o);
        afters[std::size_t(source)] = o + 1;
      }
    }
    low = Tensor<Index>::from(lows, {out}, device);
    first = Tensor<Index>::from(firsts, {in}, device);
    first_after = Tensor<Index>::from(afters, {in}, device);
    weight = Tensor<double>::from(weights, {out}, device);
  }
};

/// What a kernel needs of a ResizeAxis.
template <class A>
struct ResizeTable {
  Index in, out;
  const Index *low, *first, *first_after;
  const double* weight;
  explicit ResizeTable(const ResizeAxis& axis)
      : in(axis.in),
        out(axis.out),
        low(axis.low.data()),
        first(axis.first.data()),
        first_after(axis.first_after.data()),
        weight(axis.weight.data()) {}
  /// The share that output o takes from input i.
  M3I_HD A share(Index o, Index i) const {
    const A w = A(weight[o]);
    return (low[o] == i ? 1 - w : A(0)) + (low[o] + 1 == i ? w : A(0));
  }
};

/// One output voxel a row: the weighted sum of at most eight input voxels.
template <class T>
struct Resize {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  ResizeTable<A> d, h, w;
  Index channels;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index o2 = row % w.out, o1 = row / w.out % h.out, o0 = row / w.out / h.out % d.out,
                n = row / w.out / h.out / d.out;
    const A f0 = A(d.weight[o0]), f1 = A(h.weight[o1]), f2 = A(w.weight[o2]);
    // A neighbour of weight 0 may lie outside: its step is 0.
    const Index step0 = f0 > 0 ? h.in * w.in * channels : 0, step1 = f1 > 0 ? w.in * channels : 0,
                step2 = f2 > 0 ? channels : 0;
    const T* in = x + (((n * d.in + d.low[o0]) * h.in + h.low[o1]) * w.in + w.low[o2]) * channels;
    T* out = y + row * channels;
    team.each(channels, [=](Index c) {
      const auto along2 = [=](const T* p) { return (1 - f2) * A(p[c]) + f2 * A(p[c + step2]); };
      const auto along1 = [=](const T* p) { return (1 - f1) * along2(p) + f1 * along2(p + step1); };
      out[c] = T((1 - f0) * along1(in) + f0 * along1(in + step0));
    });
  }
};

/// One input voxel a row: the sum over the outputs that read it.
template <class T>
struct ResizeGrad {
  using A = accumulate_t<T>;
  const T* dy;
  T* dx;
  ResizeTable<A> d, h, w;
  Index channels;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index i2 = row % w.in, i1 = row / w.in % h.in, i0 = row / w.in / h.in % d.in, n = row / w.in / h.in / d.in;
    const ResizeTable<A> td = d, th = h, tw = w;
    const T* grad = dy;
    T* out = dx + row * channels;
    const Index stride = channels;
    team.each(channels, [=](Index c) {
      A total = 0;
      for (Index o0 = td.first[i0]; o0 < td.first_after[i0]; ++o0)
        for (Index o1 = th.first[i1]; o1 < th.first_after[i1]; ++o1) {
          const A outer = td.share(o0, i0) * th.share(o1, i1);
          const T* line = grad + ((n * td.out + o0) * th.out + o1) * tw.out * stride + c;
          for (Index o2 = tw.first[i2]; o2 < tw.first_after[i2]; ++o2)
            total += outer * tw.share(o2, i2) * A(line[o2 * stride]);
        }
      out[c] = T(A(out[c]) + total);
    });
  }
};

}  // namespace detail

/// Resizes a volume to `size` voxels.
///
///   x   [N, D, H, W, C]
///   ->  [N, size[0], size[1], size[2], C]
///
/// trilinear, align_corners = false: voxels are cells; output o lies at (o + 1/2) in/out - 1/2, held at 0 or above.
/// trilinear, align_corners = true: corner voxels stay; output o lies at o (in - 1) / (out - 1).
/// nearest: output o reads input floor(o in / out); align_corners must be false.
///
/// Gradient: x; each input voxel gathers from the outputs that read it. Throws ShapeError.
template <class T>
Var<T> interpolate(const Var<T>& x,
                   const std::array<Index, 3>& size,
                   Interpolation mode = Interpolation::trilinear,
                   bool align_corners = false) {
  const Operation operation("interpolate", x);
  require(x.rank() == 5, "interpolate: needs a volume [N, D, H, W, C], got ", x.shape());
  require(mode == Interpolation::trilinear || !align_corners, "interpolate: align_corners is for trilinear only");
  using A = accumulate_t<T>;
  std::array<detail::ResizeAxis, 3> axis;
  Shape shape{x.shape()[0]};
  for (std::size_t a = 0; a < 3; ++a) {
    const Index in = x.shape()[int(a) + 1];
    require(in >= 1 && size[a] >= 1, "interpolate: axis ", a, " of ", x.shape(), " cannot be resized to ", size[a]);
    shape.push_back(size[a]);
    axis[a] = detail::ResizeAxis(in, size[a], mode, align_corners, x.device());
  }
  const Index channels = x.shape()[4];
  shape.push_back(channels);
  const Tensor<T> y(shape, x.device());
  const auto table = [](const detail::ResizeAxis& a) { return detail::ResizeTable<A>(a); };
  for_rows(x.device(), channels ? y.size() / channels : 0,
           detail::Resize<T>{x.data(), y.data(), table(axis[0]), table(axis[1]), table(axis[2]), channels},
           8 * channels);
  return record<T>("interpolate", y, {x}, [dx = x.gradient(), axis, channels, table](const Tensor<T>& dy) {
    for_rows(
        dy.device(), channels ? dx.size() / channels : 0,
        detail::ResizeGrad<T>{dy.data(), dx.grad().data(), table(axis[0]), table(axis[1]), table(axis[2]), channels},
        8 * channels);
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
