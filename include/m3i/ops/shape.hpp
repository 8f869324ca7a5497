#pragma once
/// Rearrangements. Reshape is a view; all others are one index map each, and their gradients the same map backwards.

#include <array>
#include <utility>
#include <vector>

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/ops/arithmetic.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The same elements in another shape of equal size; no copy.
template <class T>
Var<T> reshape(const Var<T>& x, const Shape& shape) {
  return record<T>("reshape", x.value().reshape(shape), {x},
                   [x](const Tensor<T>& dy) { gather_add(dy, x.grad(), SameIndex{}); });
}

namespace detail {

/// A block of one axis: [outer, extent, inner] of a small tensor at `offset` in the axis of a large one.
struct BlockIndex {
  Index extent, inner, offset, full;
  M3I_HD Index operator()(Index i) const {
    const Index row = extent * inner;
    return i / row * full * inner + offset * inner + i % row;
  }
};

/// Output index -> input index by one stride an output axis, with an optional window of valid positions.
struct StrideMap {
  int rank = 0;
  Index extent[Shape::max_rank] = {}, stride[Shape::max_rank] = {};
  Index shift[Shape::max_rank] = {};  ///< input position = (output position + shift) mod / within valid
  Index valid[Shape::max_rank] = {};  ///< input extent
  bool wrap = false;                  ///< cyclic, else positions outside are -1
  M3I_HD Index operator()(Index i) const {
    Index at = 0;
    for (int axis = rank - 1; axis >= 0; --axis) {
      Index p = i % extent[axis] + shift[axis];
      i /= extent[axis];
      if (wrap) p = p >= valid[axis] ? p - valid[axis] : p;
      else if (p < 0 || p >= valid[axis]) return -1;
      at += p * stride[axis];
    }
    return at;
  }
};

inline StrideMap stride_map(const Shape& in, const Shape& out) {
  StrideMap map;
  map.rank = out.rank();
  Index step = 1;
  for (int axis = out.rank() - 1; axis >= 0; --axis) {
    map.extent[axis] = out[axis];
    map.valid[axis] = in[axis];
    map.stride[axis] = step;
    step *= in[axis];
  }
  return map;
}

template <class T>
Var<T> gathered(const char* name, const Var<T>& x, const Shape& shape, const StrideMap& map) {
  const Tensor<T> y(shape, x.device());
  gather(x.value(), y, map);
  return record<T>(name, y, {x}, [x, map](const Tensor<T>& dy) { scatter_add(dy, x.grad(), map); });
}

}  // namespace detail

/// Joins tensors along an axis; all other extents must agree. Gradients: all inputs.
template <class T>
Var<T> concat(const std::vector<Var<T>>& inputs, int axis) {
  require(!inputs.empty(), "concat: needs at least one input");
  axis = normal_axis("concat", axis, inputs[0].shape());
  Shape shape = inputs[0].shape();
  shape[axis] = 0;
  for (const auto& x : inputs) {
    Shape expected = inputs[0].shape();
    require(x.rank() == expected.rank(), "concat: ", x.shape(), " against ", expected);
    expected[axis] = x.shape()[axis];
    require(x.shape() == expected, "concat: ", x.shape(), " does not match ", inputs[0].shape(), " beside axis ", axis);
    shape[axis] += x.shape()[axis];
  }
  const Tensor<T> y = Tensor<T>::zeros(shape, inputs[0].device());
  const Index inner = shape.slice(axis + 1, shape.rank()).size(), full = shape[axis];
  const auto block = [=](const Var<T>& x, Index offset) {
    return detail::BlockIndex{x.shape()[axis], inner, offset, full};
  };
  Index offset = 0;
  for (const auto& x : inputs) {
    scatter_add(x.value(), y, block(x, offset));
    offset += x.shape()[axis];
  }
  return record<T>("concat", y, inputs, [inputs, axis, block](const Tensor<T>& dy) {
    Index at = 0;
    for (const auto& x : inputs) {
      if (x.needs_grad()) gather_add(dy, x.grad(), block(x, at));
      at += x.shape()[axis];
    }
  });
}

