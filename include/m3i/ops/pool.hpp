#pragma once
/// Pooling of channels-last volumes. Windows do not reach over the edge: voxels that fill no window are left out.

#include <array>
#include <limits>

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/for_rows.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Sizes of a pooling, and which windows hold a voxel.
struct PoolGeometry {
  Index batch, channels;
  Index in[3], out[3], kernel[3], stride[3];

  M3I_HD Index window() const { return kernel[0] * kernel[1] * kernel[2]; }
  /// Voxel coordinates of row number `row` of a volume with these extents; returns the batch item.
  M3I_HD static Index coordinates(const Index (&extent)[3], Index row, Index (&at)[3]) {
    for (int a = 2; a >= 0; --a) {
      at[a] = row % extent[a];
      row /= extent[a];
    }
    return row;
  }
  /// The input voxel where the window of output voxel `row` begins.
  M3I_HD Index first_voxel(Index row) const {
    Index o[3];
    const Index n = coordinates(out, row, o);
    return ((n * in[0] + o[0] * stride[0]) * in[1] + o[1] * stride[1]) * in[2] + o[2] * stride[2];
  }
  /// Windows [begin, end) along an axis that hold input position i.
  M3I_HD Index begin(int a, Index i) const { return i < kernel[a] ? 0 : (i - kernel[a]) / stride[a] + 1; }
  M3I_HD Index end(int a, Index i) const { return i / stride[a] + 1 < out[a] ? i / stride[a] + 1 : out[a]; }
};

inline PoolGeometry pool_geometry(const char* name,
                                  const Shape& x,
                                  const std::array<Index, 3>& kernel,
                                  const std::array<Index, 3>& stride) {
  require(x.rank() == 5, name, ": needs a volume [N, D, H, W, C], got ", x);
  PoolGeometry g{};
  g.batch = x[0];
  g.channels = x[4];
  for (int a = 0; a < 3; ++a) {
    const auto i = std::size_t(a);
    require(kernel[i] >= 1 && stride[i] >= 1, name, ": axis ", a, " has kernel ", kernel[i], " and stride ", stride[i],
            "; both start at 1");
    require(x[a + 1] >= kernel[i], name, ": a window of ", kernel[i], " does not fit into ", x, " along axis ", a);
    g.in[a] = x[a + 1];
    g.out[a] = (x[a + 1] - kernel[i]) / stride[i] + 1;
    g.kernel[a] = kernel[i];
    g.stride[a] = stride[i];
  }
  return g;
}
inline Shape pool_shape(const PoolGeometry& g) { return {g.batch, g.out[0], g.out[1], g.out[2], g.channels}; }

/// One output voxel a row: the maximum of each channel, and where in its window it was found first.
template <class T>
struct MaxPool {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  std::int32_t* where;
  PoolGeometry g;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index channels = g.channels;
    const PoolGeometry p = g;
    const T* in = x + g.first_voxel(row) * channels;
    T* out = y + row * channels;
    std::int32_t* place = where + row * channels;
    team.each(channels, [=](Index c) {
      A top = A(in[c]);
      std::int32_t best = 0, number = 0;
      for (Index k0 = 0; k0 < p.kernel[0]; ++k0)
        for (Index k1 = 0; k1 < p.kernel[1]; ++k1)
          for (Index k2 = 0; k2 < p.kernel[2]; ++k2, ++number) {
            const A v = A(in[((k0 * p.in[1] + k1) * p.in[2] + k2) * channels + c]);
            const bool larger = v > top || (v != v && top == top);  // NaN wins, as the first of its kind
            top = larger ? v : top;
            best = larger ? number : best;
          }
      out[c] = T(top);
      place[c] = best;
    });
  }
};

/// One input voxel a row: the gradients of all windows in which it was the maximum (max pooling, `where` given), or an
/// equal share of the gradients of all its windows (mean pooling).
template <class T>
struct PoolGrad {
  using A = accumulate_t<T>;
  const T* dy;
  const std::int32_t* where;
  T* dx;
  PoolGeometry g;
  A share;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    Index at[3];
    const Index n = PoolGeometry::coordinates(g.in, row, at), channels = g.channels;
    const Index i0 = at[0], i1 = at[1], i2 = at[2];
    const PoolGeometry p = g;
    const T* grad = dy;
    const std::int32_t* place = where;
    const A part = share;
    T* out = dx + row * channels;
    team.each(channels, [=](Index c) {
      A total = 0;
      for (Index o0 = p.begin(0, i0); o0 < p.end(0, i0); ++o0)
        for (Index o1 = p.begin(1, i1); o1 < p.end(1, i1); ++o1)
          for (Index o2 = p.begin(2, i2); o2 < p.end(2, i2); ++o2) {
            const Index own =
                ((i0 - o0 * p.stride[0]) * p.kernel[1] + i1 - o1 * p.stride[1]) * p.kernel[2] + i2 - o2 * p.stride[2];
            const Index source = (((n * p.out[0] + o0) * p.out[1] + o1) * p.out[2] + o2) * channels + c;
            total += !place || place[source] == own ? A(grad[source]) : A(0);
          }
      out[c] = T(A(out[c]) + part * total);
    });
  }
};

