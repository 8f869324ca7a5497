#pragma once
/// The mechanism of instance, batch and group normalisation: x seen as [outer, rows, channels]; the elements that share
/// a mean are all rows of one outer index, for `merged` neighbouring channels.
///
/// Everything is a column sum (vectorised over channels), a small step on [outer, channels] values, and one pass over
/// x.

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/kernels/math.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Means and deviations of channels are double for every T: they stand for millions of voxels, and the gradient of what
/// feeds a normalisation is what is left when two nearly equal sums cancel. The passes wait for memory, not for it.
using ChannelStatistic = double;

struct ChannelView {
  Index outer = 1, rows = 1, channels = 1, merged = 1;
  Index size() const { return outer * rows * channels; }
  Index sets() const { return outer * channels; }  ///< statistics are kept for each channel, repeated within a group
  Index count() const { return rows * merged; }    ///< elements that share a mean
};

/// [N, ..., C] as samples, space and channels.
inline ChannelView channel_view(const char* name, const Shape& shape) {
  require(shape.rank() >= 2 && shape.size() > 0, name, ": needs a non-empty [N, ..., C], got ", shape);
  return {shape[0], shape.slice(1, shape.rank() - 1).size(), shape[-1], 1};
}

/// An optional [C] parameter, or that constant for all channels.
template <class T>
Var<T> channel_or(const char* name, const char* what, const Var<T>& given, const Var<T>& x, T otherwise) {
  const Shape shape{x.shape()[-1]};
  if (!given.defined()) return Var<T>(Tensor<T>::full(shape, otherwise, x.device()));
  require(given.shape() == shape, name, ": ", what, " ", given.shape(), " does not fit the last axis of ", x.shape(),
          "; expected ", shape);
  require_one_device(name, {x, given});
  return given;
}

template <class T>
struct SquaredDeviation {
  using A = ChannelStatistic;
  const T* x;
  const A* mean;
  Index cols;
  M3I_HD A operator()(Index r, Index c) const {
    const A d = A(x[r * cols + c]) - mean[c];
    return d * d;
  }
};
template <class T>
struct TimesNormal {
  using A = ChannelStatistic;
  const T *dy, *x;
  const A *mean, *inverse;
  Index cols;
  M3I_HD A operator()(Index r, Index c) const {
    return A(dy[r * cols + c]) * (A(x[r * cols + c]) - mean[c]) * inverse[c];
  }
};

/// The mean over a group of per-channel sums, weighted by `weight` if there is one, given to each channel of the group.
template <class T>
struct GroupMean {
  using A = ChannelStatistic;
  const A* sums;
  const T* weight;
  A* out;
  Index channels, merged;
  double count;
  M3I_HD void operator()(Index i) const {
    const Index c = i % channels, first = c / merged * merged;
    const A* own = sums + (i - c);
    A total = 0;
    for (Index k = first; k < first + merged; ++k) total += own[k] * (weight ? A(weight[k]) : A(1));
    out[i] = total / A(count);
  }
};
template <class T>
struct InverseRoot {
  using A = ChannelStatistic;
  const A* variance;
  A* out;
  double eps;
  M3I_HD void operator()(Index i) const { out[i] = 1 / math::sqrt(variance[i] + A(eps)); }
};
template <class T>
struct RunningUpdate {
  using A = ChannelStatistic;
  const A *mean, *variance;
  T *running_mean, *running_variance;
  double momentum, unbiased;
  M3I_HD void operator()(Index c) const {
    const A m = A(momentum);
    running_mean[c] = T((1 - m) * A(running_mean[c]) + m * mean[c]);
    running_variance[c] = T((1 - m) * A(running_variance[c]) + m * variance[c] * A(unbiased));
  }
};