/// Positions [begin, end) of an axis. Gradient: x.
template <class T>
Var<T> slice(const Var<T>& x, int axis, Index begin, Index end) {
  axis = normal_axis("slice", axis, x.shape());
  require(begin >= 0 && begin <= end && end <= x.shape()[axis], "slice: [", begin, ", ", end, ") of axis ", axis, " of ",
          x.shape());
  Shape shape = x.shape();
  shape[axis] = end - begin;
  const detail::BlockIndex map{end - begin, shape.slice(axis + 1, shape.rank()).size(), begin, x.shape()[axis]};
  const Tensor<T> y(shape, x.device());
  gather(x.value(), y, map);
  return record<T>("slice", y, {x}, [x, map](const Tensor<T>& dy) { scatter_add(dy, x.grad(), map); });
}

/// Cuts an axis into pieces of the given sizes, which must add up to its extent.
template <class T>
std::vector<Var<T>> split(const Var<T>& x, const std::vector<Index>& sizes, int axis) {
  axis = normal_axis("split", axis, x.shape());
  Index total = 0;
  for (const Index s : sizes) total += s;
  require(total == x.shape()[axis], "split: sizes add up to ", total, ", axis ", axis, " of ", x.shape(), " has ",
          x.shape()[axis]);
  std::vector<Var<T>> pieces;
  Index begin = 0;
  for (const Index s : sizes) {
    pieces.push_back(slice(x, axis, begin, begin + s));
    begin += s;
  }
  return pieces;
}

/// Axes in a new order: output axis i is input axis axes[i]. Gradient: x.
template <class T>
Var<T> permute(const Var<T>& x, const std::vector<int>& axes) {
  require(int(axes.size()) == x.rank(), "permute: ", axes.size(), " axes for shape ", x.shape());
  std::array<bool, Shape::max_rank> seen{};
  Shape shape;
  detail::StrideMap map;
  map.rank = x.rank();
  for (int i = 0; i < x.rank(); ++i) {
    const int axis = normal_axis("permute", axes[std::size_t(i)], x.shape());
    require(!std::exchange(seen[std::size_t(axis)], true), "permute: axis ", axis, " appears twice");
    shape.push_back(x.shape()[axis]);
    map.extent[i] = map.valid[i] = x.shape()[axis];
    map.stride[i] = x.shape().slice(axis + 1, x.rank()).size();
  }
  return detail::gathered("permute", x, shape, map);
}

/// Zeros before and after each axis: widths[i] = {before, after}; negative widths crop. Gradient: x.
template <class T>
Var<T> pad(const Var<T>& x, const std::vector<std::array<Index, 2>>& widths) {
  require(int(widths.size()) == x.rank(), "pad: ", widths.size(), " pairs for shape ", x.shape());
  Shape shape;
  for (int i = 0; i < x.rank(); ++i)
    shape.push_back(std::max<Index>(0, x.shape()[i] + widths[std::size_t(i)][0] + widths[std::size_t(i)][1]));
  detail::StrideMap map = detail::stride_map(x.shape(), shape);
  for (int i = 0; i < x.rank(); ++i) map.shift[i] = -widths[std::size_t(i)][0];
  return detail::gathered("pad", x, shape, map);
}

/// Cyclic shift: the element at position p moves to (p + shift) mod extent. Gradient: x.
template <class T>
Var<T> roll(const Var<T>& x, const std::vector<Index>& shifts, const std::vector<int>& axes) {
  require(shifts.size() == axes.size(), "roll: ", shifts.size(), " shifts for ", axes.size(), " axes");
  detail::StrideMap map = detail::stride_map(x.shape(), x.shape());
  map.wrap = true;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const int axis = normal_axis("roll", axes[i], x.shape());
    const Index n = std::max<Index>(x.shape()[axis], 1);
    map.shift[axis] = (map.shift[axis] + n - (shifts[i] % n + n) % n) % n;
  }
  return detail::gathered("roll", x, x.shape(), map);
}

