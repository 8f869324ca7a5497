#pragma once
// The networks of the benchmarks.

#include <string>

#include "m3i/models/nnformer.hpp"
#include "m3i/models/unetr.hpp"

namespace m3i::bench {

/// nnFormer's finest output alone.
template <class T>
struct Finest {
  NnFormer<T> net;
  explicit Finest(const NnFormerOptions& o) : net(o) {}
  Var<T> operator()(const Var<T>& x) const { return net(x)[0]; }
  template <class Visitor>
  void visit_fields(const Visitor& visitor) const {
    net.visit_fields(visitor);
  }
};

/// Without stochastic depth, so that peers compute the same.
inline NnFormerOptions nnformer_options(Index size, Index embedding, bool checkpoint = false) {
  NnFormerOptions o;
  o.image = {size, size, size};
  o.embedding = embedding;
  o.heads = {embedding / 32, embedding / 16, embedding / 8, embedding / 4};
  o.deep_supervision = false;
  o.drop_path = 0;
  o.checkpoint = checkpoint;
  return o;
}

/// f(of<Network>, options) for "nnformer" or "unetr" (768 wide), on volumes size^3: of<Network>::type<T> is the network
/// in type T.
template <template <class> class Net>
struct of {
  template <class T>
  using type = Net<T>;
};
template <class F>
void with_options(const std::string& name, Index size, Index embedding, bool checkpoint, const F& f) {
  if (name == "unetr") return f(of<Unetr>(), UnetrOptions{.image = {size, size, size}, .checkpoint = checkpoint});
  f(of<Finest>(), nnformer_options(size, embedding, checkpoint));
}

/// f(network), in float, the same weights each time.
template <class F>
void with_network(const std::string& name, Index size, Index embedding, bool checkpoint, const F& f) {
  seed_initializer(1);
  with_options(name, size, embedding, checkpoint, [&](auto kind, const auto& options) {
    using Network = typename decltype(kind)::template type<float>;
    f(Network(options));
  });
}

}  // namespace m3i::bench
