#pragma once
/// Orientation and grids: axis codes, reordering to RAS and back without interpolation, comparison of grids in mm.

#include <array>
#include <string>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A permutation of the axes with flips. Output axis r runs along input axis axis[r], backwards if flip[r].
struct OrientationMap {
  std::array<int, 3> axis{0, 1, 2};
  std::array<bool, 3> flip{false, false, false};

  bool is_identity() const { return *this == OrientationMap{}; }
  /// reorient(reorient(x, map), map.inverse()) is x, to the bit.
  OrientationMap inverse() const {
    OrientationMap back;
    for (std::size_t r = 0; r < 3; ++r) {
      back.axis[std::size_t(axis[r])] = int(r);
      back.flip[std::size_t(axis[r])] = flip[r];
    }
    return back;
  }
  friend bool operator==(const OrientationMap&, const OrientationMap&) = default;
};

/// The map that brings voxels to the closest RAS order: each voxel axis is matched with the anatomical axis that it is
/// nearest to, most clear-cut axis first.
inline OrientationMap ras_map(const Affine& affine) {
  const Affine rotation = closest_rotation(affine);
  OrientationMap map;
  std::array<bool, 3> row_taken{}, column_taken{};
  for (int step = 0; step < 3; ++step) {
    int row = -1, column = -1;
    double best = -1;
    for (int c = 0; c < 3; ++c)
      for (int r = 0; r < 3; ++r)
        if (!row_taken[std::size_t(r)] && !column_taken[std::size_t(c)] && std::abs(rotation(r, c)) > best + 1e-9) {
          best = std::abs(rotation(r, c));
          row = r;
          column = c;
        }
    row_taken[std::size_t(row)] = column_taken[std::size_t(column)] = true;
    map.axis[std::size_t(row)] = column;
    map.flip[std::size_t(row)] = rotation(row, column) < 0;
  }
  return map;
}

/// For i, j, k the side that the index grows towards: "RAS", "LPS", ...
inline std::string orientation(const Affine& affine) {
  const OrientationMap map = ras_map(affine);
  std::string codes(3, ' ');
  for (std::size_t r = 0; r < 3; ++r) codes[std::size_t(map.axis[r])] = map.flip[r] ? "LPI"[r] : "RAS"[r];
  return codes;
}

/// Three letters, one of each pair left/right, posterior/anterior, inferior/superior. Throws ConfigError otherwise.
inline void check_orientation_codes(const std::string& codes) {
  bool sound = codes.size() == 3;
  for (const char* pair : {"LR", "PA", "IS"})
    sound = sound && (codes.find(pair[0]) != std::string::npos) != (codes.find(pair[1]) != std::string::npos);
  require<ConfigError>(
      sound, "orientation: \"", codes,
      "\" is no order of axes, expected three letters such as RAS, LPS or PIR: one each of L R, P A, I S");
}

/// The map that brings voxels to the order closest to the given one: index i grows towards the side codes[0], j towards
/// codes[1], k towards codes[2].
inline OrientationMap orientation_map(const Affine& affine, const std::string& codes) {
  check_orientation_codes(codes);
  const OrientationMap ras = ras_map(affine);
  OrientationMap map;
  for (std::size_t r = 0; r < 3; ++r) {
    const std::size_t place = std::string("LRPAIS").find(codes[r]), world = place / 2;
    map.axis[r] = ras.axis[world];
    map.flip[r] = ras.flip[world] != (place % 2 == 0);
  }
  return map;
}

/// New voxel -> old voxel of a reordering; `size` is the extent before.
inline Affine reorient_map(const OrientationMap& map, const Size3& size) {
  Affine step;
  step.m = {};
  step(3, 3) = 1;
  for (int r = 0; r < 3; ++r) {
    const int a = map.axis[std::size_t(r)];
    step(a, r) = map.flip[std::size_t(r)] ? -1 : 1;
    if (map.flip[std::size_t(r)]) step(a, 3) = double(size[std::size_t(a)] - 1);
  }
  return step;
}

/// The affine of reoriented voxels; `size` is the extent before.
inline Affine reorient(const Affine& affine, const OrientationMap& map, const Size3& size) {
  return affine * reorient_map(map, size);
}

