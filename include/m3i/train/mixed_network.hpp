#pragma once
/// run.dtype: the type that a network computes in, chosen when the program runs. Its weights are float in any case.

#include <optional>
#include <utility>
#include <vector>

#include "m3i/nn/fields.hpp"
#include "m3i/optim/mixed.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The type that a word names: f32, bf16 or f16. Throws ConfigError.
inline choice::Dtype parse_dtype(const std::string& word) {
  return detail::Codec<choice::Dtype>::read(word, {"command line", "--dtype"}, {});
}

/// The border between float and a network in T, whose gradients are `scale` times too large.
template <class T>
struct MixedBorder {
  double scale = 1;
  /// Into the network.
  Var<T> in(const Var<float>& x) const { return cast<T>(x, 1 / scale); }
  /// Out of it.
  Var<float> out(const Var<T>& y) const { return cast<float>(y, scale); }
  std::vector<Var<float>> out(const std::vector<Var<T>>& ys) const {
    std::vector<Var<float>> all;
    for (const Var<T>& y : ys) all.push_back(out(y));
    return all;
  }
};

/// Net<float> with the weights, and for f16 and bf16 its copy in that type, which computes.
template <template <class> class Net>
class MixedNetwork {
 public:
  /// `arguments` build the copy, as they have built the module of the weights.
  template <class... Arguments>
  MixedNetwork(choice::Dtype dtype, const Net<float>& weights, const Arguments&... arguments) : weights_(weights) {
    if (dtype == choice::Dtype::f16) make(half_, arguments...);
    if (dtype == choice::Dtype::bf16) make(bf16_, arguments...);
  }

  MixedPrecision& precision() const { return precision_; }

  /// f(network, border) with the network that computes; f casts with border.in and border.out.
  template <class F>
  auto run(const F& f) const {
    if (half_) return f(*half_, MixedBorder<half>{precision_.gradient_scale()});
    if (bf16_) return f(*bf16_, MixedBorder<bf16>{precision_.gradient_scale()});
    return f(weights_, MixedBorder<float>{});
  }
  /// network(x, mode): float in, float out.
  template <class... More>
  auto operator()(const Var<float>& x, const More&... more) const {
    return run([&](const auto& network, const auto& border) { return border.out(network(border.in(x), more...)); });
  }

 private:
  template <class T, class... Arguments>
  void make(std::optional<Net<T>>& copy, const Arguments&... arguments) {
    copy.emplace(arguments...);
    precision_ = MixedPrecision(parameters<float>(weights_), parameters<T>(*copy));
  }

  Net<float> weights_;
  std::optional<Net<half>> half_;
  std::optional<Net<bf16>> bf16_;
  mutable MixedPrecision precision_;
};

}  // namespace M3I_ABI
}  // namespace m3i
