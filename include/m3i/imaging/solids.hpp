#pragma once
/// Soft-edged solids in millimetres and their painting into an image and a label map: the clay of phantom.hpp.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// An ellipsoid, or a capsule (all points nearer than `radius[0]` to the segment from `centre` to `end`).
/// Later solids paint over earlier ones.
struct Solid {
  static constexpr std::uint8_t keep_label = 255;  ///< changes the image but not the label map

  enum class Kind { ellipsoid, capsule };
  Kind kind = Kind::ellipsoid;
  std::uint8_t label = 0;
  double value = 0;                                       ///< intensity inside
  Point3 centre{}, radius{1, 1, 1}, end{};                ///< mm
  std::array<double, 9> axes{1, 0, 0, 0, 1, 0, 0, 0, 1};  ///< rows: the ellipsoid's own axes

  int within = -1, without = -1;  ///< numbers of earlier solids to cut with: only inside / only outside that one

  /// Folds (gyri): the surface moves inwards by fold_mm * max(0, gyroid - fold_from) of that wavelength.
  double fold_mm = 0, fold_from = 0, fold_wavelength_mm = 1;
  /// Bands (ribs): only where z + band_slope y lies within band_width / 2 of a multiple of the period; 0: everywhere.
  double band_period_mm = 0, band_width_mm = 0, band_slope = 0;

  static Solid ellipsoid(std::uint8_t label, double value, const Point3& centre, const Point3& radius) {
    Solid s;
    s.label = label;
    s.value = value;
    s.centre = centre;
    s.radius = radius;
    return s;
  }
  static Solid capsule(std::uint8_t label, double value, const Point3& from, const Point3& to, double radius) {
    Solid s = ellipsoid(label, value, from, {radius, radius, radius});
    s.kind = Kind::capsule;
    s.end = to;
    return s;
  }
  /// Turns the axes about x, then y, then z.
  Solid& turn(double x_rad, double y_rad, double z_rad) {
    const double cx = std::cos(x_rad), sx = std::sin(x_rad), cy = std::cos(y_rad), sy = std::sin(y_rad),
                 cz = std::cos(z_rad), sz = std::sin(z_rad);
    axes = {cz * cy,
            sz * cy,
            -sy,
            cz * sy * sx - sz * cx,
            sz * sy * sx + cz * cx,
            cy * sx,
            cz * sy * cx + sz * sx,
            sz * sy * cx - cz * sx,
            cy * cx};
    return *this;
  }
};

namespace detail {

/// Roughly the distance in mm to the surface, positive inside; exact at the surface to first order.
inline double depth_mm(const Solid& s, const Point3& p) {
  double depth;
  if (s.kind == Solid::Kind::capsule) {
    double along = 0, length = 0;
    for (std::size_t a = 0; a < 3; ++a) {
      along += (p[a] - s.centre[a]) * (s.end[a] - s.centre[a]);
      length += (s.end[a] - s.centre[a]) * (s.end[a] - s.centre[a]);
    }
    const double t = length > 0 ? std::clamp(along / length, 0.0, 1.0) : 0.0;
    double squares = 0;
    for (std::size_t a = 0; a < 3; ++a) {
      const double d = p[a] - (s.centre[a] + t * (s.end[a] - s.centre[a]));
      squares += d * d;
    }
    depth = s.radius[0] - std::sqrt(squares);
  } else {
    // f(p) = |p / radius| is 1 on the surface; (1 - f) / |grad f| is the distance to first order.
    double f = 0, slope = 0;
    for (std::size_t r = 0; r < 3; ++r) {
      double c = 0;
      for (std::size_t a = 0; a < 3; ++a) c += s.axes[3 * r + a] * (p[a] - s.centre[a]);
      const double u = c / s.radius[r], v = u / s.radius[r];
      f += u * u;
      slope += v * v;
    }
    const double smallest = std::min({s.radius[0], s.radius[1], s.radius[2]});
    depth = slope > 0 ? std::min((1 - std::sqrt(f)) * std::sqrt(f / slope), smallest) : smallest;
  }
  if (s.fold_mm > 0) {
    const double w = 6.283185307179586 / s.fold_wavelength_mm, x = p[0] * w, y = p[1] * w, z = p[2] * w;
    const double gyroid = std::sin(x) * std::cos(y) + std::sin(y) * std::cos(z) + std::sin(z) * std::cos(x);
    depth -= s.fold_mm * std::max(0.0, gyroid - s.fold_from);
  }
  if (s.band_period_mm > 0) {
    const double at = p[2] + s.band_slope * p[1];
    const double off = std::abs(at - s.band_period_mm * std::round(at / s.band_period_mm));
    depth = std::min(depth, (s.band_width_mm / 2 - off) / std::sqrt(1 + s.band_slope * s.band_slope));
  }
  return depth;
}

/// A box in mm that holds the solid, with room for its soft edge.
struct SolidBox {
  Point3 low, high;

