#pragma once
/// Mixed precision: a copy of the network in half or bf16 computes, and the weights that learn stay float.
///
///     MixedPrecision mixed(weights, copies);       // the same parameters, float and small, in one order
///     const Var<float> y = cast<float>(network_of_copies(cast<half>(x)), mixed.gradient_scale());
///     backward(loss(y));
///     mixed.collect();                             // the gradients of the weights, float and unscaled
///     optimizer.step();                            // as for a float network, clipping included
///     mixed.refresh();                             // the copies are the rounded weights again
///
/// Losses, clipping, optimiser, checkpoints and model files see float alone. Micikevicius et al. 2018,
/// arXiv:1710.03740.

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "m3i/ops/cast.hpp"
#include "m3i/optim/optimizer.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The power of two that gradients in half are multiplied by. It is as large as they allow: one that is not finite
/// halves it, many good steps in a row double it.
struct LossScale {
  static constexpr Index first = 16, largest = 24, patience = 2000;
  Index exponent = 0;  ///< 0 for bf16, which has the range of float
  Index good = 0;      ///< steps since it changed

  double value() const { return std::ldexp(1.0, int(exponent)); }
  /// After a step whose gradients were finite.
  void accept() {
    if (exponent == 0 || ++good < patience) return;
    exponent = std::min(exponent + 1, largest);
    good = 0;
  }
  /// After one whose gradients were not, and which must be skipped. False if no scale is to blame: it is 1.
  bool reduce() {
    if (exponent <= 0) return false;
    --exponent;
    good = 0;
    return true;
  }
};

namespace detail {
template <class T>
struct RoundedRow {
  Index n;
  const float* weight;
  T* copy;
  bool operator==(const RoundedRow&) const = default;
};
struct RoundWeight {
  template <class T>
  M3I_HD void operator()(const RoundedRow<T>& p, Index i) const {
    p.copy[i] = T(p.weight[i]);
  }
};

/// Adds gradients of copies to those of the weights, one parameter after the other: each copy's is freed at once.
template <class T>
void collect_gradients(const std::vector<Var<float>>& weights, const std::vector<Var<T>>& copies, float factor) {
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (!copies[i].has_grad()) continue;
    for_each(copies[i].device(), copies[i].size(),
             AddCast<T, float>{copies[i].grad().data(), weights[i].grad().data(), factor});
    copies[i].clear_grad();
  }
}
}  // namespace detail

/// Ties the parameters of a network in half or bf16 to float weights. Without copies it does nothing, and the network
/// of the weights computes itself.
class MixedPrecision {
 public:
  LossScale scale;

  MixedPrecision() = default;
  /// Parameter i of both lists is one parameter. Throws ShapeError unless they are alike.
  template <class T>
  MixedPrecision(std::vector<Var<float>> weights, std::vector<Var<T>> copies) : active_(true) {
    static_assert(is_small_float<T>);
    require(weights.size() == copies.size(), "mixed precision: ", weights.size(), " weights for ", copies.size(),
            " parameters");
    for (std::size_t i = 0; i < weights.size(); ++i)
      require(weights[i].shape() == copies[i].shape(), "mixed precision: weight ", i, " is ", weights[i].shape(),
              ", its copy ", copies[i].shape());
    if constexpr (std::is_same_v<T, half>) scale.exponent = LossScale::first;
    refresh_ = [weights, copies, table = std::make_shared<ManyTable<detail::RoundedRow<T>>>()] {
      std::vector<detail::RoundedRow<T>> rows;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const Device device = weights[i].device();
        if (copies[i].device() != device) copies[i].set_value(Tensor<T>(weights[i].shape(), device));
        copies[i].set_needs_grad(weights[i].needs_grad());
        rows.push_back({weights[i].size(), weights[i].data(), copies[i].data()});
      }
      if (rows.empty()) return;
      table->assign(weights[0].device(), rows);
      table->for_each(detail::RoundWeight{});  // in place: a recorded step reads the copies where they were
    };
    collect_ = [weights, copies](float factor) { detail::collect_gradients(weights, copies, factor); };
    refresh();
  }

  bool active() const { return active_; }
  /// Gradients inside the network are so many times too large: the factor of the cast that leaves it.
  double gradient_scale() const { return scale.value(); }
  /// The copies become the rounded weights, on their device, and learn where the weights do. After anything that has
  /// changed the weights.
  void refresh() const {
    const Operation operation("MixedPrecision");
    if (active_) refresh_();
  }
  /// After backward: adds the copies' gradients to the weights', unscaled.
  void collect() const {
    const Operation operation("MixedPrecision");
    if (active_) collect_(float(1 / scale.value()));
  }

 private:
  bool active_ = false;
  std::function<void()> refresh_;
  std::function<void(float factor)> collect_;
};

}  // namespace M3I_ABI
}  // namespace m3i
