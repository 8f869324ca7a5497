#pragma once
/// + - * / of two variables with NumPy broadcasting, and of a variable with a number.

#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/ops/pointwise.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Where output element i reads an input that was broadcast: at most six axes, neighbours merged where possible, so
/// that equal shapes cost nothing and a trailing [C] costs one remainder.
struct BroadcastMap {
  int rank = 0;
  Index extent[Shape::max_rank] = {}, stride[Shape::max_rank] = {};

  M3I_HD Index operator()(Index i) const {
    Index at = 0;
    for (int axis = rank - 1; axis > 0; --axis) {
      at += i % extent[axis] * stride[axis];
      i /= extent[axis];
    }
    return at + i * stride[0];
  }
};

inline BroadcastMap broadcast_map(const Shape& from, const Shape& to) {
  BroadcastMap map;
  Index step = from.size();
  for (int axis = 0; axis < to.rank(); ++axis) {
    const int own = axis - (to.rank() - from.rank());
    const Index extent = own < 0 ? 1 : from[own];
    if (extent) step /= extent;
    const Index stride = extent == 1 && to[axis] != 1 ? 0 : step;
    if (to[axis] == 1) continue;
    const int last = map.rank - 1;
    if (last >= 0 && map.stride[last] == stride * to[axis]) {  // also merges neighbouring broadcast axes (0 == 0)
      map.extent[last] *= to[axis];
      map.stride[last] = stride;
    } else {
      map.extent[map.rank] = to[axis];
      map.stride[map.rank++] = stride;
    }
  }
  if (map.rank == 0) map = {1, {1}, {0}};
  return map;
}

template <class T, class Op>
struct BinaryValue {
  using A = accumulate_t<T>;
  const T *a, *b;
  T* y;
  BroadcastMap at_a, at_b;
  M3I_HD void operator()(Index i) const { y[i] = T(Op::value(A(a[at_a(i)]), A(b[at_b(i)]))); }
};
template <class T, class Op>
struct SameShapeValue {
  using A = accumulate_t<T>;
  const T *a, *b;
  T* y;
  M3I_HD void operator()(Index i) const { y[i] = T(Op::value(A(a[i]), A(b[i]))); }
};

/// dy times the slope for one of the two inputs, at output element i.
template <class T, class Op, bool first>
struct BinarySlope {
  using A = accumulate_t<T>;
  const T *a, *b, *dy;
  BroadcastMap at_a, at_b;
  M3I_HD A operator()(Index i) const {
    const A p = A(a[at_a(i)]), q = A(b[at_b(i)]);
    return A(dy[i]) * (first ? Op::slope_a(p, q) : Op::slope_b(p, q));
  }
};
/// dy times a number: the slope of sums and differences, one type for all of them and for both inputs.
template <class T>
struct ScaledSlope {
  using A = accumulate_t<T>;
  const T* dy;
  A factor;
  M3I_HD A operator()(Index i) const { return A(dy[i]) * factor; }
};

template <class T, class Slope>
struct AddSlope {
  using A = accumulate_t<T>;
  Slope slope;
  T* dx;
  M3I_HD void operator()(Index i) const { dx[i] = T(A(dx[i]) + slope(i)); }
};
template <class Slope>
struct SlopeAt {
  Slope slope;
  Index cols;
  M3I_HD auto operator()(Index r, Index c) const { return slope(r * cols + c); }
};
/// One team an input element: the sum over all output elements that read it.
template <class T, class Slope>
struct SumOfSlopes {
  using A = accumulate_t<T>;
  Slope slope;
  T* dx;
  BroadcastMap kept, summed;  // position among kept axes -> output index; position among summed axes -> offset
  Index count;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index base = kept(row);
    const Slope s = slope;
    const BroadcastMap inner = summed;
    const A total = team.sum(count, [=](Index k) { return s(base + inner(k)); });
    T* out = dx + row;
    team.each(1, [=](Index) { *out = T(A(*out) + total); });
  }
};

