#pragma once
/// The NIfTI-1 and NIfTI-2 headers: fields, strict check, geometry.
///
/// Layouts: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and .../nifti2/nifti2.h. One list of fields per
/// version serves reading and writing.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "m3i/imaging/volume.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Data that a program attached between header and voxels; carried along unread.
struct NiftiExtension {
  std::int64_t code = 0;
  std::vector<std::uint8_t> content;
};

/// All fields of either version, as numbers; text fields with their zero padding.
struct NiftiHeader {
  int version = 1;
  bool big_endian = false;
  bool pair = false;  ///< voxels in a file of their own (.hdr and .img)
  std::array<std::int64_t, 8> dim{3, 1, 1, 1, 1, 1, 1, 1};
  std::int64_t datatype = 16, bitpix = 32, vox_offset = 352;
  std::array<double, 8> pixdim{1, 1, 1, 1, 1, 1, 1, 1};
  double scl_slope = 1, scl_inter = 0, cal_max = 0, cal_min = 0, slice_duration = 0, toffset = 0;
  std::int64_t qform_code = 0, sform_code = 0, intent_code = 0;
  std::array<double, 3> quatern{}, qoffset{}, intent_p{};
  std::array<double, 12> srow{};
  std::int64_t dim_info = 0, slice_start = 0, slice_end = 0, slice_code = 0, xyzt_units = 2;
  std::array<char, 80> descrip{};
  std::array<char, 24> aux_file{};
  std::array<char, 16> intent_name{};
  std::vector<NiftiExtension> extensions;

  /// Extents in the file, i first; trailing axes of extent 1 beyond what a Shape can hold are dropped.
  Shape shape() const {
    Index rank = dim[0];
    while (rank > Shape::max_rank && dim[std::size_t(rank)] == 1) --rank;
    return Shape(dim.begin() + 1, dim.begin() + 1 + rank);
  }
  /// Product of the axes after the third: time points, vector components.
  Index frames() const {
    Index n = 1;
    for (Index a = 4; a <= dim[0]; ++a) n *= dim[std::size_t(a)];
    return n;
  }
  /// Is value = stored * slope + inter in use? A slope of 0, NaN or infinity says no.
  bool scaled() const { return scl_slope != 0 && std::isfinite(scl_slope) && !(scl_slope == 1 && scl_inter == 0); }
};

