#pragma once
/// One input, one output, element by element. An operation is a struct with `name`, `value(x)` and one of `slope(x)`,
/// which keeps x until backward, `slope_of_value(y)`, which keeps only the result, and `constant_slope()`, which keeps
/// nothing. A result whose x is kept, or can be computed again, is computed again rather than kept.

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/math.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

template <class T, class Op>
struct PointwiseValue {
  const T* x;
  T* y;
  Op op;
  M3I_HD void operator()(Index i) const { y[i] = T(op.value(accumulate_t<T>(x[i]))); }
};

template <class Op, class A>
concept SlopeOfValue = requires(const Op op, A y) {
  op.slope_of_value(y);
};
template <class Op>
concept ConstantSlope = requires(const Op op) {
  op.constant_slope();
};

template <class T, class Op>
struct PointwiseGrad {
  using A = accumulate_t<T>;
  const T* kept;  // x, y where the slope follows from the value, or null
  const T* dy;
  T* dx;
  Op op;
  M3I_HD void operator()(Index i) const {
    A slope;
    if constexpr (ConstantSlope<Op>) slope = A(op.constant_slope());
    else if constexpr (SlopeOfValue<Op, A>) slope = op.slope_of_value(A(kept[i]));
    else slope = op.slope(A(kept[i]));
    dx[i] = T(A(dx[i]) + A(dy[i]) * slope);
  }
};

template <class T, class Op>
Tensor<T> pointwise_value(const Tensor<T>& x, Op op) {
  const Tensor<T> y(x.shape(), x.device());
  for_each(x.device(), x.size(), PointwiseValue<T, Op>{x.data(), y.data(), op});
  return y;
}

}  // namespace detail

/// y_i = op.value(x_i), any shape. Gradient: x.
template <class Op, class T>
Var<T> pointwise(const Var<T>& x, Op op = {}) {
  const Operation operation(Op::name, x);
  const Tensor<T> y = detail::pointwise_value(x.value(), op);
  if (!x.needs_grad() || !grad_enabled()) return record<T>(Op::name, y, {x}, nullptr);
  constexpr bool reads_y = detail::SlopeOfValue<Op, accumulate_t<T>>;
  constexpr bool reads_x = !reads_y && !detail::ConstantSlope<Op>;
  std::shared_ptr<Recipe<T>> recipe;
  if (reads_x || x.kept().recipes() > 0)
    recipe = recipe_from<T>({x.kept()}, [x = x.kept(), op] { return detail::pointwise_value(x.value(), op); });
  Kept<T> kept;
  if constexpr (reads_x) kept = x.kept();
  else if constexpr (reads_y) kept = Kept<T>(std::make_shared<Tensor<T>>(y), recipe);
  const auto backward = [dx = x.gradient(), kept, op](const Tensor<T>& dy) {
    const T* read = kept.defined() ? kept.data() : nullptr;
    for_each(dy.device(), dy.size(), detail::PointwiseGrad<T, Op>{read, dy.data(), dx.grad().data(), op});
  };
  return record<T>(Op::name, y, {x}, backward).recomputable(recipe);
}

