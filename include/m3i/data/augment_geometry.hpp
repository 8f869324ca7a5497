#pragma once
/// The geometry of augmentation: crop, flips, quarter turns, affine map and elastic deformation as one map from output
/// voxels to input positions, so that an image is interpolated once.

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/data/augment_options.hpp"
#include "m3i/imaging/affine.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Voxels moved without interpolation: input axis r is start[r] + step[r] * (output index along from[r]).
struct VoxelMap {
  Size3 size{};  ///< of the output
  std::array<int, 3> from{0, 1, 2};
  Size3 start{}, step{1, 1, 1};

  /// Quarter turns about the centre of a volume [n], in the plane of two axes of equal extent: (a, b) -> (b, -a).
  void turn(int a, int b, int quarters, const Size3& n) {
    for (int q = 0; q < quarters; ++q) {
      const auto x = std::size_t(a), y = std::size_t(b);
      std::swap(from[x], from[y]), std::swap(start[x], start[y]), std::swap(step[x], step[y]);
      start[y] = n[y] - 1 - start[y];
      step[y] = -step[y];
    }
  }
  /// The same as a matrix, output voxel -> input voxel.
  Affine affine() const {
    Affine a;
    a.m = {};
    a(3, 3) = 1;
    for (int r = 0; r < 3; ++r) {
      a(r, from[std::size_t(r)]) = double(step[std::size_t(r)]);
      a(r, 3) = double(start[std::size_t(r)]);
    }
    return a;
  }
};

template <class T>
Tensor<T> move_voxels(const Tensor<T>& in, const VoxelMap& map) {
  Tensor<T> out(shape_of(map.size));
  const Size3 n = size3(in.shape());
  const Size3 input_stride{n[1] * n[2], n[2], 1};
  Size3 stride{};
  Index first = 0;
  for (std::size_t r = 0; r < 3; ++r) {
    stride[std::size_t(map.from[r])] = map.step[r] * input_stride[r];
    first += map.start[r] * input_stride[r];
  }
  parallel_for(map.size[0], [&](Index i) {
    for (Index j = 0; j < map.size[1]; ++j) {
      const T* row = in.data() + first + i * stride[0] + j * stride[1];
      T* to = out.data() + (i * map.size[1] + j) * map.size[2];
      for (Index k = 0; k < map.size[2]; ++k) to[k] = row[k * stride[2]];
    }
  });
  return out;
}

/// Displacements of the input positions: a uniform cubic B-spline over random control points, which never exceeds
/// theirs.
class ElasticField {
 public:
  ElasticField(const Size3& size, double amplitude, double spacing, const Random& random) : reach_(amplitude) {
    for (std::size_t a = 0; a < 3; ++a) {
      points_[a] = Index(double(size[a] - 1) / spacing) + 4;
      for (Index x = 0; x < size[a]; ++x) {
        const double at = double(x) / spacing, f = at - std::floor(at), g = 1 - f;
        weights_[a].push_back(
            {Index(at),
             {g * g * g / 6, (3 * f * f * f - 6 * f * f + 4) / 6, (3 * g * g * g - 6 * g * g + 4) / 6, f * f * f / 6}});
      }
    }
    control_.resize(std::size_t(points_[0] * points_[1] * points_[2] * 3));
    for (std::size_t p = 0; p < control_.size(); ++p)
      control_[p] = amplitude * Random(random.seed, random.stream, p).uniform(-1, 1);
  }

  /// No displacement along an axis is larger.
  double reach() const { return reach_; }
  /// Displacements (x, y, z) of the voxels of row (i, j), each [K].
  void row(Index i, Index j, std::vector<Point3>& out) const {
    const Index line = points_[2];
    std::vector<Point3> along(std::size_t(line), Point3{});
    const Weights &wi = weights_[0][std::size_t(i)], &wj = weights_[1][std::size_t(j)];
    for (Index a = 0; a < 4; ++a)
      for (Index b = 0; b < 4; ++b) {
        const double w = wi.w[std::size_t(a)] * wj.w[std::size_t(b)];
        const double* from = control_.data() + ((wi.first + a) * points_[1] + wj.first + b) * line * 3;
        for (Index c = 0; c < line; ++c)
          for (std::size_t x = 0; x < 3; ++x) along[std::size_t(c)][x] += w * from[c * 3 + Index(x)];
      }
    for (std::size_t k = 0; k < out.size(); ++k) {
      const Weights& wk = weights_[2][k];
      for (std::size_t x = 0; x < 3; ++x) {
        out[k][x] = 0;
        for (std::size_t c = 0; c < 4; ++c) out[k][x] += wk.w[c] * along[std::size_t(wk.first) + c][x];
      }
    }
  }

