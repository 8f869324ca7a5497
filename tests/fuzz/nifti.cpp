// NIfTI: the input is a file, .nii or .nii.gz by its first bytes; with the magic of a pair it is cut into .hdr and .img
// after the header.
#include <cstring>
#include <vector>

#include <zlib.h>

#include "harness.hpp"
#include "m3i/imaging/nifti.hpp"

namespace {

using namespace m3i;

bool is_gzip(const std::uint8_t* data, std::size_t size) { return size > 2 && data[0] == 0x1f && data[1] == 0x8b; }

/// Up to `most` bytes of a gzip stream's first member; what a broken stream gave before its error.
std::vector<std::uint8_t> unpack(const std::uint8_t* data, std::size_t size, std::size_t most) {
  std::vector<std::uint8_t> out(most);
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return {};
  stream.next_in = const_cast<std::uint8_t*>(data);
  stream.avail_in = uInt(size);
  stream.next_out = out.data();
  stream.avail_out = uInt(most);
  inflate(&stream, Z_FINISH);
  out.resize(most - stream.avail_out);
  inflateEnd(&stream);
  return out;
}

/// Bytes of the header if the input is a pair, else 0.
std::size_t pair_header(const std::uint8_t* data, std::size_t size) {
  if (size >= 348 && std::memcmp(data + 344, "ni1", 4) == 0) return 348;
  if (size >= 540 && std::memcmp(data + 4, "ni2", 4) == 0) return 540;
  return 0;
}

void read(const std::string& path) {
  const NiftiHeader header = read_nifti_header(path);
  if (header.shape().size() < 0) fuzz::finding("a negative number of voxels");
  const auto volume = read_nifti_frames<float>(path);
  if (volume.voxels.size() != header.shape().size()) fuzz::finding("voxels are not as many as the header says");
  if (orientation(volume.affine).find(' ') != std::string::npos) fuzz::finding("an axis without direction");
  if (header.frames() > 1) {
    const auto last = read_nifti<float>(path, {.frame = header.frames() - 1});
    if (last.voxels.size() * header.frames() != volume.voxels.size()) fuzz::finding("a frame is no part of the whole");
  }
  if (header.frames() == 1 && volume.voxels.size() <= 4096) {
    read_labels<std::uint8_t>(path);
    if (to_ras(read_nifti<float>(path)).voxels.size() != volume.voxels.size()) fuzz::finding("voxels were lost");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::Scratch scratch;
  static fuzz::ScratchFile single(scratch.path("one.nii")), header(scratch.path("two.hdr")),
      voxels(scratch.path("two.img"));
  const std::size_t cut = pair_header(data, size);
  if (cut > 0) {
    header.set(data, cut);
    voxels.set(data + cut, size - cut);
  } else {
    single.set(data, size);
  }
  const auto honest = [&] { return is_gzip(data, size) ? unpack(data, size, size * 1032).size() : size; };
  fuzz::examine(size, honest, [&] { read(cut > 0 ? header.path() : single.path()); });
  return 0;
}

#if M3I_FUZZING
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

/// Changes what is inside a gzip stream half of the time: a change of the stream itself mostly breaks its checksum.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  if (seed % 2 == 0 || !is_gzip(data, size)) return LLVMFuzzerMutate(data, size, most);
  std::vector<std::uint8_t> plain = unpack(data, size, most);
  const std::size_t have = plain.size();
  plain.resize(most);
  plain.resize(LLVMFuzzerMutate(plain.data(), have, most));
  z_stream stream{};
  if (deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 1, Z_DEFAULT_STRATEGY) != Z_OK) return size;
  std::vector<std::uint8_t> packed(most);
  stream.next_in = plain.data();
  stream.avail_in = uInt(plain.size());
  stream.next_out = packed.data();
  stream.avail_out = uInt(most);
  const bool whole = deflate(&stream, Z_FINISH) == Z_STREAM_END;
  const std::size_t got = most - stream.avail_out;
  deflateEnd(&stream);
  if (!whole) return LLVMFuzzerMutate(data, size, most);
  std::copy_n(packed.data(), got, data);
  return got;
}
#endif
