#pragma once
/// y[i] = x[map(i)], the transpose of such a map when it is one to one, and conversion of element types.

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The map i -> i.
struct SameIndex {
  M3I_HD Index operator()(Index i) const { return i; }
};

namespace detail {

/// to[at(i)] = from[i] (scatter) or to[i] = from[at(i)] (gather), or += with `add`.
template <class T, class Map, bool scatter, bool add>
struct Move {
  const T* from;
  T* to;
  Map map;
  M3I_HD void operator()(Index i) const {
    using A = accumulate_t<T>;
    const Index mapped = map(i), source = scatter ? i : mapped, target = scatter ? mapped : i;
    if constexpr (!scatter && !add) to[target] = source < 0 ? T(0.0f) : from[source];
    else if (mapped >= 0) to[target] = add ? T(A(to[target]) + A(from[source])) : from[source];
  }
};
template <class T, bool add>
void move_run(const T* M3I_RESTRICT from, T* M3I_RESTRICT to, Index n) {
  using A = accumulate_t<T>;
  M3I_SIMD
  for (Index i = 0; i < n; ++i) to[i] = add ? T(A(to[i]) + A(from[i])) : from[i];
}

/// A map may say that it takes run(n) indices in a row to indices in a row, the runs dividing n, all inside: the host
/// then asks once a run and moves the rest as vectors, instead of dividing for every element.
template <class Map>
Index run_of(const Map& map, Index n) {
  if constexpr (std::is_same_v<Map, SameIndex>) return n;
  else if constexpr (requires { map.run(); }) return map.run();
  else return 1;
}

template <bool scatter, bool add, class T, class Map>
void move(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  const Index n = scatter ? x.size() : y.size(), run = run_of(map, n);
  const T* from = x.data();
  T* to = y.data();
  if (y.device().kind != Device::Kind::cpu || run <= 1)
    return for_each(y.device(), n, Move<T, Map, scatter, add>{from, to, map});
  if (run == n) {
    const Index at = map(0);
    parallel_chunks(n, for_each_grain, [&](Index begin, Index end) {
      move_run<T, add>(from + begin + (scatter ? 0 : at), to + begin + (scatter ? at : 0), end - begin);
    });
    return;
  }
  parallel_chunks(n / run, std::max<Index>(1, for_each_grain / run), [&](Index begin, Index end) {
    for (Index i = begin * run; i < end * run; i += run) {
      const Index at = map(i);
      move_run<T, add>(from + (scatter ? i : at), to + (scatter ? at : i), run);
    }
  });
}

template <class T, class U>
struct Cast {
  const T* x;
  U* y;
  M3I_HD void operator()(Index i) const { y[i] = U(accumulate_t<T>(x[i])); }
};
}  // namespace detail

/// y[i] = x[map(i)] for all i of y; a negative map(i) gives 0.
template <class T, class Map>
void gather(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  detail::move<false, false>(x, y, map);
}
/// y[i] += x[map(i)]
template <class T, class Map>
void gather_add(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  detail::move<false, true>(x, y, map);
}
/// y[map(i)] = x[i], for a map that gives no target twice.
template <class T, class Map>
void scatter(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  detail::move<true, false>(x, y, map);
}
/// y[map(i)] += x[i], for a map that gives no target twice (then no two threads meet).
template <class T, class Map>
void scatter_add(const Tensor<T>& x, const Tensor<T>& y, const Map& map) {
  detail::move<true, true>(x, y, map);
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