/// Permutes and flips the first three axes; values are copied, never interpolated. voxels [I, J, K].
template <class T>
Tensor<T> reorient(const Tensor<T>& voxels, const OrientationMap& map) {
  detail::require_volume("reorient", voxels);
  if (map.is_identity()) return voxels;
  const Shape& in = voxels.shape();
  const std::array<Index, 3> input_stride{in[1] * in[2], in[2], 1};
  Size3 n;
  std::array<Index, 3> stride;
  Index start = 0;
  for (std::size_t r = 0; r < 3; ++r) {
    const auto a = std::size_t(map.axis[r]);
    n[r] = in[int(a)];
    stride[r] = map.flip[r] ? -input_stride[a] : input_stride[a];
    if (map.flip[r]) start += (n[r] - 1) * input_stride[a];
  }
  Tensor<T> out(shape_of(n));
  const T* from = voxels.data() + start;
  T* to = out.data();
  // Tiles of 16 x 16 over the two inner axes: whichever of them is contiguous in the input, cache lines are reused.
  constexpr Index tile = 16;
  parallel_for(n[0], [=](Index i) {
    for (Index j0 = 0; j0 < n[1]; j0 += tile)
      for (Index k0 = 0; k0 < n[2]; k0 += tile)
        for (Index j = j0; j < std::min(n[1], j0 + tile); ++j)
          for (Index k = k0; k < std::min(n[2], k0 + tile); ++k)
            to[(i * n[1] + j) * n[2] + k] = from[i * stride[0] + j * stride[1] + k * stride[2]];
  });
  return out;
}

template <class T>
Volume<T> reorient(const Volume<T>& volume, const OrientationMap& map) {
  return {reorient(volume.voxels, map), reorient(volume.affine, map, size3(volume.shape())), volume.header};
}

/// The volume in the RAS order closest to its own. Undo with reorient(result, ras_map(volume.affine).inverse()).
template <class T>
Volume<T> to_ras(const Volume<T>& volume) {
  return reorient(volume, ras_map(volume.affine));
}

/// The volume in any order of axes: "LPS", "PIR", ...
template <class T>
Volume<T> orient(const Volume<T>& volume, const std::string& codes) {
  return reorient(volume, orientation_map(volume.affine, codes));
}

/// What a comparison of two grids found.
struct GridComparison {
  bool same = false;
  double worst_mm = 0;  ///< largest distance between corresponding corners; infinite if the sizes differ
  std::string text;     ///< one line that says what differs
};

/// Compares sizes, then where the eight corner voxels lie. A tenth of a millimetre is far below a voxel and far above
/// what rounding in headers makes.
inline GridComparison same_grid(const Grid& a, const Grid& b, double tolerance_mm = 0.1) {
  if (a.size != b.size) return {false, HUGE_VAL, text("the grids differ: ", a, " against ", b)};
  double worst = 0;
  for (int corner = 0; corner < 8; ++corner) {
    Point3 voxel;
    for (std::size_t x = 0; x < 3; ++x) voxel[x] = (corner >> x & 1) ? double(a.size[x] - 1) : 0.0;
    const Point3 p = a.affine(voxel), q = b.affine(voxel);
    const double distance = std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
    if (!(distance <= worst)) worst = distance;  // keeps a NaN
  }
  // An axis of one voxel has no far corner that could show another voxel size: compare the sizes too.
  const Point3 sa = spacing_mm(a.affine), sb = spacing_mm(b.affine);
  for (std::size_t x = 0; x < 3; ++x)
    if (!(std::abs(sa[x] - sb[x]) <= worst)) worst = std::abs(sa[x] - sb[x]);
  const bool same = worst <= tolerance_mm;
  return {same, worst,
          text(same ? "the grids agree" : "the grids differ", ": corners of ", a, " are up to ", worst,
               " mm apart (tolerance ", tolerance_mm, " mm)")};
}

template <class T, class U>
GridComparison same_grid(const Volume<T>& a, const Volume<U>& b, double tolerance_mm = 0.1) {
  return same_grid(a.grid(), b.grid(), tolerance_mm);
}

/// Throws FileError unless labels (or any second volume) lie on the image's grid.
inline void check_same_grid(
    const std::string& path_a, const Grid& a, const std::string& path_b, const Grid& b, double tolerance_mm = 0.1) {
  const GridComparison comparison = same_grid(a, b, tolerance_mm);
  require<FileError>(comparison.same, path_b, ": not on the grid of ", path_a, ": ", comparison.text,
                     "; resample one to the other first");
}

}  // namespace M3I_ABI
}  // namespace m3i
