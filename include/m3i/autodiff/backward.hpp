#pragma once
/// backward(): gradients of a scalar with respect to every leaf that needs one.

#include <algorithm>
#include <unordered_set>

#include "m3i/autodiff/record.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Every recorded node that leads to `root`, newest first: creation order is a topological order.
inline std::vector<std::shared_ptr<TapeNode>> tape_of(const std::shared_ptr<TapeNode>& root) {
  std::vector<std::shared_ptr<TapeNode>> found{root};
  std::unordered_set<const TapeNode*> seen{root.get()};
  for (std::size_t next = 0; next < found.size(); ++next) {
    const auto node = found[next];
    require<Error>(!node->used, "backward: the result of ", node->name,
                   " has been through backward before and its buffers are gone; compute the forward pass again");
    for (const auto& input : node->inputs)
      if (seen.insert(input.get()).second) found.push_back(input);
  }
  std::erase_if(found, [](const auto& node) { return !node->propagate; });
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a->order > b->order; });
  return found;
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
  for (auto& node : tape) {
    if (TapeObserver* const observer = tape_observer()) observer->before_backward(node.get());
    node->propagate();
    if (TapeObserver* const observer = tape_observer()) observer->after_backward(node.get());
    node->release();
    node->propagate = nullptr;
    node->inputs.clear();
    node->used = true;
    node.reset();  // the last handle to most nodes: their values go now
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
