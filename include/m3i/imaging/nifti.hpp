#pragma once
/// NIfTI-1 and NIfTI-2 volumes: .nii, .nii.gz, .hdr with .img, both byte orders, all integer and real voxel types.
///
/// A file is hostile until it has been checked: every size is compared with the file's length before memory is taken.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/imaging/files.hpp"
#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/nifti_header.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct NiftiReadOptions {
  /// Of a file with several frames (time points, vector components), read the first instead of refusing.
  bool first_frame = false;
  /// Read this frame, from 0 on in the file's order: the fourth axis runs fastest, then the fifth. -1: none is chosen.
  Index frame = -1;

  bool chosen() const { return first_frame || frame >= 0; }
};

namespace detail {

/// Replaces a final ".hdr" or ".img" (before ".gz", if any); empty if the name has neither.
inline std::string pair_name(const std::string& path, const char* ending, bool gzip) {
  std::string stem = path;
  if (stem.ends_with(".gz")) stem.resize(stem.size() - 3);
  if (!stem.ends_with(".hdr") && !stem.ends_with(".img")) return {};
  stem.resize(stem.size() - 4);
  return stem + ending + (gzip ? ".gz" : "");
}
/// The other file of a pair, with or without .gz.
inline std::string pair_partner(const std::string& path, const char* ending) {
  const bool gzip = path.ends_with(".gz");
  const std::string same = pair_name(path, ending, gzip), other = pair_name(path, ending, !gzip);
  require<FileError>(!same.empty(), path,
                     ": the header belongs to a pair of files, expected a name that ends in .hdr "
                     "or .img");
  std::error_code ignored;
  if (std::filesystem::exists(same, ignored)) return same;
  require<FileError>(std::filesystem::exists(other, ignored), path, ": the other file of the pair, ", same,
                     ", does not exist");
  return other;
}
inline std::string header_path(const std::string& path) {
  return path.ends_with(".img") || path.ends_with(".img.gz") ? pair_partner(path, ".hdr") : path;
}

/// An opened and checked file, positioned at the first voxel.
struct OpenNifti {
  NiftiHeader header;
  Affine affine;
  std::unique_ptr<InputFile> voxels;
};

inline OpenNifti open_nifti(const std::string& given) {
  const std::string path = header_path(given);
  auto file = std::make_unique<InputFile>(path);
  std::vector<std::uint8_t> bytes(4);
  bool swap = false;
  int version = 0;
  if (file->read(bytes.data(), 4) == 4) version = nifti_version(bytes.data(), swap);
  require<FileError>(version > 0, path, ": is not a NIfTI file: the first four bytes must hold 348 or 540",
                     file->length() == 0 ? " (the file is empty)" : "");
  const std::vector<std::uint8_t> rest =
      file->read_exactly(nifti_header_bytes(version) - 4, "the header's other fields");
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  OpenNifti open{parse_header(bytes, path), {}, nullptr};
  NiftiHeader& h = open.header;
  open.affine = header_affine(h, path);

  constexpr Index most_extension_bytes = Index(16) << 20;
  const Index gap = h.pair ? INT64_MAX : h.vox_offset - nifti_header_bytes(version);
  std::vector<std::uint8_t> between(std::size_t(std::min({gap, most_extension_bytes, file->most_bytes()})));
  const Index got = file->read(between.data(), Index(between.size()));
  between.resize(std::size_t(got));
  h.extensions = parse_extensions(between, swap);
  if (h.pair) {
    file->finish();
    file = std::make_unique<InputFile>(pair_partner(path, ".img"));
  }
  // vox_offset and the voxels' bytes are below 2^56 each (2^63 for NIfTI-2's offset), so compare without adding.
  const Index need = nifti_type_bytes(h.datatype) * h.shape().size();
  require<FileError>(need <= file->most_bytes() && h.vox_offset <= file->most_bytes() - need, file->path(),
                     ": too short: the header claims ", h.shape(), " voxels of type ", nifti_type_name(h.datatype),
                     ", ", need, " bytes from byte ", h.vox_offset, " on, the file has ",
                     file->is_gzip() ? "at most " : "", file->most_bytes());
  const Index ahead = h.pair ? h.vox_offset : gap - got;
  require<FileError>(file->skip(ahead), file->path(), ": too short: ends before the voxels at byte ", h.vox_offset);
  open.voxels = std::move(file);
  return open;
}

/// Calls f with a value of the voxel type's C++ type.
template <class F>
void with_voxel_type(std::int64_t datatype, const F& f) {
  switch (datatype) {
    case 2: return f(std::uint8_t{});
    case 4: return f(std::int16_t{});
    case 8: return f(std::int32_t{});
    case 16: return f(float{});
    case 64: return f(double{});
    case 256: return f(std::int8_t{});
    case 512: return f(std::uint16_t{});
    case 768: return f(std::uint32_t{});
    case 1024: return f(std::int64_t{});
    default: return f(std::uint64_t{});
  }
}

/// Visits pairs (position in the file, position in the row-major tensor) of all voxels, in tiles: the file has i
/// fastest, the tensor its last axis. `n` are the first three extents, `later` the others, in the file's order.
template <class F>
void for_each_voxel(const Size3& n, const std::vector<Index>& later, const F& f) {
  Index frames = 1;
  for (const Index e : later) frames *= e;
  const Index volume = n[0] * n[1] * n[2];
  constexpr Index tile = 32;
  for (Index frame = 0; frame < frames; ++frame) {
    Index place = 0;
    for (Index rest = frame, a = 0, stride = frames; a < Index(later.size()); ++a) {
      stride /= later[std::size_t(a)];
      place += rest % later[std::size_t(a)] * stride;
      rest /= later[std::size_t(a)];
    }
    parallel_for(n[1], [&, place](Index j) {
      for (Index i0 = 0; i0 < n[0]; i0 += tile)
        for (Index k0 = 0; k0 < n[2]; k0 += tile)
          for (Index i = i0; i < std::min(n[0], i0 + tile); ++i)
            for (Index k = k0; k < std::min(n[2], k0 + tile); ++k)
              f(frame * volume + i + n[0] * (j + n[1] * k), ((i * n[1] + j) * n[2] + k) * frames + place);
    });
  }
}

/// One stored voxel as a scaled value. Integers of 64 bits lose nothing below 2^53.
template <class S>
double scaled_value(const std::uint8_t* at, bool swap, const NiftiHeader& h) {
  const auto stored = load<S>(at, swap);
  return h.scaled() ? double(stored) * h.scl_slope + h.scl_inter : double(stored);
}

/// The voxels' bytes, for all frames or the chosen one; reads on to the end, so that a damaged file is always an error.
inline std::vector<std::uint8_t> read_voxel_bytes(OpenNifti& open, const NiftiReadOptions& options) {
  const Index all = nifti_type_bytes(open.header.datatype) * open.header.shape().size();
  const Index wanted = options.chosen() ? all / open.header.frames() : all;
  const Index ahead = options.chosen() ? std::max<Index>(options.frame, 0) * wanted : 0;
  const auto skip = [&](Index n) {
    require<FileError>(open.voxels->skip(n), open.voxels->path(), ": too short: the header claims ",
                       open.header.shape(), " voxels; the file is cut short or its header is wrong");
  };
  skip(ahead);
  std::vector<std::uint8_t> bytes = open.voxels->read_exactly(wanted, "the voxels");
  skip(all - ahead - wanted);
  open.voxels->finish();
  return bytes;
}

/// Voxels of type T through convert(double) -> T, of the given shape.
template <class T, class Convert>
Tensor<T> decode(const std::vector<std::uint8_t>& bytes,
                 const NiftiHeader& h,
                 const Shape& shape,
                 const Convert& convert) {
  Tensor<T> out(shape);
  T* to = out.data();
  const std::vector<Index> later(shape.begin() + std::min(3, shape.rank()), shape.end());
  const bool swap = h.big_endian != host_is_big_endian;
  with_voxel_type(h.datatype, [&](auto type) {
    using S = decltype(type);
    for_each_voxel(size3(shape), later, [&](Index from, Index at) {
      to[at] = convert(scaled_value<S>(bytes.data() + std::size_t(from) * sizeof(S), swap, h));
    });
  });
  return out;
}

/// [I, J, K] of a header with one frame, or of the chosen one.
inline Shape frame_shape(const NiftiHeader& h, const std::string& path, const NiftiReadOptions& options) {
  require<FileError>(options.chosen() || h.frames() == 1, path, ": has shape ", h.shape(),
                     ", expected one volume; extract a frame first, or ask for the first one");
  require<FileError>(options.frame < h.frames(), path, ": has shape ", h.shape(), " and no frame ", options.frame,
                     ", expected 0 to ", h.frames() - 1);
  return shape_of(size3(h.shape()));
}

}  // namespace detail