namespace detail {

/// Calls f(offset, field, stored type) for each field of NIfTI-1 but sizeof_hdr, magic and vox_offset.
template <class Header, class F>
void nifti1_fields(Header& h, const F& f) {
  constexpr std::int16_t i16{};
  constexpr std::uint8_t u8{};
  constexpr float f32{};
  f(39, h.dim_info, u8), f(40, h.dim, i16), f(56, h.intent_p, f32), f(68, h.intent_code, i16);
  f(70, h.datatype, i16), f(72, h.bitpix, i16), f(74, h.slice_start, i16), f(76, h.pixdim, f32);
  f(112, h.scl_slope, f32), f(116, h.scl_inter, f32), f(120, h.slice_end, i16), f(122, h.slice_code, u8);
  f(123, h.xyzt_units, u8), f(124, h.cal_max, f32), f(128, h.cal_min, f32), f(132, h.slice_duration, f32);
  f(136, h.toffset, f32), f(148, h.descrip, char{}), f(228, h.aux_file, char{}), f(252, h.qform_code, i16);
  f(254, h.sform_code, i16), f(256, h.quatern, f32), f(268, h.qoffset, f32), f(280, h.srow, f32);
  f(328, h.intent_name, char{});
}
/// The same for NIfTI-2.
template <class Header, class F>
void nifti2_fields(Header& h, const F& f) {
  constexpr std::int16_t i16{};
  constexpr std::int32_t i32{};
  constexpr std::int64_t i64{};
  constexpr double f64{};
  f(12, h.datatype, i16), f(14, h.bitpix, i16), f(16, h.dim, i64), f(80, h.intent_p, f64), f(104, h.pixdim, f64);
  f(176, h.scl_slope, f64), f(184, h.scl_inter, f64), f(192, h.cal_max, f64), f(200, h.cal_min, f64);
  f(208, h.slice_duration, f64), f(216, h.toffset, f64), f(224, h.slice_start, i64), f(232, h.slice_end, i64);
  f(240, h.descrip, char{}), f(320, h.aux_file, char{}), f(344, h.qform_code, i32), f(348, h.sform_code, i32);
  f(352, h.quatern, f64), f(376, h.qoffset, f64), f(400, h.srow, f64), f(496, h.slice_code, i32);
  f(500, h.xyzt_units, i32), f(504, h.intent_code, i32), f(508, h.intent_name, char{});
  f(524, h.dim_info, std::uint8_t{});
}

inline constexpr bool host_is_big_endian = std::endian::native == std::endian::big;

/// A number at an address, in the file's byte order.
template <class S>
S load(const std::uint8_t* from, bool swap) {
  std::array<std::uint8_t, sizeof(S)> bytes;
  std::memcpy(bytes.data(), from, sizeof(S));
  if (sizeof(S) > 1 && swap) std::reverse(bytes.begin(), bytes.end());
  return std::bit_cast<S>(bytes);
}
/// Little-endian.
template <class S>
void store(std::uint8_t* to, S value) {
  auto bytes = std::bit_cast<std::array<std::uint8_t, sizeof(S)>>(value);
  if constexpr (host_is_big_endian) std::reverse(bytes.begin(), bytes.end());
  std::memcpy(to, bytes.data(), sizeof(S));
}

/// Fills a field, or each of an array, from its bytes.
struct LoadField {
  const std::uint8_t* bytes;
  bool swap;
  template <class Field, class S>
  void operator()(std::size_t offset, Field& field, S) const {
    if constexpr (std::is_arithmetic_v<Field>) field = Field(load<S>(bytes + offset, swap));
    else
      for (std::size_t i = 0; i < field.size(); ++i)
        field[i] = typename Field::value_type(load<S>(bytes + offset + i * sizeof(S), swap));
  }
};
struct StoreField {
  std::uint8_t* bytes;
  template <class Field, class S>
  void operator()(std::size_t offset, const Field& field, S) const {
    if constexpr (std::is_arithmetic_v<Field>) store(bytes + offset, S(field));
    else
      for (std::size_t i = 0; i < field.size(); ++i) store(bytes + offset + i * sizeof(S), S(field[i]));
  }
};

/// Bytes of a voxel, or 0 for a type that is not read.
inline Index nifti_type_bytes(std::int64_t datatype) {
  switch (datatype) {
    case 2:
    case 256: return 1;
    case 4:
    case 512: return 2;
    case 8:
    case 16:
    case 768: return 4;
    case 64:
    case 1024:
    case 1280: return 8;
    default: return 0;
  }
}
inline const char* nifti_type_name(std::int64_t datatype) {
  switch (datatype) {
    case 0: return "unknown";
    case 1: return "one bit";
    case 2: return "uint8";
    case 4: return "int16";
    case 8: return "int32";
    case 16: return "float32";
    case 32: return "complex64";
    case 64: return "float64";
    case 128: return "rgb24";
    case 256: return "int8";
    case 512: return "uint16";
    case 768: return "uint32";
    case 1024: return "int64";
    case 1280: return "uint64";
    case 1536: return "float128";
    case 1792: return "complex128";
    case 2048: return "complex256";
    case 2304: return "rgba32";
    default: return "no such type";
  }
}
/// NIfTI's number of a C++ type.
template <class T>
constexpr std::int64_t nifti_type_of() {
  if constexpr (std::is_same_v<T, float>) return 16;
  else if constexpr (std::is_same_v<T, double>) return 64;
  else if constexpr (std::is_same_v<T, std::uint8_t>) return 2;
  else if constexpr (std::is_same_v<T, std::int8_t>) return 256;
  else if constexpr (std::is_same_v<T, std::int16_t>) return 4;
  else if constexpr (std::is_same_v<T, std::uint16_t>) return 512;
  else if constexpr (std::is_same_v<T, std::int32_t>) return 8;
  else if constexpr (std::is_same_v<T, std::uint32_t>) return 768;
  else if constexpr (std::is_same_v<T, std::int64_t>) return 1024;
  else if constexpr (std::is_same_v<T, std::uint64_t>) return 1280;
  else static_assert(sizeof(T) == 0, "NIfTI has no such voxel type");
}

/// Millimetres in a unit of length of the header; "unknown" counts as millimetres.
inline double unit_mm(const NiftiHeader& h) {
  const auto unit = h.xyzt_units & 7;
  return unit == 1 ? 1000.0 : unit == 3 ? 0.001 : 1.0;
}

/// Voxel sizes from pixdim. An axis that the file does not have counts as 1.
inline Point3 pixdim_spacing(const NiftiHeader& h, const std::string& path) {
  Point3 s{1, 1, 1};
  for (std::size_t a = 0; a < 3; ++a) {
    const double size = std::abs(h.pixdim[a + 1]);
    const bool usable = std::isfinite(size) && size > 0;
    require<FileError>(usable || Index(a) >= h.dim[0], path, ": voxel size pixdim[", a + 1, "] is ", h.pixdim[a + 1],
                       ", expected a positive number; the header has no usable geometry");
    if (usable) s[a] = size;
  }
  return s;
}

/// The qform: rotation by the quaternion (a, b, c, d), a from unit length; third axis negated if pixdim[0] < 0.
inline Affine qform_affine(const NiftiHeader& h, const std::string& path) {
  double b = h.quatern[0], c = h.quatern[1], d = h.quatern[2];
  double length2 = b * b + c * c + d * d;
  require<FileError>(length2 <= 1 + 1e-4, path, ": qform quaternion (", b, ", ", c, ", ", d, ") has squared length ",
                     length2, ", expected at most 1");  // false for NaN as well
  if (length2 > 1) {                                    // rounding of a half turn
    const double length = std::sqrt(length2);
    b /= length, c /= length, d /= length;
    length2 = 1;
  }
  const double a = std::sqrt(1 - length2);
  const Point3 s = pixdim_spacing(h, path);
  const double handed = h.pixdim[0] < 0 ? -s[2] : s[2];
  Affine q;
  q.m = {(a * a + b * b - c * c - d * d) * s[0],
         2 * (b * c - a * d) * s[1],
         2 * (b * d + a * c) * handed,
         h.qoffset[0],
         2 * (b * c + a * d) * s[0],
         (a * a + c * c - b * b - d * d) * s[1],
         2 * (c * d - a * b) * handed,
         h.qoffset[1],
         2 * (b * d - a * c) * s[0],
         2 * (c * d + a * b) * s[1],
         (a * a + d * d - c * c - b * b) * handed,
         h.qoffset[2],
         0,
         0,
         0,
         1};
  return q;
}

/// voxel -> mm: the sform if its code is positive, else the qform, else voxel sizes alone. Never a matrix that cannot
/// be inverted.
inline Affine header_affine(const NiftiHeader& h, const std::string& path) {
  Affine a;
  const char* source = "voxel sizes";
  if (h.sform_code > 0) {
    source = "sform";
    std::copy(h.srow.begin(), h.srow.end(), a.m.begin());
  } else if (h.qform_code > 0) {
    source = "qform";
    a = qform_affine(h, path);
  } else {
    a = Affine::scaling(pixdim_spacing(h, path));
  }
  const double mm = unit_mm(h);
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 4; ++c) a(r, c) *= mm;
  require<FileError>(is_invertible(a), path, ": the ", source, " gives the affine ", a,
                     ", which is not finite or is flat; correct the header first");
  return a;
}

