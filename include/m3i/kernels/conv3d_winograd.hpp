#pragma once
/// 3 x 3 filters over H and W by Winograd's minimal filtering, F(2 x 2, 3 x 3): 2 x 2 results of a slice take 16
/// products instead of 36. Taps along D are summed as they are.
///
///   Y = A^T [sum over taps and channels of (G g G^T) * (B^T d B)] A     (* element by element)
///
///         1  0 -1  0         1    0    0          1  1  1  0
///   B^T = 0  1  1  0    G = 1/2  1/2  1/2   A^T = 0  1 -1 -1
///         0 -1  1  0        1/2 -1/2  1/2
///         0  1  0 -1         0    0    1
///
/// d are 4 x 4 source values, g the 3 x 3 weights. Each of the 16 components is a matrix product
/// [tiles, taps * channels] x [taps * channels, results], by the register blocks of the other convolutions. A run of
/// tiles walks along D: each source slice is transformed once and stays in the second-level cache for its taps.
///
/// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv:1509.09308.

#include <algorithm>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/kernels/conv3d_direct.hpp"
#include "m3i/kernels/register_block.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Whether the method is defined: whole registers of channels, 3 x 3 taps side by side, results side by side.
inline bool winograd_fits(const Conv3dGeometry& g) {
  bool fits = g.groups == 1 && g.kernel[0] <= tile_width / 16 && g.kernel[1] == 3 && g.kernel[2] == 3;
  for (int a = 0; a < 3; ++a) fits = fits && g.stride[a] == 1 && g.dilation[a] == 1;
  return fits && g.in_channels % 16 == 0 && g.out_channels % 16 == 0;
}
/// Whether it is faster, by shapes alone: transforming the weights costs the products of some thousand voxels.
inline bool winograd_pays(const Conv3dGeometry& g) {
  return winograd_fits(g) && g.batch * g.out_voxels() >= 8192 && g.out[1] >= 16 && g.out[2] >= 16;
}

/// result[n, q, r] (+)= sum over taps k and channels s of source[n, q - before + k, s] w[k, s, r], where the weight of
/// tap k stands at w[tap[k] + s * source_stride + r * result_stride].
template <class T>
struct WinogradSum {
  Index batch, source_channels, result_channels, depth;  // depth: taps along D
  Index source_extent[3], result_extent[3], before[3];
  const T* source;
  T* result;
  const T* w;
  std::vector<Index> tap;
  Index source_stride, result_stride;
};

/// How the work is cut, from the sizes of the problem alone.
struct WinogradPlan {
  Index across, tiles;  // tiles of a row, of a slice
  Index run, runs;      // tiles that walk together
  Index slices, walks;  // results along D of one walk
  Index width, parts;   // source channels of a product
  Index component;      // values between two components of the transformed source
  template <class T>
  WinogradPlan(const WinogradSum<T>& s, Index rows) {
    across = (s.result_extent[2] + 1) / 2;
    tiles = (s.result_extent[1] + 1) / 2 * across;
    const Index most = tile_width / s.depth / 16 * 16;
    parts = (s.source_channels + most - 1) / most;
    width = (s.source_channels / 16 + parts - 1) / parts * 16;
    parts = (s.source_channels + width - 1) / width;
    const Index cached = (Index(512) << 10) / (16 * s.depth * s.source_channels * Index(sizeof(T)));
    const Index up_to = std::clamp<Index>(cached, 28, 192);
    runs = (tiles + up_to - 1) / up_to;
    run = ((tiles + runs - 1) / runs + rows - 1) / rows * rows;
    runs = (tiles + run - 1) / run;
    const Index wanted = std::max<Index>(1, 32 / (s.batch * runs));  // tasks enough for threads
    slices = std::max<Index>(4, (s.result_extent[0] + wanted - 1) / wanted);
    walks = (s.result_extent[0] + slices - 1) / slices;
    component = parts * run * tile_stride + 16;  // not all components in the same cache sets
  }
};