  SolidBox(const Solid& s, double edge_mm) {
    for (std::size_t a = 0; a < 3; ++a) {
      double reach = 0;
      if (s.kind == Solid::Kind::capsule) reach = s.radius[0];
      else
        for (std::size_t r = 0; r < 3; ++r) reach = std::hypot(reach, s.axes[3 * r + a] * s.radius[r]);
      const double other = s.kind == Solid::Kind::capsule ? s.end[a] : s.centre[a];
      low[a] = std::min(s.centre[a], other) - reach - edge_mm;
      high[a] = std::max(s.centre[a], other) + reach + edge_mm;
    }
  }
  bool meets(const Point3& other_low, const Point3& other_high) const {
    for (std::size_t a = 0; a < 3; ++a)
      if (other_high[a] < low[a] || other_low[a] > high[a]) return false;
    return true;
  }
  bool holds(const Point3& p) const { return meets(p, p); }
};

}  // namespace detail

/// Paints solids in their order. `place(i, j, k)` gives the point of the solids' space at a voxel, so that pose and
/// deformation belong to the caller.
///
///   image, labels   [I, J, K]; what they hold is painted over
///   edge_mm         width over which a surface fades (about one voxel: partial volume)
template <class Place>
void paint_solids(const std::vector<Solid>& solids,
                  const Place& place,
                  double edge_mm,
                  const Tensor<float>& image,
                  const Tensor<std::uint8_t>& labels) {
  detail::require_volume("paint", image);
  require(image.shape() == labels.shape(), "paint: image ", image.shape(), " and labels ", labels.shape(), " differ");
  require(edge_mm > 0, "paint: edge of ", edge_mm, " mm must be positive");
  std::vector<detail::SolidBox> boxes;
  for (std::size_t n = 0; n < solids.size(); ++n) {
    boxes.emplace_back(solids[n], edge_mm);
    require(solids[n].within < int(n) && solids[n].without < int(n), "paint: solid ", n, " is cut with a later one");
  }
  const Index I = image.shape()[0], J = image.shape()[1], K = image.shape()[2];
  parallel_for(I * J, [&](Index row) {
    std::vector<Point3> points(static_cast<std::size_t>(K));
    Point3 low{1e30, 1e30, 1e30}, high{-1e30, -1e30, -1e30};
    for (Index k = 0; k < K; ++k) {
      const Point3 p = points[std::size_t(k)] = place(row / J, row % J, k);
      for (std::size_t a = 0; a < 3; ++a) {
        low[a] = std::min(low[a], p[a]);
        high[a] = std::max(high[a], p[a]);
      }
    }
    for (std::size_t n = 0; n < solids.size(); ++n) {
      if (!boxes[n].meets(low, high)) continue;
      const Solid& s = solids[n];
      for (Index k = 0; k < K; ++k) {
        const Point3& p = points[std::size_t(k)];
        if (!boxes[n].holds(p)) continue;
        double depth = detail::depth_mm(s, p);
        if (s.within >= 0) depth = std::min(depth, detail::depth_mm(solids[std::size_t(s.within)], p));
        if (s.without >= 0) depth = std::min(depth, -detail::depth_mm(solids[std::size_t(s.without)], p));
        const double cover = std::clamp(0.5 + depth / edge_mm, 0.0, 1.0);
        float& v = image.data()[row * K + k];
        v = float(double(v) + cover * (s.value - double(v)));
        if (cover > 0.5 && s.label != Solid::keep_label) labels.data()[row * K + k] = s.label;
      }
    }
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
