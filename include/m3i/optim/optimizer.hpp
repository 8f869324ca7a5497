#pragma once
/// What optimisers share: parameters with float master weights, and a state that can be saved under names.

#include <string>
#include <utility>
#include <vector>

#include "m3i/autodiff/variable.hpp"
#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/for_each_many.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/kernels/math.hpp"
#include "m3i/kernels/reduce.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// One parameter with its moments. half and bf16 parameters keep a float master copy: updates smaller than half a unit
/// in the last place would be lost otherwise.
template <class T>
struct ParameterState {
  using A = accumulate_t<T>;
  Var<T> parameter;
  Tensor<A> master;                ///< only for half and bf16
  std::vector<Tensor<A>> moments;  ///< as many as the optimiser has

  ParameterState(const Var<T>& p, int count) : parameter(p) {
    if constexpr (is_small_float<T>) master = cast<A>(p.value());
    for (int i = 0; i < count; ++i) moments.push_back(Tensor<A>::zeros(p.shape(), p.device()));
  }
  A* weights() const {
    if constexpr (is_small_float<T>) return master.data();
    else return parameter.data();
  }
};

/// State tensors by name ("0.moment0", ..., "0.master"), for checkpoints. Loading copies into them.
template <class T>
std::vector<std::pair<std::string, Tensor<accumulate_t<T>>>> state_tensors(
    const std::vector<ParameterState<T>>& states) {
  std::vector<std::pair<std::string, Tensor<accumulate_t<T>>>> out;
  for (std::size_t i = 0; i < states.size(); ++i) {
    for (std::size_t k = 0; k < states[i].moments.size(); ++k)
      out.emplace_back(text(i, ".moment", k), states[i].moments[k]);
    if (states[i].master.defined()) out.emplace_back(text(i, ".master"), states[i].master);
  }
  return out;
}

template <class T>
std::vector<ParameterState<T>> parameter_states(const std::vector<Var<T>>& parameters, int moments) {
  const Operation operation("optimiser state");
  std::vector<ParameterState<T>> states;
  for (const auto& p : parameters) states.emplace_back(p, moments);
  return states;
}

/// What an update of one element gets: update(p, i) changes p.weights[i] and p.moments[k][i] by p.grad[i].
template <class T>
struct ParameterRow {
  using A = accumulate_t<T>;
  Index n;
  A* weights;
  A* moments[3];
  T* parameter;  ///< where the weights are stored, rounded, when they are a master copy
  const T* grad;
  bool operator==(const ParameterRow&) const = default;

  explicit ParameterRow(const ParameterState<T>& s)
      : n(s.parameter.size()),
        weights(s.weights()),
        moments{},
        parameter(s.parameter.data()),
        grad(s.parameter.grad().data()) {
    for (std::size_t k = 0; k < s.moments.size(); ++k) moments[k] = s.moments[k].data();
  }
};

namespace detail {
template <class T, class Update>
struct UpdateElement {
  Update update;
  M3I_HD void operator()(const ParameterRow<T>& p, Index i) const {
    update(p, i);
    if constexpr (is_small_float<T>) p.parameter[i] = T(p.weights[i]);
  }
};
}  // namespace detail

/// What every optimiser carries from step to step: its parameters with their moments, and the number of steps.
/// Build it when the parameters have their first values and are on their device.
template <class T>
class OptimizerState {
 public:
  Index steps() const { return steps_; }
  void set_steps(Index steps) { steps_ = steps; }
  auto state() const { return state_tensors(states_); }

 protected:
  OptimizerState(const std::vector<Var<T>>& parameters, int moments)
      : states_(parameter_states(parameters, moments)), moments_(moments) {}

  /// Tensors kept for each parameter, as decided at the start.
  int moments() const { return moments_; }

  /// update(row, i) for every element of every parameter that has a gradient, in one launch.
  template <class Update>
  void step_each(const Update& update) {
    gather_rows();
    table_.for_each(detail::UpdateElement<T, Update>{update});
    ++steps_;
  }

 private:
  void gather_rows() {
    std::vector<ParameterRow<T>> rows;
    Device device;
    for (const auto& s : states_) {
      if (!s.parameter.has_grad()) continue;
      require<ConfigError>(rows.empty() || s.parameter.device() == device, "optimiser: parameters on ", device,
                           " and on ", s.parameter.device(), "; give each device an optimiser of its own");
      device = s.parameter.device();
      rows.emplace_back(s);
    }
    table_.assign(device, rows);
  }

  std::vector<ParameterState<T>> states_;
  ManyTable<ParameterRow<T>> table_;
  int moments_;
  Index steps_ = 0;
};

template <class T>
void clear_gradients(const std::vector<Var<T>>& parameters) {
  for (const auto& p : parameters) p.clear_grad();
}

}  // namespace M3I_ABI
}  // namespace m3i