template <class T>
[[gnu::always_inline]] inline void winograd_source_line(typename Lanes<T>::Vector& a,
                                                        typename Lanes<T>::Vector& b,
                                                        typename Lanes<T>::Vector& c,
                                                        typename Lanes<T>::Vector& d) {
  a -= c;
  const typename Lanes<T>::Vector sum = b + c;
  d = b - d;
  c -= b;
  b = sum;
}

/// B^T d B of each channel: 4 x 4 values at from[i * row + j * column] to 16 components.
template <class T>
void winograd_source(const T* from, Index row, Index column, Index channels, T* to, Index component) {
  using Vector = typename Lanes<T>::Vector;
  for (Index c = 0; c < channels; c += Lanes<T>::count) {
    Vector d[4][4];
    unrolled<4>([&](auto i) {
      unrolled<4>(
          [&](auto j) { d[i][j] = *reinterpret_cast<const Vector*>(from + Index(i) * row + Index(j) * column + c); });
    });
    unrolled<4>([&](auto j) { winograd_source_line<T>(d[0][j], d[1][j], d[2][j], d[3][j]); });
    unrolled<4>([&](auto i) {
      winograd_source_line<T>(d[i][0], d[i][1], d[i][2], d[i][3]);
      unrolled<4>(
          [&](auto j) { *reinterpret_cast<Vector*>(to + (4 * Index(i) + Index(j)) * component + c) = d[i][j]; });
    });
  }
}

/// to[i] = from[i] + the i-th of the 2 x 2 values of A^T m A, for each channel.
template <class T>
void winograd_result(const T* m, Index component, Index channels, const T* const (&from)[4], T* const (&to)[4]) {
  using Vector = typename Lanes<T>::Vector;
  for (Index c = 0; c < channels; c += Lanes<T>::count) {
    Vector half[2][4];
    unrolled<4>([&](auto j) {
      const auto at = [&](Index i) -> const Vector& {
        return *reinterpret_cast<const Vector*>(m + (4 * i + Index(j)) * component + c);
      };
      const Vector b = at(1), d = at(2);
      half[0][j] = at(0) + b + d;
      half[1][j] = b - d - at(3);
    });
    unrolled<2>([&](auto i) {
      const Vector left = half[i][0] + half[i][1] + half[i][2], right = half[i][1] - half[i][2] - half[i][3];
      *reinterpret_cast<Vector*>(to[2 * i] + c) = *reinterpret_cast<const Vector*>(from[2 * i] + c) + left;
      *reinterpret_cast<Vector*>(to[2 * i + 1] + c) = *reinterpret_cast<const Vector*>(from[2 * i + 1] + c) + right;
    });
  }
}

/// G g G^T of all weights as panels [component, part, panel, tap along D, channel of the part, cols]. The taps along D
/// stand in a ring, 0 1 2 0 1: from any of the first three on come all of them, in a turned order.
template <class T>
Tensor<T> winograd_weights(const WinogradSum<T>& s, const WinogradPlan& p, Index cols) {
  const Index panels = (s.result_channels + cols - 1) / cols, ring = 2 * s.depth - 1;
  const Index component = p.parts * panels * ring * p.width * cols;
  const Tensor<T> out({16, component});
  parallel_for(s.depth * s.source_channels * panels, [&](Index task) {
    const Index panel = task % panels, channel = task / panels % s.source_channels;
    const Index k = task / panels / s.source_channels, part = channel / p.width, in_part = channel % p.width;
    const Index used = std::min(p.width, s.source_channels - part * p.width);
    T* to = out.data() + (part * panels * p.width * ring + panel * used * ring + k * used + in_part) * cols;
    const Index filled = std::min(cols, s.result_channels - panel * cols);
    for (Index r = 0; r < cols; ++r) {
      T g[3][3] = {}, left[4][3];
      const T* own = s.w + channel * s.source_stride + (panel * cols + r) * s.result_stride;
      for (Index t = 0; r < filled && t < 9; ++t) g[t / 3][t % 3] = own[s.tap[std::size_t(9 * k + t)]];
      for (int j = 0; j < 3; ++j) {
        const T ends = g[0][j] + g[2][j];
        left[0][j] = g[0][j];
        left[1][j] = (ends + g[1][j]) / 2;
        left[2][j] = (ends - g[1][j]) / 2;
        left[3][j] = g[2][j];
      }
      for (Index i = 0; i < 4; ++i) {
        const T ends = left[i][0] + left[i][2];
        const T all[4] = {left[i][0], (ends + left[i][1]) / 2, (ends - left[i][1]) / 2, left[i][2]};
        for (Index j = 0; j < 4; ++j) {
          to[(4 * i + j) * component + r] = all[j];
          if (k + 1 < s.depth) to[(4 * i + j) * component + s.depth * used * cols + r] = all[j];
        }
      }
    }
  });
  return out;
}

