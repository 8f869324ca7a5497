#pragma once
/// Var<T>: a tensor on the tape. Copies are handles to the same value and gradient.

#include <atomic>
#include <functional>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "m3i/autodiff/kept.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// What the tape knows of a value of any element type.
struct TapeNode {
  const char* name = "leaf";
  bool needs_grad = false;
  std::uint64_t order = 0;                        ///< creation order: inputs are always older than outputs
  std::vector<std::shared_ptr<TapeNode>> inputs;  ///< empty for leaves, and after backward
  std::function<void()> propagate;                ///< adds to the gradients of the inputs; empty for leaves
  std::function<void()> release;                  ///< frees the gradient of an intermediate value
  bool used = false;                              ///< backward has been through here
  Shape shape;
  Device device;

  TapeNode() = default;
  TapeNode(const TapeNode&) = delete;
  TapeNode& operator=(const TapeNode&) = delete;
  /// Lets a chain of nodes go one after the other: destroyed by recursion, a long one would overflow the stack.
  ~TapeNode() {
    std::vector<std::shared_ptr<TapeNode>> pending = std::move(inputs);
    propagate = nullptr;
    while (!pending.empty()) {
      const std::shared_ptr<TapeNode> node = std::move(pending.back());
      pending.pop_back();
      if (node.use_count() > 1) continue;  // somebody else's, or once more in the list
      for (auto& input : node->inputs) pending.push_back(std::move(input));
      node->inputs.clear();
      node->propagate = nullptr;
    }
  }
};

inline std::uint64_t next_order() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

inline int& no_grad_depth() {
  static thread_local int depth = 0;
  return depth;
}

}  // namespace detail

/// While one exists, operations of this thread record nothing (inference, optimiser steps).
class NoGrad {
 public:
  NoGrad() { ++detail::no_grad_depth(); }
  ~NoGrad() { --detail::no_grad_depth(); }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;
};
inline bool grad_enabled() { return detail::no_grad_depth() == 0; }

namespace detail {
/// The tape's part of a variable: everything but its value.
template <class T>
struct GradNode : TapeNode {
  Tensor<T> grad;
  /// The gradient; zeros are made on first use, so that operations only ever add.
  const Tensor<T>& sum() {
    if (!grad.defined()) grad = Tensor<T>::zeros(shape, device);
    return grad;
  }
};
}  // namespace detail

/// Where the gradient of a variable is added up. Operations whose gradient does not read an input's value capture this
/// instead of the Var: the value's memory then goes as soon as nobody else needs it.
template <class T>
class Gradient {
 public:
  explicit Gradient(std::shared_ptr<detail::GradNode<T>> node) : node_(std::move(node)) {}
  bool needs_grad() const { return node_ && node_->needs_grad; }
  const Tensor<T>& grad() const { return node_->sum(); }
  const Shape& shape() const { return node_->shape; }
  Index size() const { return node_->shape.size(); }

 private:
  std::shared_ptr<detail::GradNode<T>> node_;
};

template <class T>
class Var {
 public:
  using value_type = T;

  /// Not defined: stands for an absent optional input, such as no bias.
  Var() = default;
  /// A leaf. Parameters and checked inputs say needs_grad.
  explicit Var(Tensor<T> value, bool needs_grad = false)
      : value_(std::make_shared<Tensor<T>>(std::move(value))), node_(std::make_shared<detail::GradNode<T>>()) {
    node_->needs_grad = needs_grad;
    node_->order = detail::next_order();
    node_->shape = value_->shape();
    node_->device = value_->device();
  }

  bool defined() const { return value_ != nullptr; }
  const Tensor<T>& value() const {
    check_defined();
    return *value_;
  }
  const Shape& shape() const { return value().shape(); }
  int rank() const { return value().rank(); }
  Index size() const { return value().size(); }
  Device device() const { return value().device(); }
  T* data() const { return value().data(); }

  bool needs_grad() const { return node_ && node_->needs_grad; }
  /// Parameters only: freezing a module sets this to false.
  void set_needs_grad(bool on) const {
    check_defined();
    require(node_->inputs.empty(), "variable: only a leaf can change whether it needs a gradient");
    node_->needs_grad = on;
  }

  bool has_grad() const { return node_ && node_->grad.defined(); }
  /// The gradient; zeros are made on first use, so that operations only ever add.
  const Tensor<T>& grad() const {
    check_defined();
    return node_->sum();
  }
  void clear_grad() const {
    if (node_) node_->grad = Tensor<T>();
  }
  /// The gradient without the value.
  Gradient<T> gradient() const { return Gradient<T>(node_); }
  /// Value and gradient as a gradient function captures them: the value, or how to compute it again.
  Kept<T> kept() const { return Kept<T>(value_, recipe_, node_); }
  /// Lets the tape compute the value again instead of keeping it; no recipe, or nothing to differentiate: no change.
  Var recomputable(std::shared_ptr<Recipe<T>> recipe) const {
    Var y = *this;
    if (!recipe || !needs_grad()) return y;
    recipe->value = value_;
    y.recipe_ = std::move(recipe);
    return y;
  }
  /// A new value of the same shape for a leaf (optimisers, loading); may move it to another device.
  void set_value(Tensor<T> value) const {
    require(value.shape() == shape(), "variable: new value ", value.shape(), " for shape ", shape());
    node_->device = value.device();
    *value_ = std::move(value);
    clear_grad();
  }

  std::shared_ptr<detail::TapeNode> node() const { return node_; }

 private:
  void check_defined() const {
    require(defined(), "variable: used without a value (an optional input that this operation needs?)");
  }

  std::shared_ptr<Tensor<T>> value_;
  std::shared_ptr<detail::GradNode<T>> node_;
  std::shared_ptr<Recipe<T>> recipe_;  ///< null for most: the value is kept

  template <class U>
  friend Var<U> record_node(const char* name,
                            Tensor<U> y,
                            std::vector<std::shared_ptr<detail::TapeNode>> inputs,
                            std::function<void(const Tensor<U>& dy)> backward);
};

/// Throws DeviceError unless all inputs that are defined lie on one device.
template <class T>
void require_one_device(const char* operation, std::initializer_list<Var<T>> inputs) {
  const Var<T>* first = nullptr;
  for (const Var<T>& x : inputs) {
    if (!x.defined()) continue;
    if (!first) first = &x;
    require<DeviceError>(x.device() == first->device(), operation, ": inputs on ", first->device(), " and ", x.device(),
                         "; move them to one device with to()");
  }
}

/// The value without its history.
template <class T>
Var<T> detach(const Var<T>& x) {
  return Var<T>(x.value());
}

}  // namespace M3I_ABI
}  // namespace m3i
