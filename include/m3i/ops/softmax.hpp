#pragma once
/// softmax, log_softmax and logsumexp along any axis.

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/kernels/math.hpp"
#include "m3i/ops/axis.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Rows of a tensor along one axis: row r is element(r, 0), element(r, 1), ... `inner` apart. With `contiguous` the
/// distance is known to be 1, and loops over a row become vector loads.
template <bool contiguous>
struct AxisRows {
  Index n, inner;
  M3I_HD Index start(Index row) const {
    if constexpr (contiguous) return row * n;
    else return row / inner * n * inner + row % inner;
  }
  M3I_HD Index step() const {
    if constexpr (contiguous) return 1;
    else return inner;
  }
};

/// What is subtracted before exp: the largest value, or 0 where that is infinite (inf - inf has no value).
template <class A>
M3I_HD inline A exp_shift(A top) {
  return top - top == 0 ? top : A(0);
}

template <class T, bool contiguous>
struct SoftmaxRow {
  using A = accumulate_t<T>;
  AxisRows<contiguous> rows;
  const T* x;
  T* y;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index n = rows.n, step = rows.step();
    const T* in = x + rows.start(row);
    T* out = y + rows.start(row);
    const A shift = exp_shift(team.max(n, [=](Index i) { return A(in[i * step]); }));
    if constexpr (std::is_same_v<A, T>) {  // an exponential is kept in the output until the sum is known
      const A mass = team.sum(n, [=](Index i) { return out[i * step] = math::exp(in[i * step] - shift); });
      const A scale = 1 / mass;
      team.each(n, [=](Index i) { out[i * step] *= scale; });
    } else {  // small types would round it twice
      const A scale = 1 / team.sum(n, [=](Index i) { return math::exp(A(in[i * step]) - shift); });
      team.each(n, [=](Index i) { out[i * step] = T(math::exp(A(in[i * step]) - shift) * scale); });
    }
  }
};
template <class T, bool contiguous>
struct SoftmaxRowGrad {
  using A = accumulate_t<T>;
  AxisRows<contiguous> rows;
  const T *y, *dy;
  T* dx;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index n = rows.n, step = rows.step(), start = rows.start(row);
    const T *p = y + start, *g = dy + start;
    T* out = dx + start;
    const A dot = team.sum(n, [=](Index i) { return A(p[i * step]) * A(g[i * step]); });
    team.each(n, [=](Index i) { out[i * step] = T(A(out[i * step]) + A(p[i * step]) * (A(g[i * step]) - dot)); });
  }
};

/// log sum exp of a row, written once (`reduced`) or subtracted from each element.
template <class T, bool contiguous, bool reduced>
struct LogSumExpRow {
  using A = accumulate_t<T>;
  AxisRows<contiguous> rows;
  const T* x;
  std::conditional_t<reduced, A, T>* y;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index n = rows.n, step = rows.step(), start = rows.start(row);
    const T* in = x + start;
    const A shift = exp_shift(team.max(n, [=](Index i) { return A(in[i * step]); }));
    const A total = shift + math::log(team.sum(n, [=](Index i) { return math::exp(A(in[i * step]) - shift); }));
    if constexpr (reduced) {
      A* out = y + row;
      team.each(1, [=](Index) { *out = total; });
    } else {
      T* out = y + start;
      team.each(n, [=](Index i) { out[i * step] = T(A(in[i * step]) - total); });
    }
  }
};
template <class T, bool contiguous>
struct LogSoftmaxRowGrad {
  using A = accumulate_t<T>;
  AxisRows<contiguous> rows;
  const T *y, *dy;
  T* dx;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index n = rows.n, step = rows.step(), start = rows.start(row);
    const T *log_p = y + start, *g = dy + start;
    T* out = dx + start;
    const A total = team.sum(n, [=](Index i) { return A(g[i * step]); });
    team.each(n, [=](Index i) {
      out[i * step] = T(A(out[i * step]) + A(g[i * step]) - math::exp(A(log_p[i * step])) * total);
    });
  }
};
template <class T, bool contiguous>
struct LogSumExpRowGrad {
  using A = accumulate_t<T>;
  AxisRows<contiguous> rows;
  const T* x;
  const A* y;
  const T* dy;
  T* dx;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index n = rows.n, step = rows.step(), start = rows.start(row);
    const T* in = x + start;
    T* out = dx + start;
    const A total = exp_shift(y[row]), g = A(dy[row]);
    team.each(n, [=](Index i) { out[i * step] = T(A(out[i * step]) + g * math::exp(A(in[i * step]) - total)); });
  }
};

