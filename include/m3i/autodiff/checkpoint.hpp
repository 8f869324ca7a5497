#pragma once
/// Gradient checkpointing: recompute instead of keep. Chen et al. 2016, arXiv:1604.06174.

#include <utility>
#include <vector>

#include "m3i/autodiff/backward.hpp"
#include "m3i/core/random.hpp"
#include "m3i/kernels/gather.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// y = f(inputs) of which only the inputs are kept until backward, which calls f again. f takes the vector.
///
/// f is copied and must give the same result twice; what it refers to must live until backward. If it draws random
/// numbers (dropout), hand over the generator, which must live as long: its state is restored for the second call.
template <class T, class F>
Var<T> checkpoint(F f, const std::vector<Var<T>>& inputs, Random* random = nullptr) {
  if (!grad_enabled()) return f(inputs);
  const Random before = random ? *random : Random(0);
  Tensor<T> y;
  {
    NoGrad guard;
    y = f(inputs).value();
  }
  std::vector<std::shared_ptr<detail::TapeNode>> nodes;
  std::vector<Kept<T>> kept;
  for (const Var<T>& x : inputs) nodes.push_back(x.node()), kept.push_back(x.kept());
  // Recorded even when no input needs a gradient: the parameters inside f may.
  return record_node<T>("checkpoint", std::move(y), std::move(nodes),
                        [f = std::move(f), kept, random, before](const Tensor<T>& dy) {
                          const Random now = random ? std::exchange(*random, before) : Random(0);
                          std::vector<Var<T>> again;
                          for (const Kept<T>& x : kept) again.emplace_back(x.value(), x.needs_grad());
                          const Var<T> result = f(again);
                          if (result.needs_grad()) backward(result, dy);
                          if (random) *random = now;
                          for (std::size_t i = 0; i < kept.size(); ++i)
                            if (kept[i].needs_grad() && again[i].has_grad())
                              gather_add(again[i].grad(), kept[i].grad(), SameIndex{});
                        });
}

/// The same for a function of one input.
template <class T, class F>
Var<T> checkpoint(F f, const Var<T>& x, Random* random = nullptr) {
  return checkpoint([f = std::move(f)](const std::vector<Var<T>>& inputs) { return f(inputs[0]); },
                    std::vector<Var<T>>{x}, random);
}

}  // namespace M3I_ABI
}  // namespace m3i
