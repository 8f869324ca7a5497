#pragma once
/// Host convolutions with 3 x 3 taps along H and W and stride 1, in 2.25 times fewer multiplications: F(2 x 2, 3 x 3)
/// of Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", arXiv:1509.09308. Along D the taps are
/// summed as they are.
///
/// A tile of 2 x 2 results Y needs 4 x 4 source voxels d and, for the taps g, 16 products instead of 36:
///
///   Y = A^T [(G g G^T) . (B^T d B)] A        dg = G^T [sum over tiles of (B^T d B) . (A dY A^T)] G
///
///         1  0 -1  0          1    0    0
///   B^T = 0  1  1  0     G = 1/2  1/2  1/2     A^T = 1  1  1  0
///         0 -1  1  0         1/2 -1/2  1/2           0  1 -1 -1
///         0  1  0 -1          0    0    1
///
/// Summed over channels, each of the 16 places is a product of matrices, [tiles, channels] times [channels, results],
/// in register blocks. A task walks along D with the transformed tiles of the last few planes in the second-level
/// cache; nothing as large as a volume is ever made.

#include <algorithm>
#include <cstdlib>

#include "m3i/core/parallel.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/kernels/conv3d_gather.hpp"
#include "m3i/kernels/register_block.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

// The transforms, of vectors of channels. (They know T: a deduced vector type would lose its alignment.
// clang++ takes that of arrays as the vectors' own all the same, so the arrays have it.)
template <class T>
void winograd_source(typename Lanes<T>::Vector (&d)[4][4]) {  // B^T d B
  using V = typename Lanes<T>::Vector;
  for (int b = 0; b < 4; ++b) {
    const V d0 = d[0][b] - d[2][b], d1 = d[1][b] + d[2][b], d2 = d[2][b] - d[1][b], d3 = d[1][b] - d[3][b];
    d[0][b] = d0, d[1][b] = d1, d[2][b] = d2, d[3][b] = d3;
  }
  for (int a = 0; a < 4; ++a) {
    const V d0 = d[a][0] - d[a][2], d1 = d[a][1] + d[a][2], d2 = d[a][2] - d[a][1], d3 = d[a][1] - d[a][3];
    d[a][0] = d0, d[a][1] = d1, d[a][2] = d2, d[a][3] = d3;
  }
}
template <class T>
void winograd_result(const typename Lanes<T>::Vector (&m)[4][4], typename Lanes<T>::Vector (&y)[2][2]) {  // A^T m A
  using V = typename Lanes<T>::Vector;
  V rows[2][4];
  for (int b = 0; b < 4; ++b) {
    rows[0][b] = m[0][b] + m[1][b] + m[2][b];
    rows[1][b] = m[1][b] - m[2][b] - m[3][b];
  }
  for (int a = 0; a < 2; ++a) {
    y[a][0] = rows[a][0] + rows[a][1] + rows[a][2];
    y[a][1] = rows[a][1] - rows[a][2] - rows[a][3];
  }
}
template <class T>
void winograd_result_grad(const typename Lanes<T>::Vector (&y)[2][2],
                          typename Lanes<T>::Vector (&m)[4][4]) {  // A y A^T
  using V = typename Lanes<T>::Vector;
  for (int a = 0; a < 4; ++a) {
    const V left = a == 0 ? y[0][0] : a == 1 ? y[0][0] + y[1][0] : a == 2 ? y[0][0] - y[1][0] : -y[1][0];
    const V right = a == 0 ? y[0][1] : a == 1 ? y[0][1] + y[1][1] : a == 2 ? y[0][1] - y[1][1] : -y[1][1];
    m[a][0] = left, m[a][1] = left + right, m[a][2] = left - right, m[a][3] = -right;
  }
}
template <class T>
void winograd_weight(const T (&g)[3][3], T (&u)[4][4]) {  // G g G^T
  T rows[4][3];
  for (int b = 0; b < 3; ++b) {
    rows[0][b] = g[0][b], rows[3][b] = g[2][b];
    rows[1][b] = (g[0][b] + g[1][b] + g[2][b]) / 2;
    rows[2][b] = (g[0][b] - g[1][b] + g[2][b]) / 2;
  }
  for (int a = 0; a < 4; ++a) {
    u[a][0] = rows[a][0], u[a][3] = rows[a][2];
    u[a][1] = (rows[a][0] + rows[a][1] + rows[a][2]) / 2;
    u[a][2] = (rows[a][0] - rows[a][1] + rows[a][2]) / 2;
  }
}
template <class T>
void winograd_weight_grad(const T (&p)[4][4], T (&g)[3][3]) {  // G^T p G
  T rows[3][4];
  for (int b = 0; b < 4; ++b) {
    const T sum = (p[1][b] + p[2][b]) / 2;
    rows[0][b] = p[0][b] + sum, rows[1][b] = (p[1][b] - p[2][b]) / 2, rows[2][b] = sum + p[3][b];
  }
  for (int a = 0; a < 3; ++a) {
    const T sum = (rows[a][1] + rows[a][2]) / 2;
    g[a][0] = rows[a][0] + sum, g[a][1] = (rows[a][1] - rows[a][2]) / 2, g[a][2] = sum + rows[a][3];
  }
}

