#pragma once
/// backward(): gradients of a scalar with respect to every leaf that needs one.

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "m3i/autodiff/leaves.hpp"
#include "m3i/autodiff/record.hpp"
#include "m3i/core/operation.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Every recorded node that leads to `root`, newest first. Inputs are older than what is made of them, so that a walk
/// from the newest down meets each node after all that it leads to, and once.
inline std::vector<std::shared_ptr<TapeNode>> tape_of(const std::shared_ptr<TapeNode>& root) {
  std::map<std::uint64_t, std::shared_ptr<TapeNode>> found{{root->order, root}};
  std::vector<std::shared_ptr<TapeNode>> tape;
  for (auto at = found.begin();; --at) {
    const auto& node = at->second;
    require<Error>(!node->used, "backward: the result of ", node->name,
                   " has been through backward before and its buffers are gone; compute the forward pass again");
    for (const auto& input : node->inputs) found.emplace(input->order, input);
    if (node->propagate) tape.push_back(node);
    if (at == found.begin()) return tape;
  }
}

}  // namespace detail

/// Adds dy^T dy/dleaf to the gradient of each leaf. Frees each node's buffers as soon as they have been used; a second
/// backward through the same nodes is an error. First order only.
template <class T>
void backward(const Var<T>& y, const Tensor<T>& dy) {
  require(y.needs_grad(), "backward: the value depends on nothing that needs a gradient");
  require(dy.shape() == y.shape(), "backward: gradient ", dy.shape(), " for a value ", y.shape());
  y.clear_grad();
  y.grad().copy_from(dy);
  auto tape = detail::tape_of(y.node());
  LeafObserver* const leaves = leaf_observer();
  const WatchLeaves outermost(nullptr);  // the tapes inside a checkpoint do not see all uses of a leaf
  const auto complete = leaves ? detail::leaves_after(tape) : std::vector<std::vector<const void*>>();
  for (std::size_t i = 0; i < tape.size(); ++i) {
    auto& node = tape[i];
    if (TapeObserver* const observer = tape_observer()) observer->before_backward(node.get());
    {
      const Operation operation = Operation::gradient(node->name, node->shape);
      node->propagate();
    }
    if (TapeObserver* const observer = tape_observer()) observer->after_backward(node.get());
    node->release();
    node->propagate = nullptr;
    node->inputs.clear();
    node->used = true;
    node.reset();  // the last handle to most nodes: their values go now
    if (leaves)
      for (const void* const leaf : complete[i]) leaves->leaf_ready(leaf);
  }
}

/// Gradients of a scalar loss.
template <class T>
void backward(const Var<T>& loss) {
  require(loss.size() == 1, "backward: a loss has one element, this value has shape ", loss.shape(),
          "; use sum() or mean(), or give the gradient");
  backward(loss, Tensor<T>::full(loss.shape(), T(1.0f), loss.device()));
}

}  // namespace M3I_ABI
}  // namespace m3i
