#pragma once
/// record(): the one way onto the tape.

#include "m3i/autodiff/observer.hpp"
#include "m3i/autodiff/variable.hpp"
#include "m3i/core/operation.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// As record, for inputs of any element types.
template <class T>
Var<T> record_node(const char* name,
                   Tensor<T> y,
                   std::vector<std::shared_ptr<detail::TapeNode>> inputs,
                   std::function<void(const Tensor<T>& dy)> backward) {
  Var<T> out(std::move(y));
  out.node_->needs_grad = true;
  out.node_->name = name;
  out.node_->inputs = std::move(inputs);
  auto* node = out.node_.get();  // the node owns its own closure: a raw pointer, or it would never be freed
  node->propagate = [node, backward = std::move(backward)] {
    if (node->grad.defined()) backward(node->grad);
  };
  node->release = [node] { node->grad = Tensor<T>(); };
  return out;
}

/// Puts y = operation(inputs) on the tape.
///
/// `backward(dy)` adds to the gradients of those inputs that need one. What it captures stays in memory until backward
/// has used it: capture tensors, x.kept() of inputs, or x.gradient() where x's value is not read; never the result (a
/// cycle). A result that one pass can compute again says so: record(...).recomputable(recipe_from(...)).
/// Nothing is kept under NoGrad, or when no input needs a gradient. The inputs' type is the result's but for cast().
template <class T, class In = T>
Var<T> record(const char* name,
              Tensor<T> y,
              const std::vector<Var<In>>& inputs,
              std::function<void(const Tensor<T>& dy)> backward) {
  std::vector<std::shared_ptr<detail::TapeNode>> nodes;
  if (grad_enabled())
    for (const Var<In>& input : inputs)
      if (input.needs_grad()) nodes.push_back(input.node());
  TapeObserver* const observer = tape_observer();
  const Var<T> out =
      nodes.empty() ? Var<T>(std::move(y)) : record_node<T>(name, std::move(y), std::move(nodes), std::move(backward));
  if (observer) {
    std::vector<Shape> shapes;
    for (const Var<In>& input : inputs) shapes.push_back(input.defined() ? input.shape() : Shape{});
    observer->forward(name, shapes, out.shape(), out.node().get());
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
