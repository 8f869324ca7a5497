#pragma once
/// Gradient clipping by the global norm.

#include <cmath>

#include "m3i/optim/optimizer.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
template <class T>
struct GradientRow {
  Index n;
  T* x;
  bool operator==(const GradientRow&) const = default;
};
template <class T>
struct ScaleGradient {
  accumulate_t<T> factor;
  M3I_HD void operator()(const GradientRow<T>& p, Index i) const { p.x[i] = T(accumulate_t<T>(p.x[i]) * factor); }
};
}  // namespace detail

/// L2 norm of all gradients together, summed in double; all on one device.
template <class T>
double gradient_norm(const std::vector<Var<T>>& parameters) {
  const Operation operation("gradient_norm");
  std::vector<Tensor<T>> gradients;
  for (const auto& p : parameters)
    if (p.has_grad()) gradients.push_back(p.grad());
  return std::sqrt(sum_of_squares(gradients));
}

/// Scales all gradients by max_norm / (norm + 1e-6) when their global norm is larger. Returns the norm before.
/// Pascanu et al. 2013, arXiv:1211.5063.
template <class T>
double clip_gradients(const std::vector<Var<T>>& parameters, double max_norm) {
  const Operation operation("clip_gradients");
  require<ConfigError>(max_norm > 0, "clip_gradients: max_norm is ", max_norm, ", expected more than 0");
  const double norm = gradient_norm(parameters), factor = max_norm / (norm + 1e-6);
  if (!(factor < 1)) return norm;
  std::vector<detail::GradientRow<T>> rows;
  for (const auto& p : parameters)
    if (p.has_grad()) rows.push_back({p.size(), p.grad().data()});
  for_each_many(parameters.front().device(), rows, detail::ScaleGradient<T>{accumulate_t<T>(factor)});
  return norm;
}

}  // namespace M3I_ABI
}  // namespace m3i