/// Source slice `slice` for `count` tiles from `first` on, transformed into place `slot` of each tile's row of v.
template <class T>
void winograd_slice(const WinogradSum<T>& s,
                    const WinogradPlan& p,
                    Index n,
                    Index slice,
                    Index first,
                    Index count,
                    Index slot,
                    T* patch,
                    T* v) {
  const Index channels = s.source_channels, height = s.source_extent[1], length = s.source_extent[2];
  const bool outside = slice < 0 || slice >= s.source_extent[0];
  const T* plane = outside ? nullptr : s.source + (n * s.source_extent[0] + slice) * height * length * channels;
  for (Index t = 0; t < count; ++t) {
    const Index h = (first + t) / p.across * 2 - s.before[1], w = (first + t) % p.across * 2 - s.before[2];
    const bool inside = plane && h >= 0 && h + 4 <= height && w >= 0 && w + 4 <= length;
    const T* from = inside ? plane + (h * length + w) * channels : patch;
    for (Index i = 0; !inside && i < 16; ++i) {  // at an edge: a copy with zeros
      const Index y = h + i / 4, x = w + i % 4;
      const bool in = plane && y >= 0 && y < height && x >= 0 && x < length;
      for (Index c = 0; c < channels; ++c) patch[i * channels + c] = in ? plane[(y * length + x) * channels + c] : T(0);
    }
    for (Index part = 0; part < p.parts; ++part) {
      const Index used = std::min(p.width, channels - part * p.width);
      winograd_source(from + part * p.width, inside ? length * channels : 4 * channels, channels, used,
                      v + (part * p.run + t) * tile_stride + slot * used, p.component);
    }
  }
}

/// The results of `count` tiles of slice q, from the sums m; those beyond the volume go to `spare`.
template <class T>
void winograd_store(const WinogradSum<T>& s,
                    const WinogradPlan& p,
                    Index n,
                    Index q,
                    Index first,
                    Index count,
                    const T* bias,
                    bool keep,
                    T* spare,
                    const T* m,
                    Index width,
                    Index component) {
  const Index channels = s.result_channels, height = s.result_extent[1], length = s.result_extent[2];
  for (Index t = 0; t < count; ++t) {
    const Index h = (first + t) / p.across * 2, w = (first + t) % p.across * 2;
    const T* from[4];
    T* to[4];
    for (Index i = 0; i < 4; ++i) {
      const Index y = h + i / 2, x = w + i % 2;
      const bool in = y < height && x < length;
      to[i] = in ? s.result + (((n * s.result_extent[0] + q) * height + y) * length + x) * channels : spare;
      from[i] = keep ? to[i] : bias;
    }
    winograd_result(m + t * width, component, channels, from, to);
  }
}