/// A vector of channels; of the last ones `used` lie in memory, the rest is 0 or not written.
template <class T>
typename Lanes<T>::Vector load_lanes(const T* from, Index used) {
  using Vector = typename Lanes<T>::Vector;
  if (used >= Lanes<T>::count) return *reinterpret_cast<const Vector*>(from);
  T padded[std::size_t(Lanes<T>::count)] = {};
  for (Index i = 0; i < used; ++i) padded[i] = from[i];
  return *reinterpret_cast<const Vector*>(padded);
}
template <class T>
void store_lanes(const typename Lanes<T>::Vector& value, T* to, Index used) {
  using Vector = typename Lanes<T>::Vector;
  if (used >= Lanes<T>::count) {
    *reinterpret_cast<Vector*>(to) = value;
    return;
  }
  for (Index i = 0; i < used; ++i) to[i] = value[i];
}

/// Planes of taps along D, of which a task keeps the sources.
inline constexpr Index most_winograd_planes = 4;

/// Whether a gathering sum is such a convolution, with channels enough to repay the transforms of its tiles, and voxels
/// enough to repay that of its weights.
template <class T>
bool winograd_fits(const GatherSum<T>& s) {
  for (const GatherAxis& a : s.axis) {
    if (a.step != 1 || a.spacing != 1 || a.start != 0 || a.taps == 0) return false;
    if (a.taps > 1 && std::abs(a.offset_step) != 1)
      return false;  // neighbours, upwards (forward) or downwards (gradient)
  }
  return s.groups == 1 && s.axis[0].taps <= most_winograd_planes && s.axis[1].taps == 3 && s.axis[2].taps == 3 &&
         s.source_channels >= 16 && s.result_channels >= 16 && s.voxels() >= 4096;
}

/// How the work is cut: from the sizes alone.
template <class T>
struct WinogradPlan {
  Index tile_rows, tile_cols;  // of a plane
  Index origin[3];             // least offset of the taps along each axis
  Index planes;                // taps along D
  Index channels;              // of the source, rounded up to whole vectors
  Index strip, strips;         // tiles that a task takes of each plane
  Index run, runs;             // result planes that it walks over
  Index tasks;

  WinogradPlan(const GatherSum<T>& s, Index height) : planes(s.axis[0].taps) {
    constexpr Index lanes = Lanes<T>::count, cache = Index(600) << 10;
    tile_rows = (s.axis[1].count + 1) / 2, tile_cols = (s.axis[2].count + 1) / 2;
    for (int a = 0; a < 3; ++a) origin[a] = std::min(s.axis[a].offset(0), s.axis[a].offset(s.axis[a].taps - 1));
    channels = (s.source_channels + lanes - 1) / lanes * lanes;
    const Index tiles = tile_rows * tile_cols, fit = cache / (planes * 16 * channels * Index(sizeof(T)));
    const Index most = std::max(height, fit / height * height), parts = (tiles + most - 1) / most;
    strip = ((tiles + parts - 1) / parts + height - 1) / height * height;
    strips = (tiles + strip - 1) / strip;
    runs = std::clamp<Index>((31 + s.batch * strips) / (s.batch * strips), 1, std::max<Index>(1, s.axis[0].count / 8));
    run = (s.axis[0].count + runs - 1) / runs;
    runs = (s.axis[0].count + run - 1) / run;
    tasks = s.batch * strips * runs;
  }

