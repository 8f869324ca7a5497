#pragma once
/// The two-layer perceptron of transformer blocks.

#include "m3i/nn/linear.hpp"
#include "m3i/ops/dropout.hpp"
#include "m3i/ops/pointwise.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class Activation { gelu, quick_gelu, gelu_tanh, relu };

template <class T>
Var<T> activate(const Var<T>& x, Activation activation) {
  switch (activation) {
    case Activation::quick_gelu: return quick_gelu(x);
    case Activation::gelu_tanh: return gelu_tanh(x);
    case Activation::relu: return relu(x);
    case Activation::gelu: break;
  }
  return gelu(x);
}

template <class T>
struct Mlp {
  Linear<T> fc1, fc2;
  Activation activation = Activation::gelu;

  Mlp(Index channels, Index hidden, Index out, Activation activation_ = Activation::gelu)
      : fc1(channels, hidden), fc2(hidden, out), activation(activation_) {}
  Mlp(Index channels, Index hidden) : Mlp(channels, hidden, channels) {}

  /// x [..., channels] -> [..., out]
  Var<T> operator()(const Var<T>& x) const {
    Var<T> y = fc1(x);
    y = activate(y, activation);  // the input of it can go before the last product
    return fc2(y);
  }
  M3I_FIELDS(fc1, fc2)
};

/// x + y, with y dropped for a whole sample with probability p while training (stochastic depth).
template <class T>
Var<T> residual(const Var<T>& x, const Var<T>& y, double p, const Mode& mode) {
  if (Random* random = mode.dropping(p)) return x + drop_path(y, p, *random);
  return x + y;
}

}  // namespace M3I_ABI
}  // namespace m3i
