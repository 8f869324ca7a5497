#pragma once
/// Kept<T>: what a gradient holds of a value, the value itself or how to compute it again.
///
/// A block of a transformer would keep the result of GELU, four times as wide as the rest, only because the gradient of
/// the linear layer behind it reads it; and GELU's own gradient keeps what it was computed from. So operations that
/// cost one pass over memory give their result a recipe. While a Var holds the result nothing changes. When the last
/// one is gone, its memory goes too, and the first gradient that reads it computes it again, by the same kernel from
/// the same values: the same bits.

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How to compute a value again from what the tape keeps anyway.
template <class T>
struct Recipe {
  static constexpr int longest = 8;  ///< recipes that may call each other in a row; bounds time and stack

  std::function<Tensor<T>()> compute;
  int length = 1;
  std::weak_ptr<Tensor<T>> value = {};  ///< where it still is, while a Var holds it
  Tensor<T> again = {};  ///< from the first use in backward until the last gradient that reads it is done

  const Tensor<T>& get() {
    if (!again.defined()) {
      if (const auto held = value.lock()) again = *held;
      else again = compute();
    }
    return again;
  }
};

namespace detail {
template <class T>
struct GradNode;
}

/// A variable as gradients capture it: Var::kept(). Reading value() or data() may compute it.
template <class T>
class Kept {
 public:
  Kept() = default;
  Kept(std::shared_ptr<Tensor<T>> value,
       std::shared_ptr<Recipe<T>> recipe,
       std::shared_ptr<detail::GradNode<T>> node = nullptr)
      : recipe_(std::move(recipe)), node_(std::move(node)) {
    if (!recipe_) value_ = std::move(value);
  }
  bool defined() const { return value_ || recipe_; }
  const Tensor<T>& value() const { return recipe_ ? recipe_->get() : *value_; }
  T* data() const { return value().data(); }
  /// 0 for a value that is held, else how many recipes it takes.
  int recipes() const { return recipe_ ? recipe_->length : 0; }

  bool needs_grad() const { return node_ && node_->needs_grad; }
  const Tensor<T>& grad() const { return node_->sum(); }
  const Shape& shape() const { return node_->shape; }
  Index size() const { return node_->shape.size(); }

 private:
  std::shared_ptr<Tensor<T>> value_;
  std::shared_ptr<Recipe<T>> recipe_;
  std::shared_ptr<detail::GradNode<T>> node_;
};

/// A recipe that reads `inputs`; null, and the value is kept, where recipes would follow each other too far.
template <class T, class F>
std::shared_ptr<Recipe<T>> recipe_from(const std::vector<Kept<T>>& inputs, F compute) {
  int length = 1;
  for (const Kept<T>& x : inputs) length = std::max(length, x.recipes() + 1);
  if (length > Recipe<T>::longest) return nullptr;
  return std::make_shared<Recipe<T>>(Recipe<T>{std::move(compute), length});
}

}  // namespace M3I_ABI
}  // namespace m3i