namespace detail {
template <class T>
struct BroadcastCopy {
  const T* x;
  T* y;
  BroadcastMap map;
  M3I_HD void operator()(Index i) const { y[i] = x[map(i)]; }
};
template <class T>
struct PlainSlope {
  const T* dy;
  M3I_HD accumulate_t<T> operator()(Index i) const { return accumulate_t<T>(dy[i]); }
};

template <class T>
struct SelectRows {
  const T* x;
  const std::int64_t* ids;
  T* y;
  Index full, count, inner;
  M3I_HD void operator()(Index i) const {
    const Index outer = i / (count * inner), k = i / inner % count;
    y[i] = x[(outer * full + ids[k]) * inner + i % inner];
  }
};
/// One team a selected entry. The first selection of an id adds up all of them, in order: no two teams meet.
template <class T>
struct SelectRowsGrad {
  using A = accumulate_t<T>;
  const std::int64_t* ids;
  const T* dy;
  T* dx;
  Index full, count, inner;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index outer = row / count, k = row % count;
    const std::int64_t id = ids[k];
    for (Index j = 0; j < k; ++j)
      if (ids[j] == id) return;
    const T* from = dy + outer * count * inner;
    T* to = dx + (outer * full + id) * inner;
    const std::int64_t* all = ids;
    const Index n = count, width = inner;
    team.each(width, [=](Index c) {
      A total = A(to[c]);
      for (Index j = k; j < n; ++j)
        if (all[j] == id) total += A(from[j * width + c]);
      to[c] = T(total);
    });
  }
};
inline void check_ids(const char* name, const Tensor<std::int64_t>& ids, Index extent) {
  const auto values = ids.to_vector();
  for (std::size_t i = 0; i < values.size(); ++i)
    require(values[i] >= 0 && values[i] < extent, name, ": id ", values[i], " at position ", i, " is outside [0, ", extent, ")");
}
}  // namespace detail

/// x repeated to a larger shape by the broadcasting rule. Gradient: x.
template <class T>
Var<T> broadcast_to(const Var<T>& x, const Shape& shape) {
  require(broadcast("broadcast_to", x.shape(), shape) == shape, "broadcast_to: ", x.shape(), " does not fit ", shape);
  const Tensor<T> y(shape, x.device());
  for_each(x.device(), y.size(), detail::BroadcastCopy<T>{x.data(), y.data(), detail::broadcast_map(x.shape(), shape)});
  return record<T>("broadcast_to", y, {x}, [x, shape](const Tensor<T>& dy) {
    detail::reduce_to(x.shape(), shape, dy.device(), detail::PlainSlope<T>{dy.data()}, x.grad().data());
  });
}

/// Entries ids[k] of an axis, in that order, repeats allowed. Gradient: x.
template <class T>
Var<T> index_select(const Var<T>& x, int axis, const Tensor<std::int64_t>& ids) {
  axis = normal_axis("index_select", axis, x.shape());
  require(ids.rank() == 1, "index_select: ids must be [n], got ", ids.shape());
  detail::check_ids("index_select", ids, x.shape()[axis]);
  Shape shape = x.shape();
  shape[axis] = ids.size();
  const Index inner = shape.slice(axis + 1, shape.rank()).size(), outer = shape.slice(0, axis).size();
  const Index full = x.shape()[axis], count = ids.size();
  const Tensor<std::int64_t> where = ids.to(x.device());
  const Tensor<T> y(shape, x.device());
  for_each(x.device(), y.size(), detail::SelectRows<T>{x.data(), where.data(), y.data(), full, count, inner});
  return record<T>("index_select", y, {x}, [=](const Tensor<T>& dy) {
    for_rows(dy.device(), outer * count,
             detail::SelectRowsGrad<T>{where.data(), dy.data(), x.grad().data(), full, count, inner}, inner);
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
