#pragma once
/// Rearrangements. Reshape is a view; all others are one index map each, and their gradients the same map backwards.

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/ops/arithmetic.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The same elements in another shape of equal size; no copy. Gradient: x. Throws ShapeError for another size.
template <class T>
Var<T> reshape(const Var<T>& x, const Shape& shape) {
  const Operation operation("reshape", x);
  std::shared_ptr<Recipe<T>> recipe;
  if (x.kept().recipes() > 0)
    recipe = recipe_from<T>({x.kept()}, [x = x.kept(), shape] { return x.value().reshape(shape); });
  return record<T>("reshape", x.value().reshape(shape), {x},
                   [dx = x.gradient()](const Tensor<T>& dy) { gather_add(dy, dx.grad(), SameIndex{}); })
      .recomputable(recipe);
}

namespace detail {

/// A block of one axis: [outer, extent, inner] of a small tensor at `offset` in the axis of a large one.
struct BlockIndex {
  Index extent, inner, offset, full;
  M3I_HD Index operator()(Index i) const {
    const Index row = extent * inner;
    return i / row * full * inner + offset * inner + i % row;
  }
  Index run() const { return extent * inner; }
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
  return record<T>(name, y, {x}, [dx = x.gradient(), map](const Tensor<T>& dy) { scatter_add(dy, dx.grad(), map); });
}

}  // namespace detail

/// Joins tensors along an axis. Gradients: all inputs. Throws ShapeError unless all other extents agree.
template <class T>
Var<T> concat(const std::vector<Var<T>>& inputs, int axis) {
  const Operation operation("concat", inputs);
  require(!inputs.empty(), "concat: needs at least one input");
  axis = normal_axis("concat", axis, inputs[0].shape());
  Shape shape = inputs[0].shape();
  shape[axis] = 0;
  for (const auto& x : inputs) {
    Shape expected = inputs[0].shape();
    require_one_device("concat", {inputs[0], x});
    require(x.rank() == expected.rank(), "concat: ", x.shape(), " against ", expected);
    expected[axis] = x.shape()[axis];
    require(x.shape() == expected, "concat: ", x.shape(), " does not match ", inputs[0].shape(), " beside axis ", axis);
    shape[axis] += x.shape()[axis];
  }
  const Index inner = shape.slice(axis + 1, shape.rank()).size(), full = shape[axis];
  const auto block = [=](const auto& x, Index offset) {
    return detail::BlockIndex{x.shape()[axis], inner, offset, full};
  };
  const auto join = [=](const auto& parts) {
    const Tensor<T> y(shape, parts[0].value().device());
    Index offset = 0;
    for (const auto& x : parts) {
      scatter(x.value(), y, block(x, offset));
      offset += x.shape()[axis];
    }
    return y;
  };
  std::vector<Gradient<T>> gradients;
  std::vector<Kept<T>> kept;  // together never more than the result, and less where one can be computed again
  for (const auto& x : inputs) gradients.push_back(x.gradient()), kept.push_back(x.kept());
  const auto recipe = recipe_from<T>(kept, [join, kept] { return join(kept); });
  const auto backward = [gradients, axis, block](const Tensor<T>& dy) {
    Index at = 0;
    for (const auto& dx : gradients) {
      if (dx.needs_grad()) gather_add(dy, dx.grad(), block(dx, at));
      at += dx.shape()[axis];
    }
  };
  return record<T>("concat", join(inputs), inputs, backward).recomputable(recipe);
}

/// Positions [begin, end) of an axis. Gradient: x. Throws ShapeError for positions that do not exist.
template <class T>
Var<T> slice(const Var<T>& x, int axis, Index begin, Index end) {
  const Operation operation("slice", x);
  axis = normal_axis("slice", axis, x.shape());
  require(begin >= 0 && begin <= end && end <= x.shape()[axis], "slice: [", begin, ", ", end, ") of axis ", axis,
          " of ", x.shape());
  Shape shape = x.shape();
  shape[axis] = end - begin;
  const detail::BlockIndex map{end - begin, shape.slice(axis + 1, shape.rank()).size(), begin, x.shape()[axis]};
  const Tensor<T> y(shape, x.device());
  gather(x.value(), y, map);
  return record<T>("slice", y, {x}, [dx = x.gradient(), map](const Tensor<T>& dy) { scatter_add(dy, dx.grad(), map); });
}

