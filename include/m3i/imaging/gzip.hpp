#pragma once
/// gzip streams, by zlib if M3I_ZLIB is 1 (then link with -lz), else refused with an error.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "m3i/core/shape.hpp"

#ifndef M3I_ZLIB
#define M3I_ZLIB 0
#endif
#if M3I_ZLIB
#include <zlib.h>
#endif

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

#if M3I_ZLIB
/// Unpacks a gzip file of one or more members. zlib checks each member's CRC and length.
class Gunzip {
 public:
  Gunzip(std::FILE* file, std::string path) : file_(file), path_(std::move(path)), buffer_(std::size_t(1) << 16) {
    require<FileError>(inflateInit2(&stream_, 15 + 16) == Z_OK, path_, ": zlib could not start");
  }
  ~Gunzip() { inflateEnd(&stream_); }
  Gunzip(const Gunzip&) = delete;
  Gunzip& operator=(const Gunzip&) = delete;

  /// Up to n bytes; fewer only at the end of the last member.
  Index read(std::uint8_t* out, Index n) {
    Index done = 0;
    while (done < n && !ended_) {
      require<FileError>(refill(), path_, ": the gzip stream ends early; the file is cut short");
      const uInt room = uInt(std::min<Index>(n - done, Index(1) << 30));
      stream_.next_out = out + done;
      stream_.avail_out = room;
      const int code = inflate(&stream_, Z_NO_FLUSH);
      done += Index(room - stream_.avail_out);
      if (code == Z_STREAM_END) next_member();
      else
        require<FileError>(code == Z_OK, path_, ": broken gzip stream: ", stream_.msg ? stream_.msg : "unknown reason");
    }
    return done;
  }

 private:
  /// False at the end of the file.
  bool refill() {
    if (stream_.avail_in == 0) {
      stream_.next_in = buffer_.data();
      stream_.avail_in = uInt(std::fread(buffer_.data(), 1, buffer_.size(), file_));
      require<FileError>(!std::ferror(file_), path_, ": could not be read");
    }
    return stream_.avail_in > 0;
  }
  /// After a member: another member, padding with zeros, or the end.
  void next_member() {
    if (refill() && *stream_.next_in != 0) {
      require<FileError>(*stream_.next_in == 0x1f, path_, ": unknown bytes after the gzip stream");
      require<FileError>(inflateReset(&stream_) == Z_OK, path_, ": zlib could not go on");
      return;
    }
    ended_ = true;
    for (; refill(); stream_.avail_in = 0)
      for (uInt i = 0; i < stream_.avail_in; ++i)
        require<FileError>(stream_.next_in[i] == 0, path_, ": unknown bytes after the gzip stream");
  }

  std::FILE* file_;
  std::string path_;
  std::vector<std::uint8_t> buffer_;
  z_stream stream_{};
  bool ended_ = false;
};

/// Packs bytes; the same bytes in give the same bytes out (no time stamp).
class Gzip {
 public:
  explicit Gzip(const std::string& path) : buffer_(std::size_t(1) << 16) {
    require<FileError>(deflateInit2(&stream_, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, path,
                       ": zlib could not start");
  }
  ~Gzip() { deflateEnd(&stream_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  /// Calls sink(bytes, count) for what is ready; `last` ends the stream.
  template <class Sink>
  void write(const std::uint8_t* bytes, Index n, bool last, const Sink& sink) {
    do {
      const uInt part = uInt(std::min<Index>(n, Index(1) << 30));
      stream_.next_in = const_cast<std::uint8_t*>(bytes);
      stream_.avail_in = part;
      bytes += part;
      n -= Index(part);
      do {
        stream_.next_out = buffer_.data();
        stream_.avail_out = uInt(buffer_.size());
        deflate(&stream_, last && n == 0 ? Z_FINISH : Z_NO_FLUSH);
        sink(buffer_.data(), Index(buffer_.size() - stream_.avail_out));
      } while (stream_.avail_out == 0);
    } while (n > 0);
  }

 private:
  std::vector<std::uint8_t> buffer_;
  z_stream stream_{};
};
#else
class Gunzip {
 public:
  Gunzip(std::FILE*, const std::string& path) {
    fail<FileError>(path, ": is gzip, and this build has no zlib; unpack the file, or build with M3I_ZLIB=1 and -lz");
  }
  Index read(std::uint8_t*, Index) { return 0; }
};
class Gzip {
 public:
  explicit Gzip(const std::string& path) {
    fail<FileError>(path,
                    ": cannot be written as gzip, this build has no zlib; use a name that ends in .nii, or build "
                    "with M3I_ZLIB=1 and -lz");
  }
  template <class Sink>
  void write(const std::uint8_t*, Index, bool, const Sink&) {}
};
#endif

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