/// Reads and checks the header alone (of a pair, both files must exist): sizes, type, geometry, length of the file.
/// Throws FileError.
inline NiftiHeader read_nifti_header(const std::string& path) { return detail::open_nifti(path).header; }

/// The grid that a header describes. Throws FileError if its geometry is not usable.
inline Grid grid_of(const NiftiHeader& header, const std::string& path = "NIfTI header") {
  return {size3(header.shape()), detail::header_affine(header, path)};
}

/// A volume with scaling applied (value = stored * slope + inter).
///
///   T        float or double
///   voxels   [I, J, K]; files with fewer axes are filled up with 1
///   affine   voxel -> mm, RAS, whatever the unit in the header
///
/// Throws FileError for anything else than one sound volume; options.first_frame and options.frame choose one of many.
template <class T = float>
Volume<T> read_nifti(const std::string& path, const NiftiReadOptions& options = {}) {
  static_assert(std::is_floating_point_v<T>, "read_nifti: scaled values need float or double; see read_labels");
  detail::OpenNifti open = detail::open_nifti(path);
  const Shape shape = detail::frame_shape(open.header, path, options);
  const auto bytes = detail::read_voxel_bytes(open, options);
  Tensor<T> voxels = detail::decode<T>(bytes, open.header, shape, [](double v) { return T(v); });
  return {voxels, open.affine, std::make_shared<const NiftiHeader>(std::move(open.header))};
}