 private:
  struct Weights {
    Index first = 0;
    std::array<double, 4> w{};
  };
  double reach_;
  Size3 points_{};
  std::array<std::vector<Weights>, 3> weights_;
  std::vector<double> control_;
};

/// Where the output's voxels come from.
struct GeometryPlan {
  VoxelMap moved;
  std::optional<Affine> affine;         ///< output voxel -> input voxel, if voxels have to be interpolated
  std::optional<ElasticField> elastic;  ///< added to the input position
};

struct Box {
  Size3 begin{}, size{};
};

/// The input voxels that a plan reads, of a volume [n]; at least one.
inline Box needed_box(const GeometryPlan& plan, const Size3& n) {
  const Affine map = plan.affine.value_or(plan.moved.affine());
  const double reach = plan.elastic ? plan.elastic->reach() : 0;
  Point3 low{HUGE_VAL, HUGE_VAL, HUGE_VAL}, high{-HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
  for (int corner = 0; corner < 8; ++corner) {
    Point3 at;
    for (std::size_t a = 0; a < 3; ++a) at[a] = (corner >> a & 1) ? double(plan.moved.size[a] - 1) : 0.0;
    const Point3 x = map(at);
    for (std::size_t a = 0; a < 3; ++a) low[a] = std::min(low[a], x[a]), high[a] = std::max(high[a], x[a]);
  }
  Box box;
  const double around = plan.affine ? 1 + reach : 0;  // a voxel for rounding and the other side of the interpolation
  for (std::size_t a = 0; a < 3; ++a) {
    const double last = double(n[a] - 1);
    box.begin[a] = Index(std::clamp(std::floor(low[a] - around), 0.0, last));
    box.size[a] = Index(std::clamp(std::ceil(high[a] + around), 0.0, last)) - box.begin[a] + 1;
  }
  return box;
}
/// The plan for a volume that is only the box.
inline void look_into(GeometryPlan& plan, const Box& box) {
  for (std::size_t a = 0; a < 3; ++a) plan.moved.start[a] -= box.begin[a];
  if (plan.affine)
    for (int a = 0; a < 3; ++a) (*plan.affine)(a, 3) -= double(box.begin[std::size_t(a)]);
}

/// Calls f(output position, input position) for every output voxel.
template <class F>
void for_each_position(const GeometryPlan& plan, const F& f) {
  const Size3 n = plan.moved.size;
  const Affine& a = *plan.affine;
  parallel_for(n[0], [&](Index i) {
    std::vector<Point3> shift(std::size_t(n[2]), Point3{});
    for (Index j = 0; j < n[1]; ++j) {
      if (plan.elastic) plan.elastic->row(i, j, shift);
      for (Index k = 0; k < n[2]; ++k) {
        Point3 x = a({double(i), double(j), double(k)});
        for (std::size_t r = 0; r < 3; ++r) x[r] += shift[std::size_t(k)][r];
        f((i * n[1] + j) * n[2] + k, x);
      }
    }
  });
}

inline bool inside_voxels(const Point3& x, const Size3& n) {
  for (std::size_t a = 0; a < 3; ++a)
    if (!(x[a] >= -0.5 && x[a] < double(n[a]) - 0.5)) return false;
  return true;
}

/// Linear; `outside` beyond the image's voxels.
inline Tensor<float> warp_image(const Tensor<float>& in, const GeometryPlan& plan, float outside) {
  Tensor<float> out(shape_of(plan.moved.size));
  const Size3 n = size3(in.shape());
  const float* v = in.data();
  float* to = out.data();
  for_each_position(plan, [&](Index at, const Point3& x) {
    if (!inside_voxels(x, n)) {
      to[at] = outside;
      return;
    }
    Size3 low, high;
    Point3 f;
    for (std::size_t a = 0; a < 3; ++a) {
      const double c = std::clamp(x[a], 0.0, double(n[a] - 1));
      low[a] = Index(c);
      high[a] = std::min(low[a] + 1, n[a] - 1);
      f[a] = c - double(low[a]);
    }
    const auto line = [&](Index i, Index j) {
      const float* row = v + (i * n[1] + j) * n[2];
      return double(row[low[2]]) + f[2] * (double(row[high[2]]) - double(row[low[2]]));
    };
    const double p = line(low[0], low[1]), q = line(low[0], high[1]), r = line(high[0], low[1]),
                 s = line(high[0], high[1]), near = p + f[1] * (q - p), far = r + f[1] * (s - r);
    to[at] = float(near + f[0] * (far - near));
  });
  return out;
}
/// The nearest label; 0 beyond the voxels.
inline Tensor<std::uint8_t> warp_labels(const Tensor<std::uint8_t>& in, const GeometryPlan& plan) {
  Tensor<std::uint8_t> out(shape_of(plan.moved.size));
  const Size3 n = size3(in.shape());
  for_each_position(plan, [&](Index at, const Point3& x) {
    Index from = -1;
    if (inside_voxels(x, n))
      from =
          (Index(std::floor(x[0] + 0.5)) * n[1] + Index(std::floor(x[1] + 0.5))) * n[2] + Index(std::floor(x[2] + 0.5));
    out.data()[at] = from < 0 ? std::uint8_t(0) : in.data()[from];
  });
  return out;
}

/// Rotations about the three axes, then zoom and shear, as a 3 x 3 matrix output -> input; none if nothing happened.
inline std::optional<Affine> draw_linear_map(const AugmentOptions& o, Random& random) {
  Affine m;  // the identity
  bool any = false;
  const bool turns = random.uniform() < o.rotate.probability;
  for (int axis = 0; axis < 3; ++axis) {
    const double angle = random.uniform(o.rotate.low, o.rotate.high) * std::numbers::pi / 180;
    if (!turns) continue;
    Affine r;
    const int a = (axis + 1) % 3, b = (axis + 2) % 3;
    r(a, a) = r(b, b) = std::cos(angle);
    r(b, a) = std::sin(angle), r(a, b) = -r(b, a);
    m = m * r;
    any = true;
  }
  if (const auto factor = o.zoom.draw(random)) {
    m = m * Affine::scaling({1 / *factor, 1 / *factor, 1 / *factor});
    any = true;
  }
  const bool shears = random.uniform() < o.shear.probability;
  Affine s;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c)
      if (const double tangent = random.uniform(o.shear.low, o.shear.high); shears && r != c) s(r, c) = tangent;
  if (shears) m = m * s;
  return any || shears ? std::optional(m) : std::nullopt;
}

/// What the dice of one sample say about its interpolation: about the middle of what is shown, as nnU-Net does.
inline void draw_interpolation(GeometryPlan& plan, const AugmentOptions& o, Random random) {
  const Size3& n = plan.moved.size;
  const std::optional<Affine> linear = draw_linear_map(o, random);
  const bool moves = random.uniform() < o.translate.probability;
  Point3 shift{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double share = random.uniform(o.translate.low, o.translate.high);
    if (moves) shift[a] = share * double(n[a]);
  }
  const auto amplitude = o.elastic.draw(random);
  if (amplitude) plan.elastic.emplace(plan.moved.size, *amplitude, o.elastic_spacing, random.split(1));
  if (!linear && !moves && !amplitude) return;
  const Affine moved = plan.moved.affine();
  const Point3 centre = moved({double(n[0] - 1) / 2, double(n[1] - 1) / 2, double(n[2] - 1) / 2});
  Affine to_centre, back;
  for (int a = 0; a < 3; ++a) {
    to_centre(a, 3) = -centre[std::size_t(a)];
    back(a, 3) = centre[std::size_t(a)] + shift[std::size_t(a)];
  }
  plan.affine = back * linear.value_or(Affine{}) * to_centre * moved;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
