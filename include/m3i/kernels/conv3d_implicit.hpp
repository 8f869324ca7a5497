#pragma once
/// conv3d for GPUs where cuDNN has no body: implicit matrix products, a team a tile of 64 x 64 results. The emulated
/// device runs them too.
///
/// A team gathers 256 bytes of each of its 64 rows (patches of the source, as they lie beside each other in the matrix
/// that never exists) and as much of 64 columns of weights into scratch, multiplies them (multiply() of block.hpp), and
/// goes on to the next. An element that was read is used 64 times: 64 / sizeof(T) operations a byte, 32 for bf16, which
/// mostly come from the second-level cache, since a source voxel is read once a tap and the weights by every team.
/// Scratch is 52 to 67 KiB, so that two or three teams share a multiprocessor and hide each other's barriers.
///
/// Which voxels a row and a step of the sum meet takes divisions; each is worked out once a row or step, and kept as a
/// place beside the blocks. A cell of the matrix then costs an addition and a comparison an axis, and where channels
/// come in groups of 16 bytes a thread copies so many at once.

#include "m3i/kernels/block.hpp"
#include "m3i/kernels/conv3d_gather.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

inline constexpr Index implicit_tile = 64;
/// Steps of the sum that a team takes at once.
template <class T>
inline constexpr Index implicit_slice = 256 / Index(sizeof(T));
/// Elements that a thread copies at once where all channels come in whole chunks.
template <class T>
inline constexpr int implicit_width = 16 / int(sizeof(T));
template <class T, class... Pointers>
bool in_chunks(Index channels, const Pointers*... pointers) {
  return channels % implicit_width<T> == 0 && ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}
/// f(width), a compile-time constant.
template <class T, class F>
void with_chunk_width(bool chunks, F f) {
  if (chunks) f(std::integral_constant<int, implicit_width<T>>{});
  else f(std::integral_constant<int, 1>{});
}

/// Quotient and rest; in 32 bits where both have them, which a GPU divides several times faster.
struct Division {
  Index quotient, rest;
  M3I_HD Division(Index value, Index by) {
    if (((value | by) >> 32) == 0) {
      const auto v = std::uint32_t(value), b = std::uint32_t(by);
      quotient = v / b, rest = v % b;
    } else {
      quotient = value / by, rest = value % by;
    }
  }
};

/// What a row (a voxel of the result) or a step of the sum (a channel at a tap) knows of a source element: it is
/// source[row.source + step.source] where row.at + step.at lies in the volume.
struct ImplicitPlace {
  Index source;
  Index other;         ///< where the row's result or the step's weight stands; -1 for neither
  std::int32_t at[3];  ///< along D, H, W
  M3I_HD static ImplicitPlace nowhere() { return {0, -1, {-(1 << 30), 0, 0}}; }
};

/// The blocks of a team, and what it knows of their cells. The walk lies there too: registers are for sums.
template <class T>
struct ImplicitWork {
  using A = accumulate_t<T>;
  static constexpr Index right_step = block_step<T>(implicit_tile), sums_step = sum_step<T, A>(implicit_tile);
  static constexpr Index turned_step = block_step<T>(implicit_slice<T>);
  static_assert(implicit_tile * turned_step <= implicit_slice<T> * right_step, "either order has room");
  T *left, *right;  // [left_rows, left_cols], and [slice, tile] or turned, [tile, slice]
  A* sums;          // [tile, tile]
  ImplicitPlace *rows, *steps;
  GatherSum<T>* walk;
  Index left_step, bytes;
  M3I_HD ImplicitWork(std::byte* base, Index left_rows, Index left_cols) : left_step(block_step<T>(left_cols)) {
    BlockCutter cut{base};
    left = cut.take<T>(left_rows, left_cols);
    right = cut.take<T>(implicit_slice<T>, implicit_tile);
    sums = cut.sums<T, A>(implicit_tile, implicit_tile);
    rows = cut.line<ImplicitPlace>(left_rows);
    steps = cut.line<ImplicitPlace>(left_cols);
    walk = cut.line<GatherSum<T>>(1);
    bytes = cut.bytes;
  }
};