/// Cuts an axis into pieces of the given sizes. Gradient: x. Throws ShapeError unless they add up to its extent.
template <class T>
std::vector<Var<T>> split(const Var<T>& x, const std::vector<Index>& sizes, int axis) {
  const Operation operation("split", x);
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

/// Axes in a new order: output axis i is input axis axes[i]. Gradient: x. Throws ShapeError unless each axis is there
/// once.
template <class T>
Var<T> permute(const Var<T>& x, const std::vector<int>& axes) {
  const Operation operation("permute", x);
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
  const Operation operation("pad", x);
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
  const Operation operation("roll", x);
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
struct SelectRows {
  const T* x;
  const std::int64_t* ids;
  T* y;
  Index full, count, inner;
  M3I_HD void operator()(Index i) const {
    const Index outer = i / (count * inner), k = i / inner % count;
    const bool there = ids[k] >= 0 && ids[k] < full;  // known, unless the ids are on a device
    y[i] = there ? x[(outer * full + ids[k]) * inner + i % inner] : T(std::numeric_limits<float>::quiet_NaN());
  }
};
/// One team a different id: it adds up all entries that selected it, in their order, so that no two teams meet.
template <class T>
struct SelectRowsGrad {
  using A = accumulate_t<T>;
  const std::int64_t* id;        // [different]
  const Index *starts, *places;  // the entries that selected id[u]: places[starts[u]] .. places[starts[u + 1]]
  const T* dy;
  T* dx;
  Index full, count, inner, different;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index outer = row / different, u = row % different, first = starts[u], last = starts[u + 1], width = inner;
    const T* from = dy + outer * count * width;
    T* to = dx + (outer * full + id[u]) * width;
    const Index* place = places;
    team.each(width, [=](Index c) {
      A total = A(to[c]);
      for (Index e = first; e < last; ++e) total += A(from[place[e] * width + c]);
      to[c] = T(total);
    });
  }
};
/// The same for ids that nobody has looked at: one team an entry, and the first of those with the same id adds them up.
template <class T>
struct SelectRowsScan {
  using A = accumulate_t<T>;
  const std::int64_t* ids;
  const T* dy;
  T* dx;
  Index full, count, inner;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index outer = row / count, i = row % count, last = count, width = inner;
    const std::int64_t *all = ids, own = all[i];
    if (own < 0 || own >= full || team.max(i, [=](Index j) { return all[j] == own ? 1.0f : 0.0f; }) > 0) return;
    const T* from = dy + outer * count * width;
    T* to = dx + (outer * full + own) * width;
    team.each(width, [=](Index c) {
      A total = A(to[c]);
      for (Index j = i; j < last; ++j)
        if (all[j] == own) total += A(from[j * width + c]);
      to[c] = T(total);
    });
  }
};
/// Which entries selected which id.
struct Selections {
  Tensor<std::int64_t> id;
  Tensor<Index> starts, places;
  Selections(const std::vector<std::int64_t>& ids, Device device) {
    std::vector<Index> place(ids.size()), first;
    std::iota(place.begin(), place.end(), Index(0));
    std::stable_sort(place.begin(), place.end(),
                     [&](Index a, Index b) { return ids[std::size_t(a)] < ids[std::size_t(b)]; });
    std::vector<std::int64_t> different;
    for (std::size_t e = 0; e < place.size(); ++e) {
      const std::int64_t own = ids[std::size_t(place[e])];
      if (!different.empty() && different.back() == own) continue;
      different.push_back(own);
      first.push_back(Index(e));
    }
    first.push_back(Index(place.size()));
    id = Tensor<std::int64_t>::from(different, {Index(different.size())}, device);
    starts = Tensor<Index>::from(first, {Index(first.size())}, device);
    places = Tensor<Index>::from(place, {Index(place.size())}, device);
  }
};
/// Ids that lie on a device stay there, and nobody waits for it to look at them.
inline bool ids_are_seen(const Tensor<std::int64_t>& ids) { return ids.device().kind == Device::Kind::cpu; }
/// The ids in host memory, each of them in [0, extent).
inline std::vector<std::int64_t> checked_ids(const char* name, const Tensor<std::int64_t>& ids, Index extent) {
  auto values = ids.to_vector();
  for (std::size_t i = 0; i < values.size(); ++i)
    require(values[i] >= 0 && values[i] < extent, name, ": id ", values[i], " at position ", i, " is outside [0, ",
            extent, ")");
  return values;
}
}  // namespace detail

/// x repeated to a larger shape by the broadcasting rule. Gradient: x.
template <class T>
Var<T> broadcast_to(const Var<T>& x, const Shape& shape) {
  const Operation operation("broadcast_to", x);
  require(broadcast("broadcast_to", x.shape(), shape) == shape, "broadcast_to: ", x.shape(), " does not fit ", shape);
  const Tensor<T> y(shape, x.device());
  for_each(x.device(), y.size(), detail::BroadcastCopy<T>{x.data(), y.data(), detail::broadcast_map(x.shape(), shape)});
  return record<T>("broadcast_to", y, {x}, [dx = x.gradient(), shape](const Tensor<T>& dy) {
    detail::reduce_to(shape, detail::ScaledSlope<T>{dy.data(), 1}, dx.grad());
  });
}

/// Entries ids[k] of an axis, in that order, repeats allowed: ids [n] in [0, extent). Gradient: x; entries of the same
/// id add up in their order. Throws ShapeError that names the first id outside. Ids that lie on a device stay there and
/// are not looked at: one outside gives NaN, and no gradient.
template <class T>
Var<T> index_select(const Var<T>& x, int axis, const Tensor<std::int64_t>& ids) {
  const Operation operation("index_select", x, ids);
  axis = normal_axis("index_select", axis, x.shape());
  require(ids.rank() == 1, "index_select: ids must be [n], got ", ids.shape());
  const bool seen = detail::ids_are_seen(ids);
  const auto values = seen ? detail::checked_ids("index_select", ids, x.shape()[axis]) : std::vector<std::int64_t>();
  Shape shape = x.shape();
  shape[axis] = ids.size();
  const Index inner = shape.slice(axis + 1, shape.rank()).size(), outer = shape.slice(0, axis).size();
  const Index full = x.shape()[axis], count = ids.size();
  const Tensor<std::int64_t> where = ids.to(x.device());
  const Tensor<T> y(shape, x.device());
  for_each(x.device(), y.size(), detail::SelectRows<T>{x.data(), where.data(), y.data(), full, count, inner});
  return record<T>("index_select", y, {x}, [=, dx = x.gradient()](const Tensor<T>& dy) {
    if (!seen)
      return for_rows(dy.device(), outer * count,
                      detail::SelectRowsScan<T>{where.data(), dy.data(), dx.grad().data(), full, count, inner},
                      inner + count);
    const detail::Selections chosen(values, dy.device());
    const Index different = chosen.id.size();
    for_rows(dy.device(), outer * different,
             detail::SelectRowsGrad<T>{chosen.id.data(), chosen.starts.data(), chosen.places.data(), dy.data(),
                                       dx.grad().data(), full, count, inner, different},
             inner * count / std::max<Index>(1, different));
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