  Index plane_size() const { return 16 * channels * strip; }
  /// Of transformed tiles [16, channels / lanes, strip, lanes]: one of the 16 places, one vector of channels.
  Index at(Index place, Index vector) const { return (place * channels + vector * Lanes<T>::count) * strip; }
};

/// A task: some tiles of some planes, and the transformed source planes that it keeps.
template <class T>
struct WinogradTask {
  using Vector = typename Lanes<T>::Vector;
  const GatherSum<T>& s;
  const WinogradPlan<T>& plan;
  Index n, first, count, begin, end;  // sample; tiles [first, first + count); result planes [begin, end)
  Index next;                         // source plane to be transformed next
  Tensor<T> ring;

  WinogradTask(const GatherSum<T>& sum, const WinogradPlan<T>& p, Index task, const Tensor<T>& memory)
      : s(sum), plan(p), ring(memory) {
    n = task / p.runs / p.strips;
    first = task / p.runs % p.strips * p.strip;
    count = std::min(p.strip, p.tile_rows * p.tile_cols - first);
    begin = task % p.runs * p.run, end = std::min(s.axis[0].count, begin + p.run);
    next = begin + p.origin[0];
  }

  /// The t-th tile of 2 x 2 results: its corner in a plane, and how many of its rows and columns lie in the volume.
  struct Tile {
    Index h, w, rows, cols;
  };
  Tile tile(Index t) const {
    const Index h = (first + t) / plan.tile_cols * 2, w = (first + t) % plan.tile_cols * 2;
    return {h, w, std::min<Index>(2, s.axis[1].count - h), std::min<Index>(2, s.axis[2].count - w)};
  }
  /// Elements of the result before that corner in plane d, and between its rows.
  Index corner(Index d, const Tile& tile) const {
    return ((n * s.axis[0].count + d) * s.axis[1].count + tile.h) * row_step() + tile.w * s.result_channels;
  }
  Index row_step() const { return s.axis[2].count * s.result_channels; }

  /// Transforms what the result plane d needs and is not there.
  void reach(Index d) {
    for (; next < d + plan.origin[0] + plan.planes; ++next)
      if (inside(next)) transform(next);
  }
  bool inside(Index z) const { return z >= 0 && z < s.axis[0].extent; }
  T* plane(Index z) const { return ring.data() + (z - begin - plan.origin[0]) % plan.planes * plan.plane_size(); }

 private:
  void transform(Index z) const {
    constexpr Index lanes = Lanes<T>::count;
    const Index rows = s.axis[1].extent, cols = s.axis[2].extent, channels = s.source_channels;
    const T* const slice = s.source + (n * s.axis[0].extent + z) * rows * cols * channels;
    T* const to = plane(z);
    for (Index t = 0; t < count; ++t) {
      const Tile at = tile(t);
      const Index h = at.h + plan.origin[1], w = at.w + plan.origin[2];
      const T* voxel[4][4];
      for (int a = 0; a < 4; ++a)
        for (int b = 0; b < 4; ++b)
          voxel[a][b] = h + a >= 0 && h + a < rows && w + b >= 0 && w + b < cols
                            ? slice + ((h + a) * cols + w + b) * channels
                            : nullptr;
      for (Index c = 0; c < channels; c += lanes) {
        alignas(M3I_VECTOR_BYTES) Vector d[4][4];
        for (int a = 0; a < 4; ++a)
          for (int b = 0; b < 4; ++b) d[a][b] = voxel[a][b] ? load_lanes(voxel[a][b] + c, channels - c) : Vector{};
        winograd_source<T>(d);
        for (int place = 0; place < 16; ++place)
          *reinterpret_cast<Vector*>(to + plan.at(place, c / lanes) + t * lanes) = d[place / 4][place % 4];
      }
    }
  }
};