/// max(x, 0); slope 0 at 0. NaN stays NaN.
struct Relu {
  static constexpr const char* name = "relu";
  template <class A>
  M3I_HD A value(A x) const {
    return x <= 0 ? A(0) : x;
  }
  template <class A>
  M3I_HD A slope_of_value(A y) const {
    return y > 0 ? A(1) : A(0);
  }
};
/// x, or negative_slope * x below 0.
struct LeakyRelu {
  static constexpr const char* name = "leaky_relu";
  double negative_slope = 0.01;
  template <class A>
  M3I_HD A value(A x) const {
    return x > 0 ? x : A(negative_slope) * x;
  }
  template <class A>
  M3I_HD A slope_of_value(A y) const {
    return y > 0 ? A(1) : A(negative_slope);
  }
};
/// x * Phi(x), Phi the normal distribution. Hendrycks and Gimpel 2016, arXiv:1606.08415.
struct Gelu {
  static constexpr const char* name = "gelu";
  template <class A>
  M3I_HD A value(A x) const {
    return A(0.5) * x * (1 + math::erf(x * A(0.70710678118654752440)));
  }
  template <class A>
  M3I_HD A slope(A x) const {
    const auto e = math::erf_gauss(x * A(0.70710678118654752440));
    return A(0.5) * (1 + e.erf) + x * e.gauss * A(0.39894228040143267794);
  }
};
/// The tanh form of GELU: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
struct GeluTanh {
  static constexpr const char* name = "gelu_tanh";
  template <class A>
  M3I_HD A value(A x) const {
    return A(0.5) * x * (1 + math::tanh(A(0.79788456080286535588) * (x + A(0.044715) * x * x * x)));
  }
  template <class A>
  M3I_HD A slope(A x) const {
    const A t = math::tanh(A(0.79788456080286535588) * (x + A(0.044715) * x * x * x));
    return A(0.5) * (1 + t) + A(0.5) * x * (1 - t * t) * A(0.79788456080286535588) * (1 + 3 * A(0.044715) * x * x);
  }
};
/// x * sigmoid(1.702 x): the GELU of CLIP.
struct QuickGelu {
  static constexpr const char* name = "quick_gelu";
  template <class A>
  M3I_HD A value(A x) const {
    return x * math::sigmoid(A(1.702) * x);
  }
  template <class A>
  M3I_HD A slope(A x) const {
    const A s = math::sigmoid(A(1.702) * x);
    return s + A(1.702) * x * s * (1 - s);
  }
};
/// x * sigmoid(x)
struct Silu {
  static constexpr const char* name = "silu";
  template <class A>
  M3I_HD A value(A x) const {
    return x * math::sigmoid(x);
  }
  template <class A>
  M3I_HD A slope(A x) const {
    const A s = math::sigmoid(x);
    return s + x * s * (1 - s);
  }
};
/// 1 / (1 + e^-x)
struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  template <class A>
  M3I_HD A value(A x) const {
    return math::sigmoid(x);
  }
  template <class A>
  M3I_HD A slope_of_value(A y) const {
    return y * (1 - y);
  }
};
struct Tanh {
  static constexpr const char* name = "tanh";
  template <class A>
  M3I_HD A value(A x) const {
    return math::tanh(x);
  }
  template <class A>
  M3I_HD A slope_of_value(A y) const {
    return 1 - y * y;
  }
};
/// log(1 + e^x)
struct Softplus {
  static constexpr const char* name = "softplus";
  template <class A>
  M3I_HD A value(A x) const {
    return math::softplus(x);
  }
  template <class A>
  M3I_HD A slope(A x) const {
    return math::sigmoid(x);
  }
};
struct Exp {
  static constexpr const char* name = "exp";
  template <class A>
  M3I_HD A value(A x) const {
    return math::exp(x);
  }
  template <class A>
  M3I_HD A slope_of_value(A y) const {
    return y;
  }
};
struct Log {
  static constexpr const char* name = "log";
  template <class A>
  M3I_HD A value(A x) const {
    return math::log(x);
  }
  template <class A>
  M3I_HD A slope(A x) const {
    return 1 / x;
  }
};
struct Sqrt {
  static constexpr const char* name = "sqrt";
  template <class A>
  M3I_HD A value(A x) const {
    return math::sqrt(x);
  }
  template <class A>
  M3I_HD A slope_of_value(A y) const {
    return A(0.5) / y;
  }
};
struct Square {
  static constexpr const char* name = "square";
  template <class A>
  M3I_HD A value(A x) const {
    return x * x;
  }
  template <class A>
  M3I_HD A slope(A x) const {
    return 2 * x;
  }
};
/// |x|; slope 0 at 0.
struct Abs {
  static constexpr const char* name = "abs";
  template <class A>
  M3I_HD A value(A x) const {
    return math::abs(x);
  }
  template <class A>
  M3I_HD A slope(A x) const {
    return A(x > 0) - A(x < 0);
  }
};

template <class T>
Var<T> relu(const Var<T>& x) {
  return pointwise<Relu>(x);
}
template <class T>
Var<T> leaky_relu(const Var<T>& x, double negative_slope = 0.01) {
  require<ConfigError>(negative_slope >= 0, "leaky_relu: negative_slope ", negative_slope,
                       " must be 0 or more: the gradient takes the side of x from the sign of the result");
  return pointwise(x, LeakyRelu{negative_slope});
}
template <class T>
Var<T> gelu(const Var<T>& x) {
  return pointwise<Gelu>(x);
}
template <class T>
Var<T> gelu_tanh(const Var<T>& x) {
  return pointwise<GeluTanh>(x);
}
template <class T>
Var<T> quick_gelu(const Var<T>& x) {
  return pointwise<QuickGelu>(x);
}
template <class T>
Var<T> silu(const Var<T>& x) {
  return pointwise<Silu>(x);
}
template <class T>
Var<T> sigmoid(const Var<T>& x) {
  return pointwise<Sigmoid>(x);
}
template <class T>
Var<T> tanh(const Var<T>& x) {
  return pointwise<Tanh>(x);
}
template <class T>
Var<T> softplus(const Var<T>& x) {
  return pointwise<Softplus>(x);
}
template <class T>
Var<T> exp(const Var<T>& x) {
  return pointwise<Exp>(x);
}
template <class T>
Var<T> log(const Var<T>& x) {
  return pointwise<Log>(x);
}
template <class T>
Var<T> sqrt(const Var<T>& x) {
  return pointwise<Sqrt>(x);
}
template <class T>
Var<T> square(const Var<T>& x) {
  return pointwise<Square>(x);
}
template <class T>
Var<T> abs(const Var<T>& x) {
  return pointwise<Abs>(x);
}

}  // namespace M3I_ABI
}  // namespace m3i