/// Places of result voxels [first, first + used), and nowhere up to `count`.
template <class Team, class T>
M3I_HD inline void place_rows(
    Team team, const GatherSum<T>& s, Index first, Index used, Index count, ImplicitPlace* places) {
  team.each(count, [&](Index r) {
    auto place = ImplicitPlace::nowhere();
    if (r < used) {
      const Division line(first + r, s.axis[2].count), plane(line.quotient, s.axis[1].count);
      const Division item(plane.quotient, s.axis[0].count);
      const Index q[3] = {item.rest, plane.rest, line.rest};
      place.source = place.other = item.quotient;
      for (int a = 0; a < 3; ++a) {
        place.at[a] = std::int32_t(q[a] * s.axis[a].step);
        place.source = place.source * s.axis[a].extent + place.at[a];
        place.other = place.other * s.axis[a].volume + s.axis[a].start + q[a] * s.axis[a].spacing;
      }
      place.source *= s.source_channels;
      place.other *= s.result_channels;
    }
    places[r] = place;
  });
}

/// Places of the steps first, first + width, ... of the sum, `count` of them; nowhere from `depth` on.
template <int width, class Team, class T>
M3I_HD inline void place_steps(Team team,
                               const GatherSum<T>& s,
                               const GatherWeights<T>& w,
                               Index first,
                               Index count,
                               Index depth,
                               ImplicitPlace* places) {
  team.each(count, [&](Index i) {
    auto place = ImplicitPlace::nowhere();
    const Index k = first + i * width;
    if (k < depth) {
      const Division tap(k, s.group_source()), line(tap.quotient, s.axis[2].taps);
      const Division plane(line.quotient, s.axis[1].taps);
      const Index t[3] = {plane.quotient, plane.rest, line.rest};
      place.source = 0;
      for (int a = 0; a < 3; ++a) {
        place.at[a] = std::int32_t(s.axis[a].offset(t[a]));
        place.source = place.source * s.axis[a].extent + place.at[a];
      }
      place.source = place.source * s.source_channels + tap.rest;
      place.other = s.kernel_tap(t[0], t[1], t[2]) * w.tap_stride + tap.rest * w.source_stride;
    }
    places[i] = place;
  });
}

/// The gathered block: `count` chunks of each row.
template <int width, class Team, class T>
M3I_HD inline void gather_block(Team team,
                                const GatherSum<T>& s,
                                Index group,
                                Index rows,
                                Index count,
                                const ImplicitWork<T>& w,
                                T* to,
                                Index step) {
  const T* const source = s.source + group * s.group_source();
  const auto d = std::uint32_t(s.axis[0].extent), h = std::uint32_t(s.axis[1].extent),
             l = std::uint32_t(s.axis[2].extent);
  const ImplicitPlace *const row = w.rows, *const steps = w.steps;
  const auto across = std::int32_t(step);
  each_cell(team, rows, count, [=](Index r, Index i) {
    const ImplicitPlace &a = row[r], &b = steps[i];
    const bool inside = std::uint32_t(a.at[0] + b.at[0]) < d && std::uint32_t(a.at[1] + b.at[1]) < h &&
                        std::uint32_t(a.at[2] + b.at[2]) < l;  // negative ones become large
    copy_chunk<width>(inside ? source + a.source + b.source : nullptr,
                      to + std::int32_t(r) * across + std::int32_t(i) * width);
  });
}

/// Whether the weights of a result lie beside each other, and stay so for tensor cores, which take either order:
/// turning them would send the stores of 16 threads to one bank of shared memory.
template <class T>
M3I_HD inline bool weights_stay_turned(const GatherWeights<T>& w) {
  return is_small_float<T> && w.result_stride != 1;
}

