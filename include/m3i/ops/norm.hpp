#pragma once
/// Normalisations. Of rows: layer_norm, rms_norm, l2_normalize. Of channels over space: instance_norm, batch_norm,
/// group_norm, which are one mechanism with different sets of elements sharing a mean.

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/math.hpp"
#include "m3i/ops/norm_channels.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// y = (x - mean) / std * gain + bias of one row, or without the mean and the bias (RMS).
template <class T, bool centred>
struct NormRow {
  using A = accumulate_t<T>;
  const T *x, *gain, *bias;
  T* y;
  A *mean, *inverse;  ///< [rows]; mean only if centred
  Index n;
  A eps;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const T *in = x + row * n, *g = gain, *b = bias;
    T* out = y + row * n;
    A centre = 0;
    if constexpr (centred) centre = team.sum(n, [=](Index i) { return A(in[i]); }) / A(n);
    const A squares = team.sum(n, [=](Index i) {
      const A d = A(in[i]) - centre;
      return d * d;
    });
    const A scale = 1 / math::sqrt(squares / A(n) + eps);
    team.each(n, [=](Index i) {
      const A normal = (A(in[i]) - centre) * scale * A(g[i]);
      if constexpr (centred) out[i] = T(normal + A(b[i]));
      else out[i] = T(normal);
    });
    A *keep_mean = centred ? mean + row : nullptr, *keep_inverse = inverse + row;
    team.each(1, [=](Index) {
      if constexpr (centred) *keep_mean = centre;
      *keep_inverse = scale;
    });
  }
};

template <class T, bool centred>
struct NormRowGrad {
  using A = accumulate_t<T>;
  const T *x, *gain, *dy;
  T* dx;
  const A *mean, *inverse;
  Index n;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const T *in = x + row * n, *d = dy + row * n, *g = gain;
    T* out = dx + row * n;
    const A centre = centred ? mean[row] : A(0), scale = inverse[row];
    A average = 0;
    if constexpr (centred) average = team.sum(n, [=](Index i) { return A(d[i]) * A(g[i]); }) / A(n);
    const A slope = team.sum(n, [=](Index i) { return A(d[i]) * A(g[i]) * (A(in[i]) - centre); }) * scale / A(n);
    team.each(n, [=](Index i) {
      const A normal = (A(in[i]) - centre) * scale;
      out[i] = T(A(out[i]) + scale * (A(d[i]) * A(g[i]) - average - normal * slope));
    });
  }
};

/// dy times the normalised x: what a gain's gradient adds up.
template <class T, bool centred>
struct NormGainTerm {
  using A = accumulate_t<T>;
  const T *x, *dy;
  const A *mean, *inverse;
  Index n;
  M3I_HD A operator()(Index row, Index c) const {
    const A centre = centred ? mean[row] : A(0);
    return A(dy[row * n + c]) * (A(x[row * n + c]) - centre) * inverse[row];
  }
};

template <bool centred, class T>
Var<T> norm_rows(
    const char* name, const Var<T>& x, const Var<T>& gain_or_none, const Var<T>& bias_or_none, double eps) {
  require(x.rank() > 0 && x.shape()[-1] > 0, name, ": needs a non-empty last axis, got ", x.shape());
  using A = accumulate_t<T>;
  const Index n = x.shape()[-1], rows = x.size() / n;
  const Var<T> gain = channel_or(name, "gain", gain_or_none, x, T(1.0f)),
               bias = channel_or(name, "bias", bias_or_none, x, T(0.0f));
  const Tensor<A> mean({centred ? rows : 0}, x.device()), inverse({rows}, x.device());
  const auto normalise = [=](const Tensor<T>& in) {
    const Tensor<T> y(in.shape(), in.device());
    for_rows(in.device(), rows,
             NormRow<T, centred>{in.data(), gain.data(), bias.data(), y.data(), mean.data(), inverse.data(), n, A(eps)},
             n);
    return y;
  };
  const auto recipe = recipe_from<T>({x.kept()}, [normalise, x = x.kept()] { return normalise(x.value()); });
  const auto backward = [=, x = x.kept()](const Tensor<T>& dy) {
    const Device device = dy.device();
    if (x.needs_grad())
      for_rows(
          device, rows,
          NormRowGrad<T, centred>{x.data(), gain.data(), dy.data(), x.grad().data(), mean.data(), inverse.data(), n},
          n);
    if (gain.needs_grad())
      for_columns(device, rows, n, NormGainTerm<T, centred>{x.data(), dy.data(), mean.data(), inverse.data(), n},
                  gain.grad().data());
    if (bias.needs_grad()) for_columns(device, rows, n, MatrixCell<T>{dy.data(), n}, bias.grad().data());
  };
  return record<T>(name, normalise(x.value()), {x, gain, bias}, backward).recomputable(recipe);
}

}  // namespace detail