/// result = bias + sum (keep = false), or result += sum (keep = true).
template <class T, int vectors>
void winograd_products(const WinogradSum<T>& s, const T* bias, bool keep) {
  constexpr Index cols = block_cols<T, vectors>, rows = block_rows<vectors>;
  const WinogradPlan p(s, rows);
  const Index panels = (s.result_channels + cols - 1) / cols, ring = 2 * s.depth - 1, m_width = panels * cols;
  const Index u_component = p.parts * panels * ring * p.width * cols, m_component = p.run * m_width + 16;
  const Tensor<T> weights = winograd_weights(s, p, cols), none = Tensor<T>::zeros({s.result_channels});
  parallel_for(s.batch * p.runs * p.walks, [&](Index task) {
    const Index walk = task % p.walks, first = task / p.walks % p.runs * p.run, n = task / p.walks / p.runs;
    const Index count = std::min(p.run, p.tiles - first), begin = walk * p.slices;
    const Index end = std::min(s.result_extent[0], begin + p.slices);
    const Tensor<T> v = Tensor<T>::zeros({16 * p.component + 16 * tile_stride}), m({16 * m_component});
    const Tensor<T> patch({16, s.source_channels}), spare = Tensor<T>::zeros({s.result_channels});
    for (Index q = begin; q < end; ++q) {
      for (Index k = q == begin ? 0 : s.depth - 1; k < s.depth; ++k)
        winograd_slice(s, p, n, q + k - s.before[0], first, count, (q + k) % s.depth, patch.data(), v.data());
      const Index turn = (s.depth - q % s.depth) % s.depth;  // the tap that meets slot 0
      std::fill_n(m.data(), 16 * m_component, T(0));
      for (Index i = 0; i < 16; ++i)
        for (Index panel = 0; panel < panels; ++panel)
          for (Index part = 0; part < p.parts; ++part) {
            const Index used = std::min(p.width, s.source_channels - part * p.width);
            const T* u = weights.data() + i * u_component +
                         (part * panels * p.width * ring + panel * used * ring + turn * used) * cols;
            for (Index t = 0; t < count; t += rows)
              add_register_block<vectors, tile_stride, 1>(
                  v.data() + i * p.component + (part * p.run + t) * tile_stride, s.depth * used, u,
                  m.data() + i * m_component + t * m_width + panel * cols, m_width);
          }
      winograd_store(s, p, n, q, first, count, bias ? bias : none.data(), keep, spare.data(), m.data(), m_width,
                     m_component);
    }
  });
}
template <class T>
void winograd_products(const WinogradSum<T>& s, const T* bias, bool keep) {
  with_panel_width<T>(s.result_channels, [&](auto vectors) { winograd_products<T, vectors>(s, bias, keep); });
}

template <class T>
void winograd_forward(const Conv3dGeometry& g, const T* x, const T* w, const T* bias, T* y) {
  WinogradSum<T> s{g.batch, g.in_channels,           g.out_channels, g.kernel[0], {}, {}, {}, x, y, w, {},
                   1,       g.taps() * g.in_channels};
  for (int a = 0; a < 3; ++a) {
    s.source_extent[a] = g.in[a];
    s.result_extent[a] = g.out[a];
    s.before[a] = g.padding[a];
  }
  for (Index t = 0; t < g.taps(); ++t) s.tap.push_back(t * g.in_channels);
  winograd_products(s, bias, false);
}

/// dx += the convolution of dy with the weights turned round.
template <class T>
void winograd_input_grad(const Conv3dGeometry& g, const T* dy, const T* w, T* dx) {
  WinogradSum<T> s{
      g.batch, g.out_channels, g.in_channels, g.kernel[0], {}, {}, {}, dy, dx, w, {}, g.taps() * g.in_channels, 1};
  for (int a = 0; a < 3; ++a) {
    s.source_extent[a] = g.out[a];
    s.result_extent[a] = g.in[a];
    s.before[a] = g.kernel[a] - 1 - g.padding[a];
  }
  for (Index t = g.taps() - 1; t >= 0; --t) s.tap.push_back(t * g.in_channels);
  winograd_products<T>(s, nullptr, true);
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