template <class T>
struct AvgPool {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  PoolGeometry g;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index channels = g.channels;
    const PoolGeometry p = g;
    const T* in = x + g.first_voxel(row) * channels;
    T* out = y + row * channels;
    team.each(channels, [=](Index c) {
      A total = 0;
      for (Index k0 = 0; k0 < p.kernel[0]; ++k0)
        for (Index k1 = 0; k1 < p.kernel[1]; ++k1)
          for (Index k2 = 0; k2 < p.kernel[2]; ++k2)
            total += A(in[((k0 * p.in[1] + k1) * p.in[2] + k2) * channels + c]);
      out[c] = T(total / A(p.window()));
    });
  }
};

template <class T>
struct ScaledColumn {
  using A = accumulate_t<T>;
  const T* x;
  Index cols;
  A scale;
  M3I_HD A operator()(Index row, Index col) const { return A(x[row * cols + col]) * scale; }
};
template <class T>
struct GlobalPoolGrad {
  using A = accumulate_t<T>;
  const T* dy;
  T* dx;
  Index voxels, channels;
  M3I_HD void operator()(Index i) const {
    const Index n = i / channels / voxels;
    dx[i] = T(A(dx[i]) + A(dy[n * channels + i % channels]) / A(voxels));
  }
};

}  // namespace detail

/// Maximum over windows: [N, D, H, W, C] -> [N, (D - kD) / sD + 1, ..., C], rounded down.
/// Gradient: x, to the first maximum of each window. Keeps a 32-bit number for each output. Throws ShapeError.
template <class T>
Var<T> max_pool3d(const Var<T>& x, const std::array<Index, 3>& kernel, const std::array<Index, 3>& stride) {
  const Operation operation("max_pool3d", x);
  const auto g = detail::pool_geometry("max_pool3d", x.shape(), kernel, stride);
  require(g.window() <= std::numeric_limits<std::int32_t>::max(), "max_pool3d: a window of ", g.window(),
          " voxels is too large");
  const Tensor<T> y(detail::pool_shape(g), x.device());
  const Tensor<std::int32_t> where(y.shape(), x.device());
  const Index rows = g.channels ? y.size() / g.channels : 0, cost = g.channels * g.window();
  for_rows(x.device(), rows, detail::MaxPool<T>{x.data(), y.data(), where.data(), g}, cost);
  return record<T>("max_pool3d", y, {x}, [dx = x.gradient(), where, g, cost](const Tensor<T>& dy) {
    for_rows(dy.device(), g.channels ? dx.size() / g.channels : 0,
             detail::PoolGrad<T>{dy.data(), where.data(), dx.grad().data(), g, 1}, cost);
  });
}

/// Mean over windows, shapes as in max_pool3d. Gradient: x. Throws ShapeError.
template <class T>
Var<T> avg_pool3d(const Var<T>& x, const std::array<Index, 3>& kernel, const std::array<Index, 3>& stride) {
  const Operation operation("avg_pool3d", x);
  const auto g = detail::pool_geometry("avg_pool3d", x.shape(), kernel, stride);
  const Tensor<T> y(detail::pool_shape(g), x.device());
  const Index rows = g.channels ? y.size() / g.channels : 0, cost = g.channels * g.window();
  for_rows(x.device(), rows, detail::AvgPool<T>{x.data(), y.data(), g}, cost);
  return record<T>("avg_pool3d", y, {x}, [dx = x.gradient(), g, cost](const Tensor<T>& dy) {
    using A = accumulate_t<T>;
    for_rows(dy.device(), g.channels ? dx.size() / g.channels : 0,
             detail::PoolGrad<T>{dy.data(), nullptr, dx.grad().data(), g, A(1) / A(g.window())}, cost);
  });
}

/// Mean over all voxels: [N, D, H, W, C] -> [N, C]. Gradient: x. Throws ShapeError for a volume without voxels.
template <class T>
Var<T> global_avg_pool(const Var<T>& x) {
  const Operation operation("global_avg_pool", x);
  require(x.rank() == 5, "global_avg_pool: needs a volume [N, D, H, W, C], got ", x.shape());
  const Index batch = x.shape()[0], channels = x.shape()[4], voxels = x.shape().slice(1, 4).size();
  require(voxels > 0, "global_avg_pool: ", x.shape(), " has no voxels");
  const Tensor<T> y = Tensor<T>::zeros({batch, channels}, x.device());
  using A = accumulate_t<T>;
  for (Index n = 0; n < batch; ++n)
    for_columns(x.device(), voxels, channels,
                detail::ScaledColumn<T>{x.data() + n * voxels * channels, channels, A(1) / A(voxels)},
                y.data() + n * channels);
  return record<T>("global_avg_pool", y, {x}, [dx = x.gradient(), voxels, channels](const Tensor<T>& dy) {
    for_each(dy.device(), dx.size(), detail::GlobalPoolGrad<T>{dy.data(), dx.grad().data(), voxels, channels});
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
