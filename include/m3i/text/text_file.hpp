#pragma once
/// Whole text files, plain or gzip-compressed (the latter needs M3I_ZLIB=1).

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>

#include "m3i/core/atomic_file.hpp"
#include "m3i/core/error.hpp"

#ifndef M3I_ZLIB
#define M3I_ZLIB 0
#endif
#if M3I_ZLIB
#include <zlib.h>
#endif

namespace m3i {
inline namespace M3I_ABI {

/// Reads a vocabulary or merge list, at most `limit` bytes of text, so that a compressed bomb is refused. Throws
/// FileError.
inline std::string read_text_file(const std::string& path, std::size_t limit = std::size_t(64) << 20) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  require<FileError>(file != nullptr, "read ", path, ": ", errno_text(errno));
  std::string out, block(std::size_t(1) << 16, '\0');
  const auto take = [&](std::size_t bytes) {
    out.append(block, 0, bytes);
    require<FileError>(out.size() <= limit, "read ", path, ": more than ", limit, " bytes of text");
  };
  std::size_t got = std::fread(block.data(), 1, block.size(), file.get());
  const bool compressed = got >= 2 && block[0] == '\x1f' && block[1] == '\x8b';
  if (!compressed) {
    for (; got > 0; got = std::fread(block.data(), 1, block.size(), file.get())) take(got);
    require<FileError>(!std::ferror(file.get()), "read ", path, ": ", errno_text(errno));
    return out;
  }
#if M3I_ZLIB
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> gz(gzopen(path.c_str(), "rb"), &gzclose);
  require<FileError>(gz != nullptr, "read ", path, ": ", errno_text(errno));
  int read = 0;
  while ((read = gzread(gz.get(), block.data(), unsigned(block.size()))) > 0) take(std::size_t(read));
  int status = Z_OK;
  const char* reason = gzerror(gz.get(), &status);  // Z_BUF_ERROR: the compressed data end too early
  require<FileError>(read == 0 && (status == Z_OK || status == Z_STREAM_END), "read ", path,
                     ": damaged gzip data: ", reason);
  return out;
#else
  fail<FileError>("read ", path,
                  ": is gzip-compressed and this build has no zlib; run gunzip on it, or build with "
                  "M3I_ZLIB=ON");
#endif
}

}  // namespace M3I_ABI
}  // namespace m3i
