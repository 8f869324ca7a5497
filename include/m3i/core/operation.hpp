#pragma once
/// Which operation a thread is in: blocks of memory note it, and errors of a device say it.

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Names the operation of a scope, the first line of each:
///
///     const Operation operation("linear", x, w, b);
///
/// Inputs are variables or tensors, or a vector of them; only their addresses are noted, so that an operation that
/// succeeds pays a few stores. Scopes nest: info_nce is made of matmul and others. The name must be a literal.
class Operation {
 public:
  template <class... Inputs>
  explicit Operation(const char* name, const Inputs&... inputs)
      : Operation(name, false, {(inputs.defined() ? &inputs.shape() : nullptr)...}) {}
  template <class Input>
  Operation(const char* name, const std::vector<Input>& inputs) : Operation(name, false, {}) {
    for (const Input& x : inputs) note(x.defined() ? &x.shape() : nullptr);
  }
  /// The gradient of an operation whose result has this shape.
  static Operation gradient(const char* name, const Shape& result) { return Operation(name, true, {&result}); }

  ~Operation() { innermost() = outer_; }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  const char* name() const { return name_; }
  bool is_gradient() const { return gradient_; }

  /// Where this thread is; null outside of operations.
  static const Operation*& innermost() {
    static thread_local const Operation* current = nullptr;
    return current;
  }
  /// Where the names of outermost operations are noted as they start, for tests that record what they have tested.
  static std::vector<const char*>*& witness() {
    static thread_local std::vector<const char*>* names = nullptr;
    return names;
  }

  /// "info_nce of [4, 8], [4, 8], []: exp of []", or "gradient of linear to [4, 8]".
  std::string text() const {
    std::string out = outer_ ? m3i::text(*outer_, ": ") : std::string();
    out += m3i::text(gradient_ ? "gradient of " : "", name_);
    const char* before = gradient_ ? " to " : " of ";
    for (int i = 0; i < count_; ++i) out += m3i::text(std::exchange(before, ", "), *inputs_[i]);
    return out;
  }

 private:
  Operation(const char* name, bool gradient, std::initializer_list<const Shape*> inputs)
      : name_(name), outer_(innermost()), gradient_(gradient) {
    for (const Shape* shape : inputs) note(shape);
    innermost() = this;
    if (auto* const names = witness(); names && !outer_ && !gradient) [[unlikely]]
      names->push_back(name);
  }
  void note(const Shape* shape) {
    if (shape && count_ < most) inputs_[count_++] = shape;
  }

  static constexpr int most = 6;
  const char* name_;
  const Operation* outer_;
  bool gradient_;
  int count_ = 0;
  const Shape* inputs_[most];
};

namespace detail {

/// Who asked for a block of memory: plain, so that the block may outlive the operation.
struct Holder {
  const char* name = nullptr;
  bool gradient = false;

  static Holder now() {
    const Operation* const operation = Operation::innermost();
    return operation ? Holder{operation->name(), operation->is_gradient()} : Holder{};
  }
  std::string text() const {
    return name ? m3i::text(gradient ? "gradient of " : "", name) : std::string("values outside of operations");
  }
};

/// "linear of [4, 8], [3, 8]: " before what went wrong; empty outside of operations.
[[gnu::cold]] inline std::string running_operation() {
  const Operation* const operation = Operation::innermost();
  return operation ? text(*operation, ": ") : std::string();
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