/// Weights of the placed steps (`depth` of them, zeros for those nowhere) for `cols` results: [depth, cols], or turned.
template <int width, class Team, class T>
M3I_HD inline void load_weights(
    Team team, const GatherWeights<T>& w, const T* from, Index depth, Index cols, const ImplicitWork<T>& work) {
  constexpr Index to_step = ImplicitWork<T>::right_step, turned_step = ImplicitWork<T>::turned_step;
  const ImplicitPlace* const steps = work.steps;
  const Index source_stride = w.source_stride, result_stride = w.result_stride;
  T* const to = work.right;
  if (result_stride == 1) {  // results lie beside each other
    each_cell(team, depth, cols / width, [=](Index k, Index c) {
      const Index at = steps[k / width].other;
      copy_chunk<width>(at < 0 ? nullptr : from + at + k % width * source_stride + c * width,
                        to + k * to_step + c * width);
    });
  } else {  // steps do
    each_cell(team, cols, depth / width, [=](Index c, Index k) {
      const Index at = steps[k].other;
      const T* const own = at < 0 ? nullptr : from + at + c * result_stride;
      if constexpr (is_small_float<T>) {
        copy_chunk<width>(own, to + c * turned_step + k * width);
      } else {
        alignas(16) T chunk[std::size_t(width)];
        copy_chunk<width>(own, chunk);
        for (int i = 0; i < width; ++i) to[(k * width + i) * to_step + c] = chunk[i];
      }
    });
  }
}

/// Result or input gradient: a gathering sum in phases, of which the result has one.
template <class T, int width>
struct ImplicitConv3d {
  using A = accumulate_t<T>;
  Conv3dGeometry g;
  bool input_grad;
  const T *source, *w, *bias;
  T* result;
  Index phases[3], tiles, col_tiles;  // of the channels of a group's result

  ImplicitConv3d(const Conv3dGeometry& geometry, bool grad, const T* s, const T* weight, const T* b, T* r)
      : g(geometry), input_grad(grad), source(s), w(weight), bias(b), result(r) {
    Index voxels = g.batch;  // of the largest phase
    for (int a = 0; a < 3; ++a) {
      phases[a] = grad ? std::min(g.stride[a], g.in[a]) : 1;
      voxels *= grad ? (g.in[a] + phases[a] - 1) / phases[a] : g.out[a];
    }
    tiles = (voxels + implicit_tile - 1) / implicit_tile;
    col_tiles = ((grad ? g.group_in() : g.group_out()) + implicit_tile - 1) / implicit_tile;
  }
  Index items() const { return phases[0] * phases[1] * phases[2] * tiles * g.groups * col_tiles; }
  M3I_HD static ImplicitWork<T> work(std::byte* scratch) { return {scratch, implicit_tile, implicit_slice<T>}; }

