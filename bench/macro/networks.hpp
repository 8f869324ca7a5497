#pragma once
// The networks of the benchmarks.

#include <string>

#include "m3i/models/nnformer.hpp"
#include "m3i/models/unetr.hpp"

namespace m3i::bench {

/// nnFormer's finest output alone.
struct Finest {
  NnFormer<float> net;
  Var<float> operator()(const Var<float>& x) const { return net(x)[0]; }
  template <class Visitor>
  void visit_fields(const Visitor& visitor) const {
    net.visit_fields(visitor);
  }
};

/// f(network) for "nnformer" or "unetr" (768 wide), on volumes size^3, the same weights each time. nnFormer has no
/// stochastic depth here, so that its peers compute the same.
template <class F>
void with_network(const std::string& name, Index size, Index embedding, bool checkpoint, const F& f) {
  seed_initializer(1);
  if (name == "unetr") return f(Unetr<float>({.image = {size, size, size}, .checkpoint = checkpoint}));
  NnFormerOptions o;
  o.image = {size, size, size};
  o.embedding = embedding;
  o.heads = {embedding / 32, embedding / 16, embedding / 8, embedding / 4};
  o.deep_supervision = false;
  o.drop_path = 0;
  o.checkpoint = checkpoint;
  f(Finest{NnFormer<float>(o)});
}

}  // namespace m3i::bench
