#pragma once
/// Sums, means and maxima over one axis or over everything.

#include "m3i/kernels/gather.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/axis.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

template <class T>
struct AxisSum {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  Index n, inner;
  double scale;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const T* in = x + row / inner * n * inner + row % inner;
    const Index step = inner;
    const A total = team.sum(n, [=](Index k) { return A(in[k * step]); });
    T* out = y + row;
    const A factor = A(scale);
    team.each(1, [=](Index) { *out = T(total * factor); });
  }
};
template <class T>
struct AxisSumGrad {
  using A = accumulate_t<T>;
  const T* dy;
  T* dx;
  Index n, inner;
  double scale;
  M3I_HD void operator()(Index i) const { dx[i] = T(A(dx[i]) + A(scale) * A(dy[i / (n * inner) * inner + i % inner])); }
};

template <class T>
struct AxisMax {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  Index* where;
  Index n, inner;
  M3I_HD void operator()(Index i) const {
    const T* in = x + i / inner * n * inner + i % inner;
    A top = A(in[0]);
    Index best = 0;
    for (Index k = 1; k < n; ++k) {
      const A v = A(in[k * inner]);
      const bool larger = v > top || (v != v && top == top);  // NaN wins, as the first of its kind
      top = larger ? v : top;
      best = larger ? k : best;
    }
    y[i] = T(top);
    where[i] = best;
  }
};
/// Where a chosen entry of an axis lies in the whole tensor.
struct ChosenIndex {
  const Index* where;
  Index n, inner;
  M3I_HD Index operator()(Index i) const { return (i / inner * n + where[i]) * inner + i % inner; }
};

template <class T>
Var<T> axis_sum(const char* name, const Var<T>& x, int axis, bool keep, bool average) {
  const Operation operation(name, x);
  const AxisView view(name, axis, x.shape());
  require(!average || view.n > 0, name, ": axis ", axis, " of ", x.shape(), " is empty");
  const double scale = average ? 1.0 / double(view.n) : 1.0;
  const Tensor<T> y(without_axis(x.shape(), axis, keep), x.device());
  for_rows(x.device(), y.size(), AxisSum<T>{x.data(), y.data(), view.n, view.inner, scale}, view.n);
  return record<T>(name, y, {x}, [dx = x.gradient(), view, scale](const Tensor<T>& dy) {
    for_each(dy.device(), dx.size(), AxisSumGrad<T>{dy.data(), dx.grad().data(), view.n, view.inner, scale});
  });
}

/// One row: the sum of a run of elements, in double, so that its digits do not depend on the width of vectors.
template <class T>
struct RunSum {
  const T* x;
  double* y;
  Index n, run;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index first = row * run, count = n - first < run ? n - first : run;
    const T* in = x + first;
    const double total = team.sum(count, [=](Index i) { return double(accumulate_t<T>(in[i])); });
    double* out = y + row;
    team.each(1, [=](Index) { *out = total; });
  }
};

/// scale times the sum of all elements. Two levels, so that large tensors use every thread and keep their digits.
template <class T>
Tensor<double> sum_of_all(const Tensor<T>& x, double scale) {
  constexpr Index run = 4096;
  const Index n = x.size(), runs = (n + run - 1) / run;
  const Tensor<double> part({runs}, x.device()), total(Shape{}, x.device());
  for_rows(x.device(), runs, RunSum<T>{x.data(), part.data(), n, run}, run);
  for_rows(x.device(), 1, AxisSum<double>{part.data(), total.data(), runs, 1, scale});
  return total;
}
template <class T>
Var<T> total_sum(const char* name, const Var<T>& x, double scale) {
  const Operation operation(name, x);
  return record<T>(name, cast<T>(sum_of_all(x.value(), scale)), {x},
                   [dx = x.gradient(), n = x.size(), scale](const Tensor<T>& dy) {
                     for_each(dy.device(), n, AxisSumGrad<T>{dy.data(), dx.grad().data(), n, 1, scale});
                   });
}

}  // namespace detail

/// Sum over an axis, which is dropped, or kept with extent 1. Gradient: x. Throws ShapeError if there is no such axis.
template <class T>
Var<T> sum(const Var<T>& x, int axis, bool keep = false) {
  return detail::axis_sum("sum", x, axis, keep, false);
}
/// Mean over an axis, as sum. Throws ShapeError for an axis of extent 0.
template <class T>
Var<T> mean(const Var<T>& x, int axis, bool keep = false) {
  return detail::axis_sum("mean", x, axis, keep, true);
}
/// Sum of all elements, a scalar. Gradient: x.
template <class T>
Var<T> sum(const Var<T>& x) {
  return detail::total_sum("sum", x, 1.0);
}
/// Mean of all elements, a scalar. Gradient: x. Throws ShapeError if there are none.
template <class T>
Var<T> mean(const Var<T>& x) {
  require(x.size() > 0, "mean: the input is empty, shape ", x.shape());
  return detail::total_sum("mean", x, 1.0 / double(x.size()));
}
/// Maximum over an axis, which is dropped, or kept with extent 1; NaN if the axis holds one. Gradient: x, to the first
/// of equal maxima. Throws ShapeError for an axis of extent 0.
template <class T>
Var<T> max(const Var<T>& x, int axis, bool keep = false) {
  const Operation operation("max", x);
  const detail::AxisView view("max", axis, x.shape());
  require(view.n > 0, "max: axis ", axis, " of ", x.shape(), " is empty");
  const Tensor<T> y(detail::without_axis(x.shape(), axis, keep), x.device());
  const Tensor<Index> where(y.shape(), x.device());
  for_each(x.device(), y.size(), detail::AxisMax<T>{x.data(), y.data(), where.data(), view.n, view.inner});
  return record<T>("max", y, {x}, [dx = x.gradient(), where, view](const Tensor<T>& dy) {
    scatter_add(dy, dx.grad(), detail::ChosenIndex{where.data(), view.n, view.inner});
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