/// G g G^T of all taps, as panels [panel, 16, planes, channels, cols], filled up with zeros.
template <class T>
Tensor<T> winograd_weights(const GatherSum<T>& s, const GatherWeights<T>& w, const WinogradPlan<T>& plan, Index cols) {
  const Index results = s.result_channels, panels = (results + cols - 1) / cols;
  const Tensor<T> out = Tensor<T>::zeros({panels, 16, plan.planes, plan.channels, cols});
  const auto upwards = [&](int a, Index k) {  // the k-th tap in the order of its offset
    return s.axis[a].offset_step > 0 ? k : s.axis[a].taps - 1 - k;
  };
  parallel_for(panels * plan.planes, [&](Index i) {
    const Index panel = i / plan.planes, plane = i % plan.planes;
    const Index begin = panel * cols, used = std::min(cols, results - begin), size = plan.planes * plan.channels * cols;
    for (Index c = 0; c < s.source_channels; ++c)
      for (Index r = 0; r < used; ++r) {
        T g[3][3], u[4][4];
        for (Index a = 0; a < 3; ++a)
          for (Index b = 0; b < 3; ++b) {
            const Index tap = (upwards(0, plane) * 3 + upwards(1, a)) * 3 + upwards(2, b);
            g[a][b] = w.w[s.kernel_tap(tap) * w.tap_stride + c * w.source_stride + (begin + r) * w.result_stride];
          }
        winograd_weight(g, u);
        T* const to = out.data() + panel * 16 * size + (plane * plan.channels + c) * cols + r;
        for (Index place = 0; place < 16; ++place) to[place * size] = u[place / 4][place % 4];
      }
  });
  return out;
}

/// result = bias + sum (keep = false), or result += sum (keep = true).
template <class T, int vectors>
void winograd_products(const GatherSum<T>& s, const GatherWeights<T>& w, const T* bias, bool keep) {
  using Vector = typename Lanes<T>::Vector;
  constexpr Index lanes = Lanes<T>::count, cols = block_cols<T, vectors>, height = block_rows<vectors>;
  const WinogradPlan<T> plan(s, height);
  const Tensor<T> weights = winograd_weights(s, w, plan, cols);
  const Index results = s.result_channels, panels = (results + cols - 1) / cols;
  parallel_for(plan.tasks, [&](Index index) {
    WinogradTask<T> task(s, plan, index, Tensor<T>::zeros({plan.planes, plan.plane_size()}));
    const Tensor<T> products({16, plan.strip, cols});
    for (Index d = task.begin; d < task.end; ++d) {
      task.reach(d);
      for (Index panel = 0; panel < panels; ++panel) {
        for (Index place = 0; place < 16; ++place)
          for (Index t = 0; t < task.count; t += height) {
            RegisterBlock<T, vectors, int(height)> block;
            for (Index k = 0; k < plan.planes; ++k) {
              const Index z = d + plan.origin[0] + k;
              if (!task.inside(z)) continue;
              const T* a = task.plane(z) + plan.at(place, 0) + t * lanes;
              const T* b = weights.data() + ((panel * 16 + place) * plan.planes + k) * plan.channels * cols;
              for (Index c = 0; c < plan.channels; c += lanes, a += plan.strip * lanes, b += lanes * cols)
                block.template add_product<lanes, 1>(a, lanes, b);
            }
            block.store(products.data() + (place * plan.strip + t) * cols, cols);
          }
        for (Index t = 0; t < task.count; ++t) {
          const auto tile = task.tile(t);
          T* const corner = s.result + task.corner(d, tile);
          for (Index c = panel * cols; c < std::min(results, (panel + 1) * cols); c += lanes) {
            alignas(M3I_VECTOR_BYTES) Vector m[4][4], y[2][2];
            for (Index place = 0; place < 16; ++place)
              m[place / 4][place % 4] = *reinterpret_cast<const Vector*>(
                  products.data() + (place * plan.strip + t) * cols + c - panel * cols);
            winograd_result<T>(m, y);
            for (Index a = 0; a < tile.rows; ++a)
              for (Index b = 0; b < tile.cols; ++b) {
                T* const to = corner + a * task.row_step() + b * results + c;
                if (keep || bias) y[a][b] += load_lanes(keep ? to : bias + c, results - c);
                store_lanes(y[a][b], to, results - c);
              }
          }
        }
      }
    }
  });
}

