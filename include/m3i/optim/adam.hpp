#pragma once
/// Adam and AdamW. Kingma and Ba 2015, arXiv:1412.6980; Loshchilov and Hutter 2019, arXiv:1711.05101.

#include <cmath>

#include "m3i/optim/optimizer.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;  ///< AdamW: decay the weights themselves instead of adding to the gradient
  bool amsgrad = false;    ///< divide by the largest second moment so far. Reddi et al. 2018
};

namespace detail {
template <class T, bool amsgrad>  // not a branch in the loop: g++ -O2 would not vectorise it, at a tenth of the speed
struct AdamStep {
  using A = accumulate_t<T>;
  A lr, beta1, beta2, eps, l2, shrink;  // l2: decay through the gradient; shrink: factor on the weights
  A correction1, correction2;           // 1 - beta^t
  M3I_HD void operator()(const ParameterRow<T>& p, Index i) const {
    A *w = p.weights, *first = p.moments[0], *second = p.moments[1];
    const A g = A(p.grad[i]) + l2 * w[i];
    const A m = beta1 * first[i] + (1 - beta1) * g;
    const A v = beta2 * second[i] + (1 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    A scale = v;
    if constexpr (amsgrad) p.moments[2][i] = scale = math::max(p.moments[2][i], v);
    w[i] = shrink * w[i] - lr / correction1 * m / (math::sqrt(scale) / math::sqrt(correction2) + eps);
  }
};
}  // namespace detail

/// Adam; AdamW with `decoupled`.
template <class T>
class Adam : public OptimizerState<T> {
 public:
  AdamOptions options;

  Adam(const std::vector<Var<T>>& parameters, const AdamOptions& options_)
      : OptimizerState<T>(parameters, options_.amsgrad ? 3 : 2), options(options_) {}

  /// Updates every parameter that has a gradient.
  void step() {
    const Operation operation("Adam");
    if (this->moments() == 3) update<true>();
    else update<false>();
  }

 private:
  template <bool amsgrad>
  void update() {
    using A = accumulate_t<T>;
    const double t = double(this->steps() + 1);
    const A correction1 = A(1 - std::pow(options.beta1, t)), correction2 = A(1 - std::pow(options.beta2, t));
    const A l2 = A(options.decoupled ? 0 : options.weight_decay);
    const A shrink = A(options.decoupled ? 1 - options.lr * options.weight_decay : 1);
    this->step_each(detail::AdamStep<T, amsgrad>{A(options.lr), A(options.beta1), A(options.beta2), A(options.eps), l2,
                                                 shrink, correction1, correction2});
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