/// Sizes, type, offset and scaling, each against what NIfTI allows; products cannot overflow afterwards.
inline void check_header(const NiftiHeader& h, const std::string& path) {
  require<FileError>(h.dim[0] >= 1 && h.dim[0] <= 7, path, ": dim[0] (number of axes) is ", h.dim[0],
                     ", expected 1 to 7");
  const Index voxel_bytes = nifti_type_bytes(h.datatype);
  require<FileError>(voxel_bytes > 0, path, ": voxel type ", h.datatype, " (", nifti_type_name(h.datatype),
                     ") is not supported, expected an integer or real type of 8 to 64 bits");
  Index bytes = voxel_bytes;
  for (Index a = 1; a <= h.dim[0]; ++a) {
    const Index n = h.dim[std::size_t(a)];
    require<FileError>(n >= 1, path, ": dim[", a, "] is ", n, ", expected at least 1");
    require<FileError>(!__builtin_mul_overflow(bytes, n, &bytes) && bytes < (Index(1) << 56), path, ": dim[1..",
                       h.dim[0], "] claim more voxels than any file holds");
  }
  require<FileError>(h.dim[0] <= Shape::max_rank || h.dim[7] == 1, path, ": has 7 axes, expected at most ",
                     Shape::max_rank);
  require<FileError>(h.vox_offset >= 0, path, ": vox_offset is ", h.vox_offset, ", expected 0 or more");
  const bool slope_usable = h.scl_slope != 0 && std::isfinite(h.scl_slope);
  require<FileError>(!slope_usable || std::isfinite(h.scl_inter), path, ": scl_slope is ", h.scl_slope,
                     " but scl_inter is ", h.scl_inter, ", expected a finite number");
}