/// Rows of a product whose left operand lies in vectors of rows: as many as registers hold and whole vectors have.
template <class T, int vectors>
inline constexpr int lane_rows = [] {
  int rows = int(Lanes<T>::count);
  while (rows * vectors + vectors + 1 > vector_registers) rows /= 2;
  return rows;
}();

/// dw [result channels, taps, source channels] += the gradient, for the walk of the forward pass; dy as the result.
template <class T, int vectors>
void winograd_weight_grad(const GatherSum<T>& s, const T* dy, T* dw) {
  using Vector = typename Lanes<T>::Vector;
  constexpr Index lanes = Lanes<T>::count, cols = block_cols<T, vectors>;
  constexpr int rows = lane_rows<T, vectors>;
  const WinogradPlan<T> plan(s, block_rows<vectors>);
  const Index results = s.result_channels, panels = (results + cols - 1) / cols, planes = plan.planes;
  const Index size = panels * 16 * planes * plan.channels * cols;  // of [panel, 16, planes, channels, cols]
  const Index parts = std::clamp<Index>((Index(16) << 20) / (size * Index(sizeof(T))), 1, plan.tasks);
  const Tensor<T> partial = Tensor<T>::zeros({parts, size});
  parallel_for(parts, [&](Index part) {
    const Tensor<T> ring({planes, plan.plane_size()}), grads({16, plan.strip, cols});
    for (Index index = part * plan.tasks / parts; index < (part + 1) * plan.tasks / parts; ++index) {
      WinogradTask<T> task(s, plan, index, ring);
      for (Index d = task.begin; d < task.end; ++d) {
        task.reach(d);
        for (Index panel = 0; panel < panels; ++panel) {
          for (Index t = 0; t < task.count; ++t) {
            const auto tile = task.tile(t);
            const T* const corner = dy + task.corner(d, tile);
            for (Index c = 0; c < cols; c += lanes) {
              const Index left = results - panel * cols - c;
              alignas(M3I_VECTOR_BYTES) Vector y[2][2] = {}, m[4][4];
              for (Index a = 0; a < tile.rows; ++a)
                for (Index b = 0; b < tile.cols; ++b)
                  if (left > 0)
                    y[a][b] = load_lanes(corner + a * task.row_step() + b * results + panel * cols + c, left);
              winograd_result_grad<T>(y, m);
              for (Index place = 0; place < 16; ++place)
                *reinterpret_cast<Vector*>(grads.data() + (place * plan.strip + t) * cols + c) =
                    m[place / 4][place % 4];
            }
          }
          for (Index k = 0; k < planes; ++k) {
            const Index z = d + plan.origin[0] + k;
            if (!task.inside(z)) continue;
            for (Index place = 0; place < 16; ++place)
              for (Index c = 0; c < plan.channels; c += rows) {
                RegisterBlock<T, vectors, rows> block;
                block.template add_product<1, lanes>(task.plane(z) + plan.at(place, c / lanes) + c % lanes, task.count,
                                                     grads.data() + place * plan.strip * cols);
                block.add_to(
                    partial.data() + part * size + (((panel * 16 + place) * planes + k) * plan.channels + c) * cols,
                    cols);
              }
          }
        }
      }
    }
  });
  parallel_for(results, [&](Index r) {
    for (Index k = 0; k < planes; ++k)
      for (Index c = 0; c < s.source_channels; ++c) {
        double p[4][4] = {}, g[3][3];
        for (Index part = 0; part < parts; ++part)
          for (Index place = 0; place < 16; ++place)
            p[place / 4][place % 4] +=
                double(partial.data()[part * size +
                                      (((r / cols * 16 + place) * planes + k) * plan.channels + c) * cols + r % cols]);
        winograd_weight_grad(p, g);
        for (Index tap = 0; tap < 9; ++tap)
          dw[((r * planes + k) * 9 + tap) * s.source_channels + c] += T(g[tap / 3][tap % 3]);
      }
  });
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
