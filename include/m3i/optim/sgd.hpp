#pragma once
/// Stochastic gradient descent with momentum: v = momentum v + g, w -= lr v. Polyak 1964; Sutskever et al. 2013, ICML.

#include "m3i/optim/optimizer.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct SgdOptions {
  double lr = 1e-2, momentum = 0, weight_decay = 0;  ///< weight_decay adds weight_decay * w to the gradient
  bool nesterov = false;
};

namespace detail {
enum class Momentum { none, heavy_ball, nesterov };

template <class T, Momentum kind>  // not a branch in the loop, which would keep it from being vectorised
struct SgdStep {
  using A = accumulate_t<T>;
  A lr, momentum, decay;
  M3I_HD void operator()(const ParameterRow<T>& p, Index i) const {
    A *w = p.weights, *velocity = p.moments[0];
    A g = A(p.grad[i]) + decay * w[i];
    if constexpr (kind != Momentum::none) {
      const A v = momentum * velocity[i] + g;
      velocity[i] = v;
      g = kind == Momentum::nesterov ? g + momentum * v : v;
    }
    w[i] -= lr * g;
  }
};
}  // namespace detail

template <class T>
class Sgd : public OptimizerState<T> {
 public:
  SgdOptions options;

  Sgd(const std::vector<Var<T>>& parameters, const SgdOptions& options_)
      : OptimizerState<T>(parameters, options_.momentum != 0 ? 1 : 0), options(options_) {}

  /// Updates every parameter that has a gradient.
  void step() {
    const Operation operation("Sgd");
    if (this->moments() == 0) update<detail::Momentum::none>();
    else if (options.nesterov) update<detail::Momentum::nesterov>();
    else update<detail::Momentum::heavy_ball>();
  }

 private:
  template <detail::Momentum kind>
  void update() {
    using A = accumulate_t<T>;
    this->step_each(detail::SgdStep<T, kind>{A(options.lr), A(options.momentum), A(options.weight_decay)});
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
