#pragma once
/// A tensor seen along one of its axes.

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// [outer, n, inner]: row r = (o, i) holds the n elements of the axis, `inner` apart.
struct AxisView {
  Index outer = 1, n = 1, inner = 1;
  /// The axis may count from the end; a ShapeError that names the operation if there is none.
  AxisView(const char* name, int axis, const Shape& shape) {
    const int a = normal_axis(name, axis, shape);
    outer = shape.slice(0, a).size(), n = shape[a], inner = shape.slice(a + 1, shape.rank()).size();
  }
  Index rows() const { return outer * inner; }
};

/// The shape without the axis, or with extent 1 in its place.
inline Shape without_axis(const Shape& shape, int axis, bool keep) {
  const int a = axis < 0 ? axis + shape.rank() : axis;
  Shape out = shape.slice(0, a);
  if (keep) out.push_back(1);
  for (int i = a + 1; i < shape.rank(); ++i) out.push_back(shape[i]);
  return out;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
