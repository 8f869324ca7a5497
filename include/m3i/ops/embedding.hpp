#pragma once
/// Look-up of rows by id.

#include "m3i/ops/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Rows of a table: table [V, C], ids [...] in [0, V) -> [..., C]. Gradient: table; equal ids add up in their order.
/// Throws ShapeError that names the first id outside of [0, V), if the ids are in host memory; see index_select.
template <class T>
Var<T> embedding(const Var<T>& table, const Tensor<std::int64_t>& ids) {
  const Operation operation("embedding", table, ids);
  require(table.rank() == 2, "embedding: the table must be [V, C], got ", table.shape());
  Shape shape = ids.shape();
  shape.push_back(table.shape()[1]);
  return reshape(index_select(table, 0, ids.reshape({ids.size()})), shape);
}

}  // namespace M3I_ABI
}  // namespace m3i
