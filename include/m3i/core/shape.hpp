#pragma once
/// Index, Shape and the broadcasting rule.

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Every extent, size and position. Signed, so that differences and reverse loops are safe.
using Index = std::int64_t;

/// The extents of a dense row-major tensor, outermost first; up to 6, stored in place.
/// shape[-1] is the last extent. A scalar has rank 0 and size 1; extents may be 0.
class Shape {
 public:
  static constexpr int max_rank = 6;

  constexpr Shape() = default;
  Shape(std::initializer_list<Index> extents) {
    for (const Index e : extents) push_back(e);
  }
  template <class Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(static_cast<Index>(*first));
  }

  int rank() const { return rank_; }
  Index size() const {
    Index n = 1;
    for (const Index e : *this) n *= e;
    return n;
  }
  /// Extent of an axis; negative axes count from the end.
  Index operator[](int axis) const { return extents_[checked(axis)]; }
  Index& operator[](int axis) { return extents_[checked(axis)]; }

  const Index* begin() const { return extents_.data(); }
  const Index* end() const { return extents_.data() + rank_; }
  Index* begin() { return extents_.data(); }
  Index* end() { return extents_.data() + rank_; }

  void push_back(Index extent) {
    require(rank_ < max_rank, "shape: more than ", max_rank, " axes");
    require(extent >= 0, "shape: extent ", extent, " is negative");
    // Sizes are computed in 64 bits; refuse what would overflow them even for 16-byte elements, and let no 0 hide it.
    Index total = std::max<Index>(extent, 1);
    bool fits = total < (Index(1) << 58);
    for (const Index e : *this)
      fits = fits && !__builtin_mul_overflow(total, std::max<Index>(e, 1), &total) && total < (Index(1) << 58);
    require(fits, "shape: ", text(), " with another ", extent, " has too many elements");
    extents_[std::size_t(rank_++)] = extent;
  }

  /// Extents [first, last) as a shape of their own.
  Shape slice(int first, int last) const { return Shape(begin() + first, begin() + last); }

  friend bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

  /// "[2, 64, 48]"
  std::string text() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) {
      if (i) out += ", ";
      detail::append(out, extents_[std::size_t(i)]);
    }
    return out + "]";
  }

 private:
  std::size_t checked(int axis) const {
    const int a = axis < 0 ? axis + rank_ : axis;
    if (a < 0 || a >= rank_) [[unlikely]]
      fail("shape: axis ", axis, " of ", text(), " does not exist");
    return std::size_t(a);
  }

  std::array<Index, max_rank> extents_{};
  int rank_ = 0;
};

/// The axis as a number in [0, rank), or a ShapeError that names the operation.
inline int normal_axis(const char* operation, int axis, const Shape& shape) {
  const int a = axis < 0 ? axis + shape.rank() : axis;
  require(a >= 0 && a < shape.rank(), operation, ": axis ", axis, " of ", shape, " does not exist");
  return a;
}

/// NumPy's rule: align at the last axis; extents must be equal or one of them 1.
inline Shape broadcast(const char* operation, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape out;
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank()), ib = i - (rank - b.rank());
    const Index ea = ia < 0 ? 1 : a[ia], eb = ib < 0 ? 1 : b[ib];
    require(ea == eb || ea == 1 || eb == 1, operation, ": shapes ", a, " and ", b, " do not broadcast");
    out.push_back(ea == 1 ? eb : ea);
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
