#pragma once
/// Gradient checkpointing: recompute instead of keep. Chen et al. 2016, arXiv:1604.06174.

#include <utility>

#include "m3i/autodiff/backward.hpp"
#include "m3i/core/random.hpp"
#include "m3i/kernels/gather.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// y = f(x) of which only x is kept until backward, which calls f again.
///
/// f is copied and must give the same result twice; what it refers to must live until backward. If it draws random
/// numbers (dropout), hand over the generator, which must live as long: its state is restored for the second call.
template <class T, class F>
Var<T> checkpoint(F f, const Var<T>& x, Random* random = nullptr) {
  if (!grad_enabled()) return f(x);
  const Random before = random ? *random : Random(0);
  Tensor<T> y;
  {
    NoGrad guard;
    y = f(x).value();
  }
  // Recorded even when x needs no gradient: the parameters inside f may.
  return record_node<T>("checkpoint", std::move(y), {x.node()},
                        [f = std::move(f), x, random, before](const Tensor<T>& dy) {
                          const Random now = random ? std::exchange(*random, before) : Random(0);
                          const Var<T> again(x.value(), x.needs_grad());
                          const Var<T> result = f(again);
                          if (result.needs_grad()) backward(result, dy);
                          if (random) *random = now;
                          if (x.needs_grad() && again.has_grad()) gather_add(again.grad(), x.grad(), SameIndex{});
                        });
}

}  // namespace M3I_ABI
}  // namespace m3i
