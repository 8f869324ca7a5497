#pragma once
/// Tensor<T>: a shape and a shared block of memory on a device; always dense and row-major.

#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "m3i/core/dtype.hpp"
#include "m3i/core/memory.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A dense row-major array. Copying a Tensor shares its memory; clone() copies the values. Reshaping and slices of the
/// leading axis are views; any other rearrangement is an operation.
template <class T>
class Tensor {
 public:
  using value_type = T;

  /// No memory and no elements; defined() is false.
  Tensor() = default;
  /// Uninitialised elements.
  explicit Tensor(const Shape& shape, Device device = Device::cpu())
      : shape_(shape), buffer_(std::make_shared<Buffer>(std::size_t(shape.size()) * sizeof(T), device)) {}

  static Tensor zeros(const Shape& shape, Device device = Device::cpu()) {
    Tensor t(shape, device);
    t.zero();
    return t;
  }
  static Tensor full(const Shape& shape, T value, Device device = Device::cpu()) {
    return from(std::vector<T>(std::size_t(shape.size()), value), shape, device);
  }
  static Tensor scalar(T value, Device device = Device::cpu()) { return from({&value, 1}, Shape{}, device); }
  /// Copies values given in row-major order.
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = Device::cpu()) {
    require(Index(values.size()) == shape.size(), "tensor: ", values.size(), " values for shape ", shape, " of ",
            shape.size());
    Tensor t(shape, device);
    copy_bytes(t.data(), device, values.data(), Device::cpu(), values.size_bytes());
    return t;
  }
  static Tensor from(std::initializer_list<T> values, const Shape& shape, Device device = Device::cpu()) {
    return from(std::span<const T>(values.begin(), values.size()), shape, device);
  }

  bool defined() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  Index size() const { return defined() ? shape_.size() : 0; }
  std::size_t bytes() const { return std::size_t(size()) * sizeof(T); }
  Device device() const { return defined() ? buffer_->device() : Device::cpu(); }
  /// First element; only to be followed on the tensor's own device.
  T* data() const { return defined() && buffer_->data() ? static_cast<T*>(buffer_->data()) + offset_ : nullptr; }
  bool shares_memory_with(const Tensor& other) const { return defined() && buffer_ == other.buffer_; }

  /// The same memory under another shape of equal size.
  Tensor reshape(const Shape& shape) const {
    require(shape.size() == size(), "reshape: ", shape_, " has ", size(), " elements, ", shape, " has ", shape.size());
    Tensor t = *this;
    t.shape_ = shape;
    return t;
  }
  /// View of [begin, end) along the leading axis.
  Tensor slice(Index begin, Index end) const {
    require(rank() > 0 && begin >= 0 && begin <= end && end <= shape_[0], "slice: [", begin, ", ", end, ") of ",
            shape_);
    Tensor t = *this;
    t.shape_[0] = end - begin;
    t.offset_ += begin * (shape_[0] ? size() / shape_[0] : 0);
    return t;
  }
  /// View of one entry of the leading axis, which is dropped.
  Tensor operator[](Index i) const {
    Tensor t = slice(i, i + 1);
    t.shape_ = shape_.slice(1, rank());
    return t;
  }

  void zero() const {
    if (size() == 0) return;
#if M3I_CUDA
    if (!device().on_host()) {
      DeviceGuard guard(device());
      check_cuda(cudaMemsetAsync(data(), 0, bytes(), current_stream()), "zero");
      return;
    }
#endif
    std::memset(static_cast<void*>(data()), 0, bytes());
  }
  /// Copies the values of a tensor of the same shape, from any device.
  void copy_from(const Tensor& other) const {
    require(other.shape() == shape_, "copy: ", other.shape(), " into ", shape_);
    copy_bytes(data(), device(), other.data(), other.device(), bytes());
  }
  Tensor clone() const { return to_new(device()); }
  /// Itself if it is there already, else a copy.
  Tensor to(Device device) const { return device == this->device() || !defined() ? *this : to_new(device); }
  std::vector<T> to_vector() const {
    std::vector<T> values(static_cast<std::size_t>(size()));
    copy_bytes(values.data(), Device::cpu(), data(), device(), bytes());
    return values;
  }
  /// The value of a tensor with one element.
  T item() const {
    require(size() == 1, "item: needs one element, shape is ", shape_);
    T value;
    copy_bytes(&value, Device::cpu(), data(), device(), sizeof(T));
    return value;
  }
  /// The elements of a tensor in host memory.
  std::span<T> span() const {
    require(device().on_host(), "span: the tensor is on ", device(), "; use to(Device::cpu()) first");
    return {data(), std::size_t(size())};
  }

 private:
  Tensor to_new(Device device) const {
    Tensor t(shape_, device);
    copy_bytes(t.data(), device, data(), this->device(), bytes());
    return t;
  }

  Shape shape_{0};
  std::shared_ptr<Buffer> buffer_;
  Index offset_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
