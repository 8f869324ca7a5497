#pragma once
/// Writing volumes as .nii, .nii.gz or a pair .hdr and .img, whole or not at all, with the header facts of the volume
/// they were made from.

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "m3i/imaging/nifti.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Puts a grid into the header. If it is the header's own, all forms stay as they are, to the bit; else the sform
/// holds the affine, and the qform too where a rotation and voxel sizes can express it.
inline void set_grid(NiftiHeader& h, const Grid& grid, bool from_file) {
  if (from_file && same_grid(grid, grid_of(h), 1e-4).same) return;
  const std::int64_t aligned = 2;  // the code for "some known anatomical space" when the input names none
  const std::int64_t code = h.sform_code > 0 ? h.sform_code : h.qform_code > 0 ? h.qform_code : aligned;
  const Point3 s = spacing_mm(grid.affine);
  Affine rotation = grid.affine;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) rotation(r, c) /= s[std::size_t(c)];
  const bool left_handed = determinant(rotation) < 0;
  if (left_handed)
    for (int r = 0; r < 3; ++r) rotation(r, 2) = -rotation(r, 2);
  double shear = 0;
  for (int a = 0; a < 3; ++a) {
    const int b = (a + 1) % 3;
    shear = std::max(shear, std::abs(rotation(0, a) * rotation(0, b) + rotation(1, a) * rotation(1, b) +
                                     rotation(2, a) * rotation(2, b)));
  }
  h.sform_code = code;
  std::copy(grid.affine.m.begin(), grid.affine.m.begin() + 12, h.srow.begin());
  h.qform_code = shear < 1e-5 ? code : 0;
  h.quatern = shear < 1e-5 ? quaternion_of(rotation) : std::array<double, 3>{};
  h.qoffset = {grid.affine(0, 3), grid.affine(1, 3), grid.affine(2, 3)};
  const std::array<double, 4> handed_and_sizes{left_handed ? -1.0 : 1.0, s[0], s[1], s[2]};
  std::copy(handed_and_sizes.begin(), handed_and_sizes.end(), h.pixdim.begin());  // time and the rest stay
  h.xyzt_units = (h.xyzt_units & ~std::int64_t(7)) | 2;                           // millimetres
  h.slice_start = h.slice_end = h.slice_code = h.dim_info = 0;                    // they spoke of the old axes
  h.slice_duration = 0;
}

/// The voxels in the file's order, little-endian, as type S.
template <class S, class T>
std::vector<std::uint8_t> encode(const Tensor<T>& voxels) {
  std::vector<std::uint8_t> bytes(std::size_t(voxels.size()) * sizeof(S));
  const T* from = voxels.data();
  const Shape& shape = voxels.shape();
  for_each_voxel(size3(shape), {shape.begin() + std::min(3, shape.rank()), shape.end()},
                 [&](Index to, Index at) { store(bytes.data() + std::size_t(to) * sizeof(S), S(from[at])); });
  return bytes;
}

/// Header and voxels in a file each. Both are on the disk before the first gets its name, which is the voxels': a
/// header never appears before its voxels.
inline void write_pair(const std::string& path,
                       std::span<const std::uint8_t> header,
                       std::span<const std::uint8_t> voxels) {
  const bool gzip = path.ends_with(".gz");
  OutputFile header_file(pair_name(path, ".hdr", gzip), gzip), voxel_file(pair_name(path, ".img", gzip), gzip);
  header_file.write(header);
  voxel_file.write(voxels);
  header_file.finish();
  voxel_file.finish();
  voxel_file.publish();
  header_file.publish();
}

/// Writes voxels as type S.
template <class S, class T>
void write_as(const std::string& path, const Volume<T>& volume, NiftiHeader h, bool from_file) {
  const Shape& shape = volume.shape();
  require(shape.rank() > 0 && volume.voxels.size() > 0, "write_nifti: needs a non-empty volume [I, J, K, ...], got ",
          shape);
  require(volume.voxels.device().on_host(), "write_nifti: the volume is on ", volume.voxels.device(),
          "; use to(Device::cpu()) first");
  const bool gzip = path.ends_with(".nii.gz");
  h.pair = !pair_name(path, ".hdr", false).empty();
  require<FileError>(gzip || h.pair || path.ends_with(".nii"), path,
                     ": cannot be written: the name must end in .nii.gz or .nii, or for a pair in .hdr or .img");
  require<FileError>(is_invertible(volume.affine), path, ": cannot be written: the affine ", volume.affine,
                     " is not finite or is flat");
  set_grid(h, volume.grid(), from_file);
  h.dim = {shape.rank(), 1, 1, 1, 1, 1, 1, 1};
  std::copy(shape.begin(), shape.end(), h.dim.begin() + 1);
  if (std::any_of(h.dim.begin(), h.dim.end(), [](Index n) { return n > 32767; })) h.version = 2;
  h.big_endian = false;
  h.datatype = nifti_type_of<S>();
  h.bitpix = std::int64_t(8 * sizeof(S));
  h.scl_slope = 1;
  h.scl_inter = 0;
  const std::vector<std::uint8_t> header = header_bytes(h), voxels = encode<S>(volume.voxels);
  if (h.pair) return write_pair(path, header, voxels);
  OutputFile file(path, gzip);
  file.write(header);
  file.write(voxels);
  file.commit();
}

template <class T>
NiftiHeader base_header(const Volume<T>& volume, const NiftiHeader* like, bool& from_file) {
  if (!like) like = volume.header.get();
  from_file = like != nullptr;
  return like ? *like : NiftiHeader{};
}

}  // namespace detail

/// Writes a volume [I, J, K], or frames [I, J, K, ...], with its own element type, unscaled.
///
///   path   ends in .nii, .nii.gz, or .hdr or .img (either, with or without .gz) for header and voxels in a file each
///   like   header whose forms, codes, units, texts and extensions are kept; the volume's own if null. The forms are
///          kept to the bit while the volume is still on that header's grid, and follow its affine otherwise.
///
/// Throws FileError (name, full disk, permissions); an earlier file of that name is then untouched.
template <class T>
void write_nifti(const std::string& path, const Volume<T>& volume, const NiftiHeader* like = nullptr) {
  bool from_file = false;
  const NiftiHeader h = detail::base_header(volume, like, from_file);
  detail::write_as<T>(path, volume, h, from_file);
}

/// Writes labels in the smallest unsigned type that holds them. Throws FileError for a negative label.
template <class L>
void write_labels(const std::string& path, const Volume<L>& labels, const NiftiHeader* like = nullptr) {
  static_assert(std::is_integral_v<L>, "write_labels: labels are integers");
  detail::require_volume("write_labels", labels.voxels);
  const auto [low, high] = std::minmax_element(labels.voxels.data(), labels.voxels.data() + labels.voxels.size());
  require<FileError>(std::in_range<std::uint32_t>(*low) && std::in_range<std::uint32_t>(*high), path,
                     ": cannot be written: labels run from ", *low, " to ", *high, ", expected 0 to 4294967295");
  bool from_file = false;
  NiftiHeader h = detail::base_header(labels, like, from_file);
  h.cal_min = h.cal_max = 0;  // the display window and the intent of an image do not fit its labels
  h.intent_code = 0;
  h.intent_p = {};
  h.intent_name = {};
  if (std::uint64_t(*high) <= 255) detail::write_as<std::uint8_t>(path, labels, h, from_file);
  else if (std::uint64_t(*high) <= 65535) detail::write_as<std::uint16_t>(path, labels, h, from_file);
  else detail::write_as<std::uint32_t>(path, labels, h, from_file);
}

}  // namespace M3I_ABI
}  // namespace m3i