/// grad[j] += the sum of slope(i) over all elements i of an output of shape `to` that read input element j.
template <class T, class Slope>
void reduce_to(const Shape& to, const Slope& slope, const Tensor<T>& grad) {
  const Shape& from = grad.shape();
  const Device device = grad.device();
  T* dx = grad.data();
  if (from.size() == to.size()) {
    for_each(device, to.size(), AddSlope<T, Slope>{slope, dx});
    return;
  }
  int trailing = 0;  // axes at the end that are not broadcast
  while (trailing < from.rank() && from[-1 - trailing] == to[-1 - trailing]) ++trailing;
  const Index cols = to.slice(to.rank() - trailing, to.rank()).size();
  if (cols == from.size()) {  // [..., C] -> [C]
    for_columns(device, to.size() / std::max<Index>(cols, 1), cols, SlopeAt<Slope>{slope, cols}, dx);
    return;
  }
  BroadcastMap kept, summed;
  Index step = to.size();
  for (int axis = 0; axis < to.rank(); ++axis) {
    step /= std::max<Index>(to[axis], 1);
    const int own = axis - (to.rank() - from.rank());
    BroadcastMap& map = own >= 0 && from[own] == to[axis] ? kept : summed;
    map.extent[map.rank] = to[axis];
    map.stride[map.rank++] = step;
  }
  if (kept.rank == 0) kept = {1, {1}, {0}};
  if (summed.rank == 0) summed = {1, {1}, {0}};
  const Index count = to.size() / std::max<Index>(from.size(), 1);
  for_rows(device, from.size(), SumOfSlopes<T, Slope>{slope, dx, kept, summed, count}, count);
}

template <class Op, class T>
Tensor<T> binary_value(const Tensor<T>& a, const Tensor<T>& b, const Shape& shape) {
  const Tensor<T> y(shape, a.device());
  if (a.shape() == b.shape()) {
    for_each(a.device(), y.size(), SameShapeValue<T, Op>{a.data(), b.data(), y.data()});
  } else {
    const auto at_a = broadcast_map(a.shape(), shape), at_b = broadcast_map(b.shape(), shape);
    for_each(a.device(), y.size(), BinaryValue<T, Op>{a.data(), b.data(), y.data(), at_a, at_b});
  }
  return y;
}

template <class Op, class T>
Var<T> binary(const Var<T>& a, const Var<T>& b) {
  const Operation operation(Op::name, a, b);
  const Shape shape = broadcast(Op::name, a.shape(), b.shape());
  require_one_device(Op::name, {a, b});
  const Tensor<T> y = binary_value<Op>(a.value(), b.value(), shape);
  constexpr bool reads_inputs = !requires { Op::factor_a; };
  std::shared_ptr<Recipe<T>> recipe;  // a sum keeps nothing: computing it again must not make it keep what is not there
  if (reads_inputs || (a.kept().recipes() > 0 && b.kept().recipes() > 0))
    recipe = recipe_from<T>({a.kept(), b.kept()},
                            [=, a = a.kept(), b = b.kept()] { return binary_value<Op>(a.value(), b.value(), shape); });
  if constexpr (!reads_inputs) {  // the inputs' shapes are needed, not their values: those are not kept
    return record<T>(Op::name, y, {a, b},
                     [shape, da = a.gradient(), db = b.gradient()](const Tensor<T>& dy) {
                       if (da.needs_grad()) reduce_to(shape, ScaledSlope<T>{dy.data(), Op::factor_a}, da.grad());
                       if (db.needs_grad()) reduce_to(shape, ScaledSlope<T>{dy.data(), Op::factor_b}, db.grad());
                     })
        .recomputable(recipe);
  } else {
    const auto at_a = broadcast_map(a.shape(), shape), at_b = broadcast_map(b.shape(), shape);
    return record<T>(
               Op::name, y, {a, b},
               [=, p = a.kept(), q = b.kept()](const Tensor<T>& dy) {
                 if (p.needs_grad())
                   reduce_to(shape, BinarySlope<T, Op, true>{p.data(), q.data(), dy.data(), at_a, at_b}, p.grad());
                 if (q.needs_grad())
                   reduce_to(shape, BinarySlope<T, Op, false>{p.data(), q.data(), dy.data(), at_a, at_b}, q.grad());
               })
        .recomputable(recipe);
  }
}