  template <class Team>
  M3I_HD void operator()(Team team, Index item, std::byte* scratch) const {
    const Division by_col(item, col_tiles), by_group(by_col.quotient, g.groups), by_tile(by_group.quotient, tiles);
    const Division by_w(by_tile.quotient, phases[2]), by_h(by_w.quotient, phases[1]);
    const ImplicitWork<T> to = work(scratch);
    GatherSum<T>& s = *to.walk;
    team.each(1, [&](Index) {
      s = input_grad ? GatherSum<T>::input_grad(g, by_h.quotient, by_h.rest, by_w.rest, source, result)
                     : GatherSum<T>::forward(g, source, result);
    });
    const Index first = by_tile.rest * implicit_tile, voxels = s.voxels(), depth = s.taps() * s.group_source();
    if (first >= voxels || (input_grad && depth == 0)) return;
    const Index group = by_group.rest, col = by_col.rest * implicit_tile, channel = group * s.group_result() + col;
    const Index rows = smaller(implicit_tile, voxels - first), cols = smaller(implicit_tile, s.group_result() - col);
    const auto weights = input_grad ? GatherWeights<T>::input_grad(g, w) : GatherWeights<T>::forward(g, w);
    const T* const own_weights = w + group * weights.group_stride + col * weights.result_stride;
    const bool turned = weights_stay_turned(weights);
    place_rows(team, s, first, rows, rows, to.rows);
    Index k = 0;
    do {
      const Index inner = smaller(implicit_slice<T>, depth - k), filled = inner_extent<T>(inner);
      place_steps<width>(team, s, weights, k, filled / width, depth, to.steps);
      gather_block<width>(team, s, group, rows, filled / width, to, to.left, to.left_step);
      load_weights<width>(team, weights, own_weights, filled, cols, to);
      multiply(team, BlockGemm<T, A>{rows, cols, inner, to.left, to.left_step, 1, to.right, turned ? 1 : to.right_step,
                                     turned ? to.turned_step : 1, to.sums, to.sums_step, k > 0});
      k += implicit_slice<T>;
    } while (k < depth);

    const ImplicitPlace* const places = to.rows;
    const A* const sums = to.sums;
    const T* const start = bias ? bias + channel : nullptr;
    T* const out = result + channel;
    const bool keep = input_grad;
    each_cell(team, rows, cols, [=](Index r, Index c) {
      T& y = out[places[r].other + c];
      const A sum = sums[r * ImplicitWork<T>::sums_step + c];
      y = T(keep ? A(y) + sum : start ? A(start[c]) + sum : sum);
    });
  }
};

/// partial [shares, Co, taps, Ci / groups] of the weight gradient: dy^T times the gathered matrix, over `run` voxels.
template <class T, int width>
struct ImplicitWeightGrad {
  using A = accumulate_t<T>;
  Conv3dGeometry g;
  const T *x, *dy;
  A* partial;
  Index row_tiles, col_tiles, run_voxels, shares;

  /// Shares for some hundred teams; from the sizes alone, so that the bits do not depend on the device.
  ImplicitWeightGrad(const Conv3dGeometry& geometry, const T* from, const T* grad)
      : g(geometry), x(from), dy(grad), partial(nullptr) {
    const Index voxels = g.batch * g.out_voxels(), depth = g.taps() * g.group_in(), least = 4 * implicit_slice<T>;
    row_tiles = (g.group_out() + implicit_tile - 1) / implicit_tile;
    col_tiles = (depth + implicit_tile - 1) / implicit_tile;
    const Index tiles = g.groups * row_tiles * col_tiles;
    shares = std::clamp<Index>((511 + tiles) / tiles, 1, (voxels + least - 1) / least);
    run_voxels = (voxels + shares - 1) / shares;
    shares = (voxels + run_voxels - 1) / run_voxels;
  }
  Index items() const { return shares * g.groups * row_tiles * col_tiles; }
  M3I_HD static ImplicitWork<T> work(std::byte* scratch) { return {scratch, implicit_slice<T>, implicit_tile}; }