/// Layer normalisation of the last axis: y = (x - mean) / sqrt(var + eps) * gain + bias.
///
///   x     [..., C]   each row of C values is normalised on its own
///   gain  [C]        undefined: ones
///   bias  [C]        undefined: zeros
///   eps   added to the variance, in the unit of x squared
///   ->    [..., C]
///
/// Gradients: x, gain, bias. Keeps two values a row (mean, 1/std) until backward.
/// Throws ShapeError unless gain and bias are [C].
/// Ba, Kiros and Hinton 2016, arXiv:1607.06450.
template <class T>
Var<T> layer_norm(const Var<T>& x, const Var<T>& gain = {}, const Var<T>& bias = {}, double eps = 1e-5) {
  const Operation operation("layer_norm", x, gain, bias);
  return detail::norm_rows<true>("layer_norm", x, gain, bias, eps);
}

/// Root-mean-square normalisation of the last axis: y = x / sqrt(mean(x^2) + eps) * gain.
///
///   x [..., C], gain [C] (undefined: ones) -> [..., C]
///
/// Gradients: x, gain. Keeps one value a row until backward. Throws ShapeError unless gain is [C].
/// Zhang and Sennrich 2019, arXiv:1910.07467.
template <class T>
Var<T> rms_norm(const Var<T>& x, const Var<T>& gain = {}, double eps = 1e-6) {
  const Operation operation("rms_norm", x, gain);
  return detail::norm_rows<false>("rms_norm", x, gain, Var<T>(), eps);
}

namespace detail {
template <class T>
struct UnitRow {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  A* inverse;
  Index n;
  A eps;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const T* in = x + row * n;
    T* out = y + row * n;
    const A length = math::sqrt(team.sum(n, [=](Index i) { return A(in[i]) * A(in[i]); }));
    const A scale = 1 / math::max(length, eps);
    team.each(n, [=](Index i) { out[i] = T(A(in[i]) * scale); });
    A* keep = inverse + row;
    const A kept = length > eps ? scale : -scale;  // the sign remembers that the length was held at eps
    team.each(1, [=](Index) { *keep = kept; });
  }
};
template <class T>
struct UnitRowGrad {
  using A = accumulate_t<T>;
  const T *x, *dy;
  T* dx;
  const A* inverse;
  Index n;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const T *in = x + row * n, *d = dy + row * n;
    T* out = dx + row * n;
    const A kept = inverse[row], scale = math::abs(kept);
    const A along = team.sum(n, [=](Index i) { return A(d[i]) * A(in[i]); });
    const A slope = kept > 0 ? along * scale * scale : A(0);
    team.each(n, [=](Index i) { out[i] = T(A(out[i]) + scale * (A(d[i]) - A(in[i]) * slope)); });
  }
};
}  // namespace detail

/// Rows of length 1: y = x / max(|x|, eps) over the last axis, so that a row of zeros stays zero. x [..., C] -> the
/// same. Gradient: x. Keeps one value a row. Throws ShapeError for an empty last axis, ConfigError unless eps > 0.
template <class T>
Var<T> l2_normalize(const Var<T>& x, double eps = 1e-12) {
  const Operation operation("l2_normalize", x);
  require(x.rank() > 0 && x.shape()[-1] > 0, "l2_normalize: needs a non-empty last axis, got ", x.shape());
  require<ConfigError>(eps > 0, "l2_normalize: eps must be positive, got ", eps);
  using A = accumulate_t<T>;
  const Index n = x.shape()[-1], rows = x.size() / n;
  const Tensor<T> y(x.shape(), x.device());
  const Tensor<A> inverse({rows}, x.device());
  for_rows(x.device(), rows, detail::UnitRow<T>{x.data(), y.data(), inverse.data(), n, A(eps)}, n);
  return record<T>("l2_normalize", y, {x}, [=](const Tensor<T>& dy) {
    for_rows(dy.device(), rows, detail::UnitRowGrad<T>{x.data(), dy.data(), x.grad().data(), inverse.data(), n}, n);
  });
}

