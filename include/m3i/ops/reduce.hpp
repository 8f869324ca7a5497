#pragma once
/// Sums, means and maxima over one axis or over everything.

#include "m3i/kernels/gather.hpp"
#include "m3i/ops/arithmetic.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// A tensor seen as [outer, n, inner] around one axis.
struct AxisView {
  Index outer = 1, n = 1, inner = 1;
  AxisView(const Shape& shape, int axis)
      : outer(shape.slice(0, axis).size()), n(shape[axis]), inner(shape.slice(axis + 1, shape.rank()).size()) {}
};

inline Shape without_axis(const Shape& shape, int axis, bool keep) {
  Shape out = shape.slice(0, axis);
  if (keep) out.push_back(1);
  for (int i = axis + 1; i < shape.rank(); ++i) out.push_back(shape[i]);
  return out;
}

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
  const T* x;
  T* y;
  Index* where;
  Index n, inner;
  M3I_HD void operator()(Index i) const {
    const T* in = x + i / inner * n * inner + i % inner;
    Index best = 0;
    for (Index k = 1; k < n; ++k)
      if (accumulate_t<T>(in[k * inner]) > accumulate_t<T>(in[best * inner])) best = k;
    y[i] = in[best * inner];
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
  axis = normal_axis(name, axis, x.shape());
  const AxisView view(x.shape(), axis);
  require(!average || view.n > 0, name, ": axis ", axis, " of ", x.shape(), " is empty");
  const double scale = average ? 1.0 / double(view.n) : 1.0;
  const Tensor<T> y(without_axis(x.shape(), axis, keep), x.device());
  for_rows(x.device(), y.size(), AxisSum<T>{x.data(), y.data(), view.n, view.inner, scale}, view.n);
  return record<T>(name, y, {x}, [x, view, scale](const Tensor<T>& dy) {
    for_each(dy.device(), x.size(), AxisSumGrad<T>{dy.data(), x.grad().data(), view.n, view.inner, scale});
  });
}

}  // namespace detail

/// Sum over an axis, which is dropped, or kept with extent 1. Gradient: x.
template <class T>
Var<T> sum(const Var<T>& x, int axis, bool keep = false) {
  return detail::axis_sum("sum", x, axis, keep, false);
}
/// Mean over an axis.
template <class T>
Var<T> mean(const Var<T>& x, int axis, bool keep = false) {
  return detail::axis_sum("mean", x, axis, keep, true);
}
/// Sum of all elements, a scalar. Two levels, so that large tensors use every thread and keep their digits.
template <class T>
Var<T> sum(const Var<T>& x) {
  const Index n = x.size(), chunk = 4096;
  const Tensor<T> y(Shape{}, x.device());
  if (n <= chunk || n % chunk != 0) {
    for_rows(x.device(), 1, detail::AxisSum<T>{x.data(), y.data(), n, 1, 1.0});
  } else {
    const Tensor<T> part({n / chunk}, x.device());
    for_rows(x.device(), n / chunk, detail::AxisSum<T>{x.data(), part.data(), chunk, 1, 1.0}, chunk);
    for_rows(x.device(), 1, detail::AxisSum<T>{part.data(), y.data(), n / chunk, 1, 1.0});
  }
  return record<T>("sum", y, {x}, [x, n](const Tensor<T>& dy) {
    for_each(dy.device(), n, detail::AxisSumGrad<T>{dy.data(), x.grad().data(), n, 1, 1.0});
  });
}
/// Mean of all elements, a scalar.
template <class T>
Var<T> mean(const Var<T>& x) {
  require(x.size() > 0, "mean: the input is empty, shape ", x.shape());
  return sum(x) / double(x.size());
}
/// Maximum over an axis. The gradient goes to the first of equal maxima.
template <class T>
Var<T> max(const Var<T>& x, int axis, bool keep = false) {
  axis = normal_axis("max", axis, x.shape());
  const detail::AxisView view(x.shape(), axis);
  require(view.n > 0, "max: axis ", axis, " of ", x.shape(), " is empty");
  const Tensor<T> y(detail::without_axis(x.shape(), axis, keep), x.device());
  const Tensor<Index> where(y.shape(), x.device());
  for_each(x.device(), y.size(), detail::AxisMax<T>{x.data(), y.data(), where.data(), view.n, view.inner});
  return record<T>("max", y, {x}, [x, where, view](const Tensor<T>& dy) {
    scatter_add(dy, x.grad(), detail::ChosenIndex{where.data(), view.n, view.inner});
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
