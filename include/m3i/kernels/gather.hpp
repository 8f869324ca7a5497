#pragma once
/// y[i] = x[map(i)], the transpose of such a map when it is one to one, and conversion of element types.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
template <class T, class Map>
struct Gather {
  const T* x;
  T* y;
  Map map;
  M3I_HD void operator()(Index i) const {
    const Index source = map(i);
    y[i] = source < 0 ? T(0.0f) : x[source];
  }
};
template <class T, class Map>
struct GatherAdd {
  const T* x;
  T* y;
  Map map;
  M3I_HD void operator()(Index i) const {
    using A = accumulate_t<T>;
    const Index source = map(i);
    if (source >= 0) y[i] = T(A(y[i]) + A(x[source]));
  }
};
template <class T, class Map>
struct Scatter {
  const T* x;
  T* y;
  Map map;
  M3I_HD void operator()(Index i) const {
    const Index target = map(i);
    if (target >= 0) y[target] = x[i];
  }
};
template <class T, class Map>
struct ScatterAdd {
  const T* x;
  T* y;
  Map map;
  M3I_HD void operator()(Index i) const {
    using A = accumulate_t<T>;
    const Index target = map(i);
    if (target >= 0) y[target] = T(A(y[target]) + A(x[i]));
  }
};
template <class T, class U>
struct Cast {
  const T* x;
  U* y;
  M3I_HD void operator()(Index i) const { y[i] = U(accumulate_t<T>(x[i])); }
};
}  // namespace detail

/// The map i -> i.
struct SameIndex {
  M3I_HD Index operator()(Index i) const { return i; }
};

/// y[i] = x[map(i)] for all i of y; a negative map(i) gives 0.
template <class T, class Map>
void gather(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  for_each(y.device(), y.size(), detail::Gather<T, Map>{x.data(), y.data(), map});
}
/// y[i] += x[map(i)]
template <class T, class Map>
void gather_add(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  for_each(y.device(), y.size(), detail::GatherAdd<T, Map>{x.data(), y.data(), map});
}
/// y[map(i)] = x[i], for a map that gives no target twice.
template <class T, class Map>
void scatter(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  for_each(x.device(), x.size(), detail::Scatter<T, Map>{x.data(), y.data(), map});
}
/// y[map(i)] += x[i], for a map that gives no target twice (then no two threads meet).
template <class T, class Map>
void scatter_add(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  for_each(x.device(), x.size(), detail::ScatterAdd<T, Map>{x.data(), y.data(), map});
}
/// The tensor in another floating-point type.
template <class U, class T>
Tensor<U> cast(const Tensor<T>& x) {
  if constexpr (std::is_same_v<T, U>) {
    return x;
  } else {
    Tensor<U> y(x.shape(), x.device());
    for_each(x.device(), x.size(), detail::Cast<T, U>{x.data(), y.data()});
    return y;
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