/// All frames: voxels in the file's own shape, e.g. [I, J, K, T]. write_nifti takes it back.
template <class T = float>
Volume<T> read_nifti_frames(const std::string& path) {
  static_assert(std::is_floating_point_v<T>, "read_nifti_frames: scaled values need float or double");
  detail::OpenNifti open = detail::open_nifti(path);
  const auto bytes = detail::read_voxel_bytes(open, {});
  Tensor<T> voxels = detail::decode<T>(bytes, open.header, open.header.shape(), [](double v) { return T(v); });
  return {voxels, open.affine, std::make_shared<const NiftiHeader>(std::move(open.header))};
}

/// A label volume [I, J, K]: every value must be a whole number from 0 to L's largest (1e-4 is allowed for scaling).
/// Throws FileError that names the first voxel that is not.
template <class L = std::int32_t>
Volume<L> read_labels(const std::string& path, const NiftiReadOptions& options = {}) {
  static_assert(std::is_integral_v<L>, "read_labels: labels are integers");
  detail::OpenNifti open = detail::open_nifti(path);
  const Shape shape = detail::frame_shape(open.header, path, options);
  const auto bytes = detail::read_voxel_bytes(open, options);
  constexpr double most = double(std::numeric_limits<L>::max());
  const auto is_label = [=](double v) { return v > -0.5 && v <= most && std::abs(v - std::round(v)) <= 1e-4; };
  std::atomic<bool> sound{true};
  Tensor<L> labels = detail::decode<L>(bytes, open.header, shape, [&](double v) {
    if (is_label(v)) return L(std::round(v));
    sound.store(false, std::memory_order_relaxed);
    return L(0);
  });
  if (!sound) {  // look again, for the first in row-major order
    const auto values = detail::decode<double>(bytes, open.header, shape, [](double v) { return v; });
    Index at = 0;
    while (is_label(values.data()[at])) ++at;
    const Index plane = shape[1] * shape[2];
    fail<FileError>(path, ": is not a label volume: voxel (", at / plane, ", ", at % plane / shape[2], ", ",
                    at % shape[2], ") is ", values.data()[at], ", expected whole numbers from 0 to ", most);
  }
  return {labels, open.affine, std::make_shared<const NiftiHeader>(std::move(open.header))};
}

}  // namespace M3I_ABI
}  // namespace m3i

#include "m3i/imaging/nifti_write.hpp"
