#pragma once
/// Gradient clipping by the global norm.

#include <cmath>

#include "m3i/optim/optimizer.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// L2 norm of all gradients together, summed in double.
template <class T>
double gradient_norm(const std::vector<Var<T>>& parameters) {
  double total = 0;
  for (const auto& p : parameters)
    if (p.has_grad()) total += sum_of_squares(p.grad());
  return std::sqrt(total);
}

namespace detail {
template <class T>
struct ScaleGradient {
  T* x;
  accumulate_t<T> factor;
  M3I_HD void operator()(Index i) const { x[i] = T(accumulate_t<T>(x[i]) * factor); }
};
}  // namespace detail

/// Scales all gradients by max_norm / (norm + 1e-6) when their global norm is larger. Returns the norm before.
/// Pascanu et al. 2013, arXiv:1211.5063.
template <class T>
double clip_gradients(const std::vector<Var<T>>& parameters, double max_norm) {
  require<ConfigError>(max_norm > 0, "clip_gradients: max_norm is ", max_norm, ", expected more than 0");
  const double norm = gradient_norm(parameters), factor = max_norm / (norm + 1e-6);
  if (factor < 1)
    for (const auto& p : parameters)
      if (p.has_grad())
        for_each(p.device(), p.size(), detail::ScaleGradient<T>{p.grad().data(), accumulate_t<T>(factor)});
  return norm;
}

}  // namespace M3I_ABI
}  // namespace m3i
