#pragma once
/// 4 x 4 matrices from voxel indices (i, j, k) to millimetres, axes right, anterior, superior (RAS).

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Three coordinates: voxel indices, or millimetres, as the name of the variable says.
using Point3 = std::array<double, 3>;
/// Three extents or positions on a voxel grid.
using Size3 = std::array<Index, 3>;

/// Row-major; the last row is 0 0 0 1. Maps the centre of voxel (i, j, k) to a place in mm.
struct Affine {
  std::array<double, 16> m{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};

  double operator()(int row, int column) const { return m[std::size_t(4 * row + column)]; }
  double& operator()(int row, int column) { return m[std::size_t(4 * row + column)]; }

  /// diag(scale) with a translation.
  static Affine scaling(const Point3& scale, const Point3& shift = {0, 0, 0}) {
    Affine a;
    for (int r = 0; r < 3; ++r) {
      a(r, r) = scale[std::size_t(r)];
      a(r, 3) = shift[std::size_t(r)];
    }
    return a;
  }
  static Affine translation(const Point3& shift) { return scaling({1, 1, 1}, shift); }

  Point3 operator()(const Point3& p) const {
    Point3 q;
    for (int r = 0; r < 3; ++r)
      q[std::size_t(r)] = (*this)(r, 0) * p[0] + (*this)(r, 1) * p[1] + (*this)(r, 2) * p[2] + (*this)(r, 3);
    return q;
  }
  friend Affine operator*(const Affine& a, const Affine& b) {
    Affine c;
    for (int r = 0; r < 4; ++r)
      for (int s = 0; s < 4; ++s)
        c(r, s) = a(r, 0) * b(0, s) + a(r, 1) * b(1, s) + a(r, 2) * b(2, s) + a(r, 3) * b(3, s);
    return c;
  }
  friend bool operator==(const Affine&, const Affine&) = default;

  std::string text() const {
    std::string out = "[";
    for (int r = 0; r < 3; ++r)
      out += m3i::text(r ? "; " : "", (*this)(r, 0), " ", (*this)(r, 1), " ", (*this)(r, 2), " ", (*this)(r, 3));
    return out + "]";
  }
};

/// Determinant of the 3 x 3 part: volume of a voxel in mm^3, negative for left-handed axes.
inline double determinant(const Affine& a) {
  return a(0, 0) * (a(1, 1) * a(2, 2) - a(1, 2) * a(2, 1)) - a(0, 1) * (a(1, 0) * a(2, 2) - a(1, 2) * a(2, 0)) +
         a(0, 2) * (a(1, 0) * a(2, 1) - a(1, 1) * a(2, 0));
}

/// Size of a voxel along i, j, k in mm: the lengths of the columns.
inline Point3 spacing_mm(const Affine& a) {
  return {std::hypot(a(0, 0), a(1, 0), a(2, 0)), std::hypot(a(0, 1), a(1, 1), a(2, 1)),
          std::hypot(a(0, 2), a(1, 2), a(2, 2))};
}

/// Finite, and not flat: the columns span space, judged without regard to the voxel size.
inline bool is_invertible(const Affine& a) {
  if (!std::all_of(a.m.begin(), a.m.end(), [](double x) { return std::isfinite(x); })) return false;
  const Point3 s = spacing_mm(a);
  const double box = s[0] * s[1] * s[2], volume = std::abs(determinant(a));
  return std::isnormal(box) && volume > 1e-9 * box;
}

/// mm -> voxel. Throws NumericError for a matrix that is not finite or flat.
inline Affine inverse(const Affine& a) {
  require<NumericError>(is_invertible(a), "affine: ", a, " is not finite or has no inverse");
  const double d = determinant(a);
  Affine b;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) {  // adjugate: cyclic indices take care of the signs
      const int r1 = (c + 1) % 3, r2 = (c + 2) % 3, c1 = (r + 1) % 3, c2 = (r + 2) % 3;
      b(r, c) = (a(r1, c1) * a(r2, c2) - a(r1, c2) * a(r2, c1)) / d;
    }
  for (int r = 0; r < 3; ++r) b(r, 3) = -(b(r, 0) * a(0, 3) + b(r, 1) * a(1, 3) + b(r, 2) * a(2, 3));
  return b;
}

/// The rotation or reflection closest to the axes' directions (orthogonal polar factor, Newton's iteration).
inline Affine closest_rotation(const Affine& a) {
  require<NumericError>(is_invertible(a), "affine: ", a, " is not finite or has no inverse");
  const Point3 s = spacing_mm(a);
  Affine r;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) r(i, j) = a(i, j) / s[std::size_t(j)];
  for (int step = 0; step < 100; ++step) {
    const Affine back = inverse(r);
    double change = 0;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const double half_way = (r(i, j) + back(j, i)) / 2;
        change = std::max(change, std::abs(half_way - r(i, j)));
        r(i, j) = half_way;
        // `back` was taken from the old r as a whole, so overwriting in place is safe
      }
    if (change < 1e-14) break;
  }
  return r;
}

}  // namespace M3I_ABI
}  // namespace m3i
