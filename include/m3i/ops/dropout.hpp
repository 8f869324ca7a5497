#pragma once
/// Dropout and stochastic depth. What is dropped is a pure function of the generator's position, so a checkpointed
/// module drops the same elements when it is computed again, and backward needs no mask in memory.

#include "m3i/autodiff/record.hpp"
#include "m3i/core/random.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
template <class T>
struct DropScale {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  Index group;  ///< elements that share one decision
  std::uint64_t seed, stream, first;
  const std::int64_t* key;  ///< of Random, or null
  double p;
  M3I_HD void operator()(Index i) const {
    const std::uint64_t index = first + std::uint64_t(i / group);
    const Philox4 r = key ? philox(std::uint64_t(key[0]), std::uint64_t(key[1]), std::uint64_t(key[2]) + index)
                          : philox(seed, stream, index);
    const A scale = unit_interval(r.x, r.y) < p ? A(0) : A(1 / (1 - p));
    y[i] = T(A(y[i]) + A(x[i]) * scale);
  }
};

template <class T>
Var<T> drop(const char* name, const Var<T>& x, double p, Index group, Random& random) {
  require<ConfigError>(p >= 0 && p < 1, name, ": probability ", p, " is outside [0, 1)");
  if (p == 0 || x.size() == 0) return x;
  require<DeviceError>(!random.key.defined() || random.key.device() == x.device(), name, ": x is on ", x.device(),
                       ", the key of its random numbers on ", random.key.device());
  const Random start = random;
  random.next += std::uint64_t(x.size() / group);
  const auto apply = [=](const Tensor<T>& from, const Tensor<T>& to) {
    for_each(from.device(), from.size(),
             DropScale<T>{from.data(), to.data(), group, start.seed, start.stream, start.next, start.key.data(), p});
  };
  const Tensor<T> y = Tensor<T>::zeros(x.shape(), x.device());
  apply(x.value(), y);
  return record<T>(name, y, {x}, [dx = x.gradient(), apply](const Tensor<T>& dy) { apply(dy, dx.grad()); });
}
}  // namespace detail

/// Each element is 0 with probability p, else x / (1 - p). Gradient: x. Draws one number an element from `random`.
/// Throws ConfigError unless 0 <= p < 1. Srivastava et al. 2014, JMLR 15, 1929-1958.
template <class T>
Var<T> dropout(const Var<T>& x, double p, Random& random) {
  const Operation operation("dropout", x);
  return detail::drop("dropout", x, p, 1, random);
}

/// Stochastic depth: each sample (entry of the leading axis) is 0 with probability p, else x / (1 - p). Gradient: x.
/// Draws one number a sample. Throws ConfigError unless 0 <= p < 1. Huang et al. 2016, arXiv:1603.09382.
template <class T>
Var<T> drop_path(const Var<T>& x, double p, Random& random) {
  const Operation operation("drop_path", x);
  require(x.rank() > 0, "drop_path: needs a batch axis, got ", x.shape());
  return detail::drop("drop_path", x, p, std::max<Index>(1, x.size() / std::max<Index>(1, x.shape()[0])), random);
}

}  // namespace M3I_ABI
}  // namespace m3i