/// Instance normalisation: each channel of each sample over its own space.
///
///   x           [N, ..., C]
///   gain, bias  [C], undefined: ones and zeros
///   ->          [N, ..., C]
///
/// y = (x - mean) / sqrt(var + eps) * gain + bias with the biased variance. Gradients: x, gain, bias.
/// Ulyanov, Vedaldi and Lempitsky 2016, arXiv:1607.08022.
template <class T>
Var<T> instance_norm(const Var<T>& x, const Var<T>& gain = {}, const Var<T>& bias = {}, double eps = 1e-5) {
  const Operation operation("instance_norm", x, gain, bias);
  const auto view = detail::channel_view("instance_norm", x.shape());
  return detail::norm_channels("instance_norm", x, gain, bias, view, eps);
}

/// Group normalisation: C / groups neighbouring channels of a sample share a mean and a variance.
///
///   x [N, ..., C], gain, bias [C] (undefined: ones and zeros) -> [N, ..., C]
///
/// Gradients: x, gain, bias. Throws ShapeError unless groups divides C. Wu and He 2018, arXiv:1803.08494.
template <class T>
Var<T> group_norm(const Var<T>& x, Index groups, const Var<T>& gain = {}, const Var<T>& bias = {}, double eps = 1e-5) {
  const Operation operation("group_norm", x, gain, bias);
  auto view = detail::channel_view("group_norm", x.shape());
  require(groups > 0 && view.channels % groups == 0, "group_norm: ", groups, " groups do not divide the ",
          view.channels, " channels of ", x.shape());
  view.merged = view.channels / groups;
  return detail::norm_channels("group_norm", x, gain, bias, view, eps);
}

/// What batch normalisation remembers of the training data; both [C].
template <class T>
struct RunningStats {
  Tensor<T> mean, variance;
  /// Mean 0, variance 1.
  static RunningStats fresh(Index channels, Device device = Device::cpu()) {
    return {Tensor<T>::zeros({channels}, device), Tensor<T>::full({channels}, T(1.0f), device)};
  }
};

/// Batch normalisation: each channel over all samples and all space.
///
///   x           [N, ..., C]
///   gain, bias  [C], undefined: ones and zeros
///   running     mean and variance [C]; training updates them in place:
///               running = (1 - momentum) running + momentum batch, with the unbiased variance
///   training    true: normalise by the batch (biased variance); false: by `running`
///   ->          [N, ..., C]
///
/// Gradients: x, gain, bias. Throws ShapeError in training when a channel has fewer than two values. Not for a module
/// under checkpoint(), which computes it twice: `running` would take the batch twice.
/// Ioffe and Szegedy 2015, arXiv:1502.03167.
template <class T>
Var<T> batch_norm(const Var<T>& x,
                  const Var<T>& gain,
                  const Var<T>& bias,
                  const RunningStats<T>& running,
                  bool training,
                  double momentum = 0.1,
                  double eps = 1e-5) {
  const Operation operation("batch_norm", x, gain, bias);
  auto view = detail::channel_view("batch_norm", x.shape());
  view.rows *= view.outer;
  view.outer = 1;
  const Shape channels{view.channels};
  require(running.mean.shape() == channels && running.variance.shape() == channels, "batch_norm: running mean ",
          running.mean.shape(), " and variance ", running.variance.shape(), " for the ", view.channels, " channels of ",
          x.shape());
  if (!training)
    return detail::norm_channels_fixed("batch_norm", x, gain, bias, view, running.mean, running.variance, eps);
  require(view.rows > 1, "batch_norm: one value a channel in ", x.shape(),
          " has no variance; use a larger batch or training = false");
  Tensor<detail::ChannelStatistic> mean, variance;
  const Var<T> y = detail::norm_channels("batch_norm", x, gain, bias, view, eps, &mean, &variance);
  for_each(x.device(), view.channels,
           detail::RunningUpdate<T>{mean.data(), variance.data(), running.mean.data(), running.variance.data(),
                                    momentum, double(view.rows) / double(view.rows - 1)});
  return y;
}

}  // namespace M3I_ABI
}  // namespace m3i
