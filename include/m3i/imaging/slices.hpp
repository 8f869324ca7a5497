#pragma once
/// Anatomical slices of RAS volumes.

#include <cmath>
#include <string>

#include "m3i/imaging/geometry.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The paper's numbers: 0 is coronal.
enum class Plane { coronal = 0, sagittal = 1, axial = 2 };

inline const char* plane_name(Plane plane) {
  return plane == Plane::coronal ? "coronal" : plane == Plane::sagittal ? "sagittal" : "axial";
}
inline Plane parse_plane(const std::string& name) {
  for (const Plane p : {Plane::coronal, Plane::sagittal, Plane::axial})
    if (name == plane_name(p)) return p;
  fail<ConfigError>("plane: \"", name, "\" is not one of coronal, sagittal, axial");
}
/// The axis of a RAS volume that a slice of the plane fixes: sagittal i, coronal j, axial k.
inline int plane_axis(Plane plane) { return plane == Plane::sagittal ? 0 : plane == Plane::coronal ? 1 : 2; }

/// Slice `at` of RAS voxels [I, J, K]: the two other axes in their order, e.g. coronal [I, K].
/// Throws ShapeError if the slice lies outside.
template <class T>
Tensor<T> extract_slice(const Tensor<T>& voxels, Plane plane, Index at) {
  detail::require_volume("extract_slice", voxels);
  const int axis = plane_axis(plane);
  const Shape& n = voxels.shape();
  require(at >= 0 && at < n[axis], "extract_slice: ", plane_name(plane), " slice ", at, " of ", n, ", expected 0 to ",
          n[axis] - 1);
  const Index rows = axis == 0 ? n[1] : n[0], columns = axis == 2 ? n[1] : n[2];
  const Index row_stride = axis == 0 ? n[2] : n[1] * n[2], column_stride = axis == 2 ? n[2] : 1;
  const T* from = voxels.data() + at * (axis == 0 ? n[1] * n[2] : axis == 1 ? n[2] : 1);
  Tensor<T> out({rows, columns});
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) out.data()[r * columns + c] = from[r * row_stride + c * column_stride];
  return out;
}
/// The same, checked: the volume must be in RAS order (see to_ras).
template <class T>
Tensor<T> extract_slice(const Volume<T>& volume, Plane plane, Index at) {
  require(ras_map(volume.affine).is_identity(), "extract_slice: the volume's axes are ", orientation(volume.affine),
          ", expected RAS; use to_ras first");
  return extract_slice(volume.voxels, plane, at);
}

/// A slice [A, B] as a picture [B, A]: rows from the top down are superior to inferior (axial: anterior to posterior),
/// columns from left to right are left to right of the patient (sagittal: posterior to anterior).
template <class T>
Tensor<T> slice_display(const Tensor<T>& slice) {
  require(slice.rank() == 2, "slice_display: needs [A, B], got ", slice.shape());
  const Index a = slice.shape()[0], b = slice.shape()[1];
  Tensor<T> out({b, a});
  const T* from = slice.span().data();
  for (Index row = 0; row < b; ++row)
    for (Index column = 0; column < a; ++column) out.data()[row * a + column] = from[column * b + (b - 1 - row)];
  return out;
}

/// Share of pixels above the threshold. The default suits intensities in [0, 1], where air is close to 0.
template <class T>
double foreground_fraction(const Tensor<T>& slice, double threshold = 0.05) {
  require(slice.size() > 0, "foreground_fraction: the slice is empty");
  Index above = 0;
  for (const T v : slice.span()) above += double(v) > threshold;
  return double(above) / double(slice.size());
}

/// Bin of slice j out of n: round(j / (n - 1) * (bins - 1)), halves up. A single slice is bin 0.
inline Index slice_bin(Index j, Index n, Index bins = 128) {
  require(n > 0 && j >= 0 && j < n && bins > 0, "slice_bin: slice ", j, " of ", n, " in ", bins, " bins");
  return n == 1 ? 0 : Index(std::floor(double(j) / double(n - 1) * double(bins - 1) + 0.5));
}

}  // namespace M3I_ABI
}  // namespace m3i