inline constexpr Index nifti_header_bytes(int version) { return version == 1 ? 348 : 540; }

/// 1 or 2 from the first four bytes, with the byte order; 0 if they are no NIfTI header.
inline int nifti_version(const std::uint8_t* first4, bool& swap) {
  for (const bool s : {false, true}) {
    const auto size = load<std::int32_t>(first4, s);
    swap = s;
    if (size == 348) return 1;
    if (size == 540) return 2;
  }
  return 0;
}

/// A checked header from its 348 or 540 bytes.
inline NiftiHeader parse_header(const std::vector<std::uint8_t>& bytes, const std::string& path) {
  NiftiHeader h;
  bool swap = false;
  h.version = nifti_version(bytes.data(), swap);
  h.big_endian = swap != host_is_big_endian;
  const bool one = h.version == 1;
  const std::string magic(reinterpret_cast<const char*>(bytes.data()) + (one ? 344 : 4), one ? 4 : 8);
  const std::string tail = one ? std::string(1, '\0') : std::string("\0\r\n\x1a\n", 5);
  const std::string single = (one ? "n+1" : "n+2") + tail, two = (one ? "ni1" : "ni2") + tail;
  require<FileError>(magic == single || magic == two, path, ": the first bytes are those of NIfTI-", h.version,
                     ", but the magic \"n+", h.version, "\" or \"ni", h.version,
                     "\" is missing (Analyze 7.5 is not supported) or damaged");
  h.pair = magic == two;
  const LoadField field{bytes.data(), swap};
  if (one) {
    nifti1_fields(h, field);
    const double offset = double(load<float>(bytes.data() + 108, swap));
    require<FileError>(offset >= 0 && offset < 0x1p56, path, ": vox_offset is ", offset,
                       ", expected the position of the voxels in the file");  // false for NaN as well
    h.vox_offset = std::int64_t(offset);
  } else {
    nifti2_fields(h, field);
    field(168, h.vox_offset, std::int64_t{});
  }
  check_header(h, path);
  if (!h.pair) h.vox_offset = std::max<std::int64_t>(h.vox_offset, nifti_header_bytes(h.version) + 4);
  return h;
}