  template <class Team>
  M3I_HD void operator()(Team team, Index item, std::byte* scratch) const {
    const Division by_col(item, col_tiles), by_row(by_col.quotient, row_tiles), by_group(by_row.quotient, g.groups);
    const ImplicitWork<T> to = work(scratch);
    GatherSum<T>& s = *to.walk;
    team.each(1, [&](Index) { s = GatherSum<T>::forward(g, x, nullptr); });
    const Index depth = g.taps() * g.group_in(), group = by_group.rest, share = by_group.quotient;
    const Index row = by_row.rest * implicit_tile, col = by_col.rest * implicit_tile;
    const Index rows = smaller(implicit_tile, g.group_out() - row), cols = smaller(implicit_tile, depth - col);
    const Index begin = share * run_voxels, end = smaller(g.batch * g.out_voxels(), begin + run_voxels);
    const Index channel = group * g.group_out() + row, apart = g.out_channels;
    place_steps<width>(team, s, GatherWeights<T>::forward(g, nullptr), col, cols / width, depth, to.steps);
    for (Index voxel = begin; voxel < end; voxel += implicit_slice<T>) {
      const Index inner = smaller(implicit_slice<T>, end - voxel), filled = inner_extent<T>(inner);
      place_rows(team, s, voxel, inner, filled, to.rows);
      gather_block<width>(team, s, group, filled, cols / width, to, to.right, to.right_step);
      const T* const from = dy + voxel * apart + channel;
      T* const left = to.left;
      const Index step = to.left_step;
      each_cell(team, filled, rows / width, [=](Index v, Index c) {
        copy_chunk<width>(v < inner ? from + v * apart + c * width : nullptr, left + v * step + c * width);
      });
      multiply(team, BlockGemm<T, A>{rows, cols, inner, left, 1, step, to.right, to.right_step, 1, to.sums,
                                     to.sums_step, voxel > begin});
    }
    const A* const sums = to.sums;
    A* const out = partial + (share * g.out_channels + channel) * depth + col;
    each_cell(team, rows, cols,
              [=](Index r, Index c) { out[r * depth + c] = sums[r * ImplicitWork<T>::sums_step + c]; });
  }
};

/// y[i] += the shares of element i, in order.
template <class T>
struct AddShares {
  using A = accumulate_t<T>;
  const A* partial;
  T* y;
  Index shares, size;
  M3I_HD void operator()(Index i) const {
    A total = partial[i];
    for (Index share = 1; share < shares; ++share) total += partial[share * size + i];
    y[i] = T(A(y[i]) + total);
  }
};

/// Then a product would use one column of 64, and each result is a short sum; only those of the weights are long.
inline bool single_channels(const Conv3dGeometry& g) { return g.group_in() == 1 && g.groups > 1; }
inline void require_short_axes(const Conv3dGeometry& g) {
  for (int a = 0; a < 3; ++a)
    require(g.in[a] + 2 * g.padding[a] < Index(1) << 30, "conv3d: ", g.in[a], " voxels and padding ", g.padding[a],
            " along axis ", a, " are too many for a GPU without cuDNN");
}

template <class T>
void conv3d_implicit_forward(Device device, const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  if (single_channels(g))
    return for_each(device, g.batch * g.out_voxels() * g.out_channels, Conv3dForward<T>{x, w, bias, y, g});
  require_short_axes(g);
  with_chunk_width<T>(in_chunks<T>(g.group_in(), x, w), [&](auto width) {
    const ImplicitConv3d<T, width()> product(g, false, x, w, bias, y);
    device_rows_with_scratch(device, product.items(), product.work(nullptr).bytes, product);
  });
}

template <class T>
void conv3d_implicit_input_grad(Device device, const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  if (single_channels(g))
    return for_each(device, g.batch * g.in_voxels() * g.in_channels, Conv3dInputGrad<T>{dy, w, dx, g});
  require_short_axes(g);
  with_chunk_width<T>(in_chunks<T>(g.group_in(), w) && in_chunks<T>(g.group_out(), dy), [&](auto width) {
    const ImplicitConv3d<T, width()> product(g, true, dy, w, nullptr, dx);
    device_rows_with_scratch(device, product.items(), product.work(nullptr).bytes, product);
  });
}

template <class T>
void conv3d_implicit_weight_grad(Device device, const Conv3dGeometry& g, const T* x, const T* dy, T* dw) {
  require_short_axes(g);
  with_chunk_width<T>(in_chunks<T>(g.group_in(), x) && in_chunks<T>(g.group_out(), dy), [&](auto width) {
    ImplicitWeightGrad<T, width()> product(g, x, dy);
    const Index size = g.out_channels * g.taps() * g.group_in();
    const Tensor<accumulate_t<T>> partial({product.shares, size}, device);
    product.partial = partial.data();
    device_rows_with_scratch(device, product.items(), product.work(nullptr).bytes, product);
    for_each(device, size, AddShares<T>{partial.data(), dw, product.shares, size});
  });
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
