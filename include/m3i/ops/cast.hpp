#pragma once
/// cast(): a value in another floating-point type, on the tape. Where a network in half or bf16 meets a loss in float.

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/gather.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
/// dx += factor dy
template <class To, class From>
struct AddCast {
  const To* dy;
  From* dx;
  accumulate_t<From> factor;
  M3I_HD void operator()(Index i) const {
    using A = accumulate_t<From>;
    dx[i] = From(A(dx[i]) + factor * A(accumulate_t<To>(dy[i])));
  }
};
}  // namespace detail

/// x in type To, rounded to nearest even; x itself if that is its type already. Gradient: x, rounded to x's type after
/// multiplication by `gradient_scale`: half has gradients below 2^-25 no more, and loss scaling lifts them above.
template <class To, class From>
Var<To> cast(const Var<From>& x, double gradient_scale = 1) {
  const Operation operation("cast", x);
  if constexpr (std::is_same_v<To, From>) {
    require<ConfigError>(gradient_scale == 1, "cast: no change of type, and gradients times ", gradient_scale);
    return x;
  } else {
    return record<To, From>("cast", cast<To>(x.value()), {x}, [=, dx = x.gradient()](const Tensor<To>& dy) {
      using A = accumulate_t<From>;
      for_each(dy.device(), dy.size(), detail::AddCast<To, From>{dy.data(), dx.grad().data(), A(gradient_scale)});
    });
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