/// The rows of a tensor that must have some.
inline AxisView non_empty_axis(const char* name, int axis, const Shape& shape) {
  require(shape.rank() > 0 && shape.size() > 0, name, ": needs a non-empty axis, got ", shape);
  return AxisView(name, axis, shape);
}
/// Runs Functor<T, contiguous>{rows, pointers...} on each row.
template <template <class, bool> class Functor, class T, class... Pointers>
void run_along_axis(Device device, const AxisView& v, Pointers... pointers) {
  if (v.inner == 1) for_rows(device, v.rows(), Functor<T, true>{{v.n, 1}, pointers...}, v.n);
  else for_rows(device, v.rows(), Functor<T, false>{{v.n, v.inner}, pointers...}, v.n);
}
template <class T, bool contiguous>
using LogSoftmaxRow = LogSumExpRow<T, contiguous, false>;
template <class T, bool contiguous>
using ReducedLogSumExpRow = LogSumExpRow<T, contiguous, true>;

}  // namespace detail

/// softmax: y = exp(x) / sum(exp(x)) along an axis. Gradient: x; keeps y. A row of -infinity gives NaN.
template <class T>
Var<T> softmax(const Var<T>& x, int axis = -1) {
  const Operation operation("softmax", x);
  const auto view = detail::non_empty_axis("softmax", axis, x.shape());
  const Tensor<T> y(x.shape(), x.device());
  detail::run_along_axis<detail::SoftmaxRow, T>(x.device(), view, x.data(), y.data());
  return record<T>("softmax", y, {x}, [dx = x.gradient(), y, view](const Tensor<T>& dy) {
    detail::run_along_axis<detail::SoftmaxRowGrad, T>(dy.device(), view, y.data(), dy.data(), dx.grad().data());
  });
}

/// log_softmax: y = x - log(sum(exp(x))) along an axis. Gradient: x; keeps y.
template <class T>
Var<T> log_softmax(const Var<T>& x, int axis = -1) {
  const Operation operation("log_softmax", x);
  const auto view = detail::non_empty_axis("log_softmax", axis, x.shape());
  const Tensor<T> y(x.shape(), x.device());
  detail::run_along_axis<detail::LogSoftmaxRow, T>(x.device(), view, x.data(), y.data());
  return record<T>("log_softmax", y, {x}, [dx = x.gradient(), y, view](const Tensor<T>& dy) {
    detail::run_along_axis<detail::LogSoftmaxRowGrad, T>(dy.device(), view, y.data(), dy.data(), dx.grad().data());
  });
}

/// log(sum(exp(x))) along an axis, which is dropped or kept with extent 1. Gradient: x. -infinity for a row of
/// -infinity (its gradient is 0), infinity if the row has one.
template <class T>
Var<T> logsumexp(const Var<T>& x, int axis = -1, bool keep = false) {
  const Operation operation("logsumexp", x);
  const auto view = detail::non_empty_axis("logsumexp", axis, x.shape());
  const Tensor<accumulate_t<T>> y(detail::without_axis(x.shape(), axis, keep), x.device());
  detail::run_along_axis<detail::ReducedLogSumExpRow, T>(x.device(), view, x.data(), y.data());
  return record<T>("logsumexp", cast<T>(y), {x}, [x, y, view](const Tensor<T>& dy) {
    detail::run_along_axis<detail::LogSumExpRowGrad, T>(dy.device(), view, x.data(), y.data(), dy.data(),
                                                        x.grad().data());
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