/// One team takes a block of rows of one outer index; the host runs along the channels of a row.
struct RowBlocks {
  static constexpr Index height = 64;
  Index rows, channels;
  Index per_outer() const { return (rows + height - 1) / height; }
};
template <class Team, class F>
M3I_HD inline void each_row_block(Team team, const RowBlocks& blocks, Index block, F f) {
  const Index per_outer = (blocks.rows + RowBlocks::height - 1) / RowBlocks::height, cols = blocks.channels;
  const Index outer = block / per_outer, first = block % per_outer * RowBlocks::height;
  const Index left = blocks.rows - first, height = left < RowBlocks::height ? left : RowBlocks::height;
  const Index start = (outer * blocks.rows + first) * cols, set = outer * cols;
  if constexpr (std::is_same_v<Team, HostTeam>) {
    for (Index r = 0; r < height; ++r) team.each(cols, [=](Index c) { f(start + r * cols + c, set + c, c); });
  } else {
    team.each(height * cols, [=](Index i) { f(start + i, set + i % cols, i % cols); });
  }
}

template <class T>
struct NormApply {
  using A = ChannelStatistic;
  RowBlocks blocks;
  const T *x, *gain, *bias;
  const A *mean, *inverse;
  T* y;
  template <class Team>
  M3I_HD void operator()(Team team, Index block) const {
    const T *in = x, *g = gain, *b = bias;
    const A *m = mean, *s = inverse;
    T* out = y;
    each_row_block(team, blocks, block,
                   [=](Index i, Index set, Index c) { out[i] = T((A(in[i]) - m[set]) * s[set] * A(g[c]) + A(b[c])); });
  }
};
/// dx += 1/std * (dy gain - mean(dy gain) - normal mean(dy gain normal)); the means are absent for fixed statistics.
template <class T>
struct NormApplyGrad {
  using A = ChannelStatistic;
  RowBlocks blocks;
  const T *x, *gain, *dy;
  const A *mean, *inverse, *average, *slope;
  T* dx;
  template <class Team>
  M3I_HD void operator()(Team team, Index block) const {
    const T *in = x, *g = gain, *d = dy;
    const A *m = mean, *s = inverse, *a = average, *b = slope;
    T* out = dx;
    each_row_block(team, blocks, block, [=](Index i, Index set, Index c) {
      const A normal = (A(in[i]) - m[set]) * s[set];
      out[i] = T(A(out[i]) + s[set] * (A(d[i]) * A(g[c]) - a[set] - normal * b[set]));
    });
  }
};

/// Column sums of each outer index: out[o, c] = sum over rows of term(o)(row, c).
template <class A, class Term>
Tensor<A> outer_column_sums(Device device, const ChannelView& v, const Term& term) {
  const Tensor<A> out = Tensor<A>::zeros({v.outer, v.channels}, device);
  for (Index o = 0; o < v.outer; ++o) for_columns(device, v.rows, v.channels, term(o), out.data() + o * v.channels);
  return out;
}
template <class T, class A = ChannelStatistic>
Tensor<A> group_mean(const ChannelView& v, const Tensor<A>& sums, const T* weight) {
  const Tensor<A> out(sums.shape(), sums.device());
  for_each(sums.device(), v.sets(),
           GroupMean<T>{sums.data(), weight, out.data(), v.channels, v.merged, double(v.count())});
  return out;
}

