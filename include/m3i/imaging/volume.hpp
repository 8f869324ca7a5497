#pragma once
/// Volume<T>: voxels, where they lie in space, and the header facts they came with.

#include <memory>
#include <string>

#include "m3i/core/tensor.hpp"
#include "m3i/imaging/affine.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct NiftiHeader;  // nifti_header.hpp

/// A voxel grid without voxels: extents along i, j, k and the affine voxel -> mm (RAS).
struct Grid {
  Size3 size{1, 1, 1};
  Affine affine;

  std::string text() const {
    const Point3 s = spacing_mm(affine);
    return m3i::text(size[0], " x ", size[1], " x ", size[2], " voxels of ", s[0], " x ", s[1], " x ", s[2], " mm");
  }
};

/// The first three extents as a Size3; axes that a tensor does not have count as 1.
inline Size3 size3(const Shape& shape) {
  Size3 n{1, 1, 1};
  for (int a = 0; a < std::min(shape.rank(), 3); ++a) n[std::size_t(a)] = shape[a];
  return n;
}
inline Shape shape_of(const Size3& n) { return {n[0], n[1], n[2]}; }

/// voxels  [I, J, K] (or [I, J, K, ...] where a function says so), row-major, in NIfTI's index order
/// affine  voxel (i, j, k) -> mm, RAS
/// header  what the file said besides, so that outputs keep forms, codes, units and extensions; null if made in memory
template <class T>
struct Volume {
  Tensor<T> voxels;
  Affine affine;
  std::shared_ptr<const NiftiHeader> header;

  const Shape& shape() const { return voxels.shape(); }
  Grid grid() const { return {size3(voxels.shape()), affine}; }
};

namespace detail {
/// The operation needs plain [I, J, K] in host memory.
template <class T>
void require_volume(const char* operation, const Tensor<T>& voxels) {
  require(voxels.rank() == 3 && voxels.size() > 0, operation, ": needs a non-empty volume [I, J, K], got ",
          voxels.shape());
  require(voxels.device().on_host(), operation, ": the volume is on ", voxels.device(),
          "; use to(Device::cpu()) first");
}
}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
