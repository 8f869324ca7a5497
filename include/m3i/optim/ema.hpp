#pragma once
/// Exponential moving average of parameters.

#include "m3i/optim/optimizer.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
template <class T>
struct EmaRow {
  Index n;
  accumulate_t<T>* average;
  const T* w;
  bool operator==(const EmaRow&) const = default;
};
template <class T>
struct EmaStep {
  using A = accumulate_t<T>;
  A decay;
  M3I_HD void operator()(const EmaRow<T>& p, Index i) const {
    p.average[i] = decay * p.average[i] + (1 - decay) * A(p.w[i]);
  }
};
}  // namespace detail

/// average = decay * average + (1 - decay) * weights, after each step.
template <class T>
class Ema {
 public:
  Ema(const std::vector<Var<T>>& parameters, double decay) : parameters_(parameters), decay_(decay) {
    const Operation operation("Ema");
    require<ConfigError>(decay >= 0 && decay < 1, "ema: decay is ", decay, ", expected [0, 1)");
    for (const auto& p : parameters) averages_.push_back(cast<accumulate_t<T>>(p.value()).clone());
  }
  void update() {
    const Operation operation("Ema");
    if (averages_.empty()) return;
    std::vector<detail::EmaRow<T>> rows;
    for (std::size_t i = 0; i < averages_.size(); ++i)
      rows.push_back({parameters_[i].size(), averages_[i].data(), parameters_[i].data()});
    table_.assign(parameters_[0].device(), rows);
    table_.for_each(detail::EmaStep<T>{accumulate_t<T>(decay_)});
  }
  /// Exchanges averages and weights; call again to undo.
  void swap() {
    for (std::size_t i = 0; i < averages_.size(); ++i) {
      const auto weights = cast<accumulate_t<T>>(parameters_[i].value()).clone();
      parameters_[i].value().copy_from(cast<T>(averages_[i]));
      averages_[i] = weights;
    }
  }

 private:
  std::vector<Var<T>> parameters_;
  std::vector<Tensor<accumulate_t<T>>> averages_;
  ManyTable<detail::EmaRow<T>> table_;
  double decay_;
};

}  // namespace M3I_ABI
}  // namespace m3i