/// Extensions in the bytes after the header: a flag, then blocks of (size, code, content). What does not follow the
/// rules ends the list: the voxels' place is known from vox_offset, so nothing hangs on it.
inline std::vector<NiftiExtension> parse_extensions(const std::vector<std::uint8_t>& bytes, bool swap) {
  std::vector<NiftiExtension> list;
  if (bytes.size() < 4 || bytes[0] == 0) return list;
  for (std::size_t at = 4; at + 8 <= bytes.size();) {
    const auto size = load<std::int32_t>(bytes.data() + at, swap);
    if (size < 16 || size % 16 != 0 || std::size_t(size) > bytes.size() - at) break;
    list.push_back({load<std::int32_t>(bytes.data() + at + 4, swap),
                    {bytes.begin() + std::ptrdiff_t(at + 8), bytes.begin() + std::ptrdiff_t(at + std::size_t(size))}});
    at += std::size_t(size);
  }
  return list;
}

/// Header, flag and extensions, little-endian, as they stand before the voxels or, of a pair, in the .hdr file; sets
/// vox_offset.
inline std::vector<std::uint8_t> header_bytes(NiftiHeader& h) {
  const auto fixed = std::size_t(nifti_header_bytes(h.version));
  std::vector<std::uint8_t> bytes(fixed + 4);
  bytes[fixed] = h.extensions.empty() ? 0 : 1;
  for (const NiftiExtension& e : h.extensions) {
    const std::size_t at = bytes.size(), size = (e.content.size() + 8 + 15) / 16 * 16;
    bytes.resize(at + size);
    store(bytes.data() + at, std::int32_t(size));
    store(bytes.data() + at + 4, std::int32_t(e.code));
    std::copy(e.content.begin(), e.content.end(), bytes.begin() + std::ptrdiff_t(at + 8));
  }
  h.vox_offset = h.pair ? 0 : std::int64_t(bytes.size());
  store(bytes.data(), std::int32_t(fixed));
  const StoreField field{bytes.data()};
  if (h.version == 1) {
    nifti1_fields(h, field);
    store(bytes.data() + 108, float(h.vox_offset));
    bytes[38] = 'r';  // Analyze's mark of volumes of equal size, which old readers look for
    std::memcpy(bytes.data() + 344, h.pair ? "ni1" : "n+1", 4);
  } else {
    nifti2_fields(h, field);
    store(bytes.data() + 168, std::int64_t(h.vox_offset));
    std::memcpy(bytes.data() + 4, h.pair ? "ni2\0\r\n\x1a\n" : "n+2\0\r\n\x1a\n", 8);
  }
  return bytes;
}

/// Quaternion (b, c, d) of a rotation matrix, from its largest component for accuracy.
inline std::array<double, 3> quaternion_of(const Affine& r) {
  const double trace = r(0, 0) + r(1, 1) + r(2, 2);
  double a, b, c, d;
  if (trace > 0) {
    a = std::sqrt(1 + trace) / 2;
    b = (r(2, 1) - r(1, 2)) / (4 * a), c = (r(0, 2) - r(2, 0)) / (4 * a), d = (r(1, 0) - r(0, 1)) / (4 * a);
  } else if (r(0, 0) >= r(1, 1) && r(0, 0) >= r(2, 2)) {
    b = std::sqrt(1 + r(0, 0) - r(1, 1) - r(2, 2)) / 2;
    a = (r(2, 1) - r(1, 2)) / (4 * b), c = (r(0, 1) + r(1, 0)) / (4 * b), d = (r(0, 2) + r(2, 0)) / (4 * b);
  } else if (r(1, 1) >= r(2, 2)) {
    c = std::sqrt(1 + r(1, 1) - r(0, 0) - r(2, 2)) / 2;
    a = (r(0, 2) - r(2, 0)) / (4 * c), b = (r(0, 1) + r(1, 0)) / (4 * c), d = (r(1, 2) + r(2, 1)) / (4 * c);
  } else {
    d = std::sqrt(1 + r(2, 2) - r(0, 0) - r(1, 1)) / 2;
    a = (r(1, 0) - r(0, 1)) / (4 * d), b = (r(0, 2) + r(2, 0)) / (4 * d), c = (r(1, 2) + r(2, 1)) / (4 * d);
  }
  return a < 0 ? std::array<double, 3>{-b, -c, -d} : std::array<double, 3>{b, c, d};
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