/// Normalises by given mean and 1/std [outer, channels]; `differentiate_statistics` says whether they depend on x.
template <class T, class A = ChannelStatistic>
Var<T> norm_channels_with(const char* name,
                          const Var<T>& x,
                          const Var<T>& gain_or_none,
                          const Var<T>& bias_or_none,
                          const ChannelView& v,
                          const Tensor<A>& mean,
                          const Tensor<A>& inverse,
                          bool differentiate_statistics) {
  const Var<T> gain = channel_or(name, "gain", gain_or_none, x, T(1.0f)),
               bias = channel_or(name, "bias", bias_or_none, x, T(0.0f));
  const RowBlocks blocks{v.rows, v.channels};
  const Index teams = v.outer * blocks.per_outer(), cost = RowBlocks::height * v.channels;
  const auto normalise = [=](const Tensor<T>& in) {
    const Tensor<T> y(in.shape(), in.device());
    for_rows(in.device(), teams,
             NormApply<T>{blocks, in.data(), gain.data(), bias.data(), mean.data(), inverse.data(), y.data()}, cost);
    return y;
  };
  const auto recipe = recipe_from<T>({x.kept()}, [normalise, x = x.kept()] { return normalise(x.value()); });
  const auto backward = [=, x = x.kept()](const Tensor<T>& dy) {
    const Device device = dy.device();
    const Index stride = v.rows * v.channels;
    const auto sum_dy = outer_column_sums<A>(device, v, [&](Index o) {
      return MatrixCell<T>{dy.data() + o * stride, v.channels};
    });
    const auto sum_dy_normal = outer_column_sums<A>(device, v, [&](Index o) {
      return TimesNormal<T>{dy.data() + o * stride, x.data() + o * stride, mean.data() + o * v.channels,
                            inverse.data() + o * v.channels, v.channels};
    });
    if (gain.needs_grad())
      for_columns(device, v.outer, v.channels, MatrixCell<A>{sum_dy_normal.data(), v.channels}, gain.grad().data());
    if (bias.needs_grad())
      for_columns(device, v.outer, v.channels, MatrixCell<A>{sum_dy.data(), v.channels}, bias.grad().data());
    if (!x.needs_grad()) return;
    const auto average =
        differentiate_statistics ? group_mean<T>(v, sum_dy, gain.data()) : Tensor<A>::zeros(mean.shape(), device);
    const auto slope = differentiate_statistics ? group_mean<T>(v, sum_dy_normal, gain.data()) : average;
    for_rows(device, teams,
             NormApplyGrad<T>{blocks, x.data(), gain.data(), dy.data(), mean.data(), inverse.data(), average.data(),
                              slope.data(), x.grad().data()},
             cost);
  };
  return record<T>(name, normalise(x.value()), {x, gain, bias}, backward).recomputable(recipe);
}

template <class T, class A = ChannelStatistic>
Tensor<A> inverse_root(const Tensor<A>& variance, double eps) {
  const Tensor<A> out(variance.shape(), variance.device());
  for_each(variance.device(), variance.size(), InverseRoot<T>{variance.data(), out.data(), eps});
  return out;
}

/// Normalises by x's own mean and biased variance; hands them out as [outer, channels] if asked.
template <class T, class A = ChannelStatistic>
Var<T> norm_channels(const char* name,
                     const Var<T>& x,
                     const Var<T>& gain,
                     const Var<T>& bias,
                     const ChannelView& v,
                     double eps,
                     Tensor<A>* mean_out = nullptr,
                     Tensor<A>* variance_out = nullptr) {
  const Device device = x.device();
  const Index stride = v.rows * v.channels;
  const auto mean = group_mean<T>(v,
                                  outer_column_sums<A>(device, v,
                                                       [&](Index o) {
                                                         return MatrixCell<T>{x.data() + o * stride, v.channels};
                                                       }),
                                  nullptr);
  const auto variance =
      group_mean<T>(v,
                    outer_column_sums<A>(
                        device, v,
                        [&](Index o) {
                          return SquaredDeviation<T>{x.data() + o * stride, mean.data() + o * v.channels, v.channels};
                        }),
                    nullptr);
  if (mean_out) *mean_out = mean;
  if (variance_out) *variance_out = variance;
  return norm_channels_with(name, x, gain, bias, v, mean, inverse_root<T>(variance, eps), true);
}

/// Normalises by remembered statistics [channels].
template <class T>
Var<T> norm_channels_fixed(const char* name,
                           const Var<T>& x,
                           const Var<T>& gain,
                           const Var<T>& bias,
                           const ChannelView& v,
                           const Tensor<T>& mean,
                           const Tensor<T>& variance,
                           double eps) {
  using A = ChannelStatistic;
  const Shape sets{1, v.channels};
  // Copied: running statistics change in place while the tape may still need these.
  return norm_channels_with(name, x, gain, bias, v, cast<A>(mean).clone().reshape(sets),
                            inverse_root<T>(cast<A>(variance), eps).reshape(sets), false);
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
