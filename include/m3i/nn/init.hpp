#pragma once
/// Initial values. Constructors of modules draw from one generator a thread, so that layers need no extra argument;
/// seed_initializer() before building a network makes it reproducible.

#include <cmath>

#include "m3i/autodiff/variable.hpp"
#include "m3i/core/random.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Whether a module trains, and where it draws random numbers from (dropout, stochastic depth). The default evaluates.
struct Mode {
  bool training = false;
  Random* random = nullptr;
  /// The generator where something is to be dropped, else nothing.
  Random* dropping(double p) const {
    if (!training || p <= 0) return nullptr;
    require(random != nullptr, "mode: training with dropout needs a random generator");
    return random;
  }
};

inline Random& initializer() {
  static thread_local Random random(0, 0x696e6974);
  return random;
}
inline void seed_initializer(std::uint64_t seed) { initializer() = Random(seed, 0x696e6974); }

/// A parameter from a normal distribution cut at two deviations.
template <class T>
Var<T> normal_parameter(const Shape& shape, double deviation) {
  return Var<T>(truncated_normal_tensor<T>(shape, initializer(), deviation), true);
}
/// Uniform in +-1/sqrt(fan_in): PyTorch's default for linear layers and convolutions.
template <class T>
Var<T> fan_in_parameter(const Shape& shape, Index fan_in) {
  const double bound = 1 / std::sqrt(double(fan_in > 0 ? fan_in : 1));
  return Var<T>(uniform_tensor<T>(shape, initializer(), -bound, bound), true);
}
template <class T>
Var<T> constant_parameter(const Shape& shape, double value) {
  return Var<T>(Tensor<T>::full(shape, T(value)), true);
}

}  // namespace M3I_ABI
}  // namespace m3i
