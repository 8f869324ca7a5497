#pragma once
/// Stochastic gradient descent with momentum.

#include "m3i/optim/optimizer.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct SgdOptions {
  double lr = 1e-2, momentum = 0, weight_decay = 0;  ///< weight_decay adds weight_decay * w to the gradient
  bool nesterov = false;
};

namespace detail {
template <class T>
struct SgdStep {
  using A = accumulate_t<T>;
  A* w;
  const T* grad;
  A* velocity;
  A lr, momentum, decay;
  bool nesterov, first;
  M3I_HD void operator()(Index i) const {
    A g = A(grad[i]) + decay * w[i];
    if (velocity) {
      const A v = first ? g : momentum * velocity[i] + g;  // the first step takes the gradient whole, as PyTorch
      velocity[i] = v;
      g = nesterov ? g + momentum * v : v;
    }
    w[i] -= lr * g;
  }
};
}  // namespace detail

template <class T>
class Sgd {
 public:
  SgdOptions options;

  Sgd(const std::vector<Var<T>>& parameters, const SgdOptions& options_)
      : options(options_), states_(parameter_states(parameters, options_.momentum != 0 ? 1 : 0)) {}

  /// Updates every parameter that has a gradient.
  void step() {
    using A = accumulate_t<T>;
    for (const auto& s : states_) {
      if (!s.parameter.has_grad()) continue;
      A* velocity = s.moments.empty() ? nullptr : s.moments[0].data();
      for_each(s.parameter.device(), s.parameter.size(),
               detail::SgdStep<T>{s.weights(), s.parameter.grad().data(), velocity, A(options.lr), A(options.momentum),
                                  A(options.weight_decay), options.nesterov, steps_ == 0});
      store_master(s);
    }
    ++steps_;
  }

  Index steps() const { return steps_; }
  void set_steps(Index steps) { steps_ = steps; }
  auto state() const { return state_tensors(states_); }

 private:
  std::vector<ParameterState<T>> states_;
  Index steps_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