struct Add {
  static constexpr const char* name = "add";
  static constexpr int factor_a = 1, factor_b = 1;
  template <class A>
  M3I_HD static A value(A a, A b) {
    return a + b;
  }
};
struct Subtract {
  static constexpr const char* name = "subtract";
  static constexpr int factor_a = 1, factor_b = -1;
  template <class A>
  M3I_HD static A value(A a, A b) {
    return a - b;
  }
};
struct Multiply {
  static constexpr const char* name = "multiply";
  template <class A>
  M3I_HD static A value(A a, A b) {
    return a * b;
  }
  template <class A>
  M3I_HD static A slope_a(A, A b) {
    return b;
  }
  template <class A>
  M3I_HD static A slope_b(A a, A) {
    return a;
  }
};
struct Divide {
  static constexpr const char* name = "divide";
  template <class A>
  M3I_HD static A value(A a, A b) {
    return a / b;
  }
  template <class A>
  M3I_HD static A slope_a(A, A b) {
    return 1 / b;
  }
  template <class A>
  M3I_HD static A slope_b(A a, A b) {
    return -a / (b * b);
  }
};

/// scale * x + shift
struct ScaleAndShift {
  static constexpr const char* name = "affine";
  double scale = 1, shift = 0;
  template <class A>
  M3I_HD A value(A x) const {
    return A(scale) * x + A(shift);
  }
  M3I_HD double constant_slope() const { return scale; }
};

}  // namespace detail

/// a + b, a - b, a * b, a / b, element by element; shapes broadcast as in NumPy. Gradients: a, b. Sums and differences
/// keep nothing until backward, products and quotients both inputs. Throw ShapeError for shapes that do not broadcast.
template <class T>
Var<T> operator+(const Var<T>& a, const Var<T>& b) {
  return detail::binary<detail::Add>(a, b);
}
template <class T>
Var<T> operator-(const Var<T>& a, const Var<T>& b) {
  return detail::binary<detail::Subtract>(a, b);
}
template <class T>
Var<T> operator*(const Var<T>& a, const Var<T>& b) {
  return detail::binary<detail::Multiply>(a, b);
}
template <class T>
Var<T> operator/(const Var<T>& a, const Var<T>& b) {
  return detail::binary<detail::Divide>(a, b);
}

/// The same with a number, and -x. Gradient: x.
template <class T>
Var<T> operator+(const Var<T>& x, double s) {
  return pointwise(x, detail::ScaleAndShift{1, s});
}
template <class T>
Var<T> operator+(double s, const Var<T>& x) {
  return pointwise(x, detail::ScaleAndShift{1, s});
}
template <class T>
Var<T> operator-(const Var<T>& x, double s) {
  return pointwise(x, detail::ScaleAndShift{1, -s});
}
template <class T>
Var<T> operator-(double s, const Var<T>& x) {
  return pointwise(x, detail::ScaleAndShift{-1, s});
}
template <class T>
Var<T> operator-(const Var<T>& x) {
  return pointwise(x, detail::ScaleAndShift{-1, 0});
}
template <class T>
Var<T> operator*(const Var<T>& x, double s) {
  return pointwise(x, detail::ScaleAndShift{s, 0});
}
template <class T>
Var<T> operator*(double s, const Var<T>& x) {
  return pointwise(x, detail::ScaleAndShift{s, 0});
}
template <class T>
Var<T> operator/(const Var<T>& x, double s) {
  return pointwise(x, detail::ScaleAndShift{1 / s, 0});
}

}  // namespace M3I_ABI
}  // namespace m3i
