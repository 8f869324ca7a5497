#pragma once
/// Reading files that may be gzip, and writing files whole or not at all.

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "m3i/imaging/gzip.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

inline std::string system_message() { return std::generic_category().message(errno); }

/// A file read from its start. gzip is recognised by its first bytes, not by the name.
class InputFile {
 public:
  explicit InputFile(std::string path) : path_(std::move(path)) {
    struct stat info {};
    require<FileError>(::stat(path_.c_str(), &info) == 0, path_, ": cannot be opened: ", system_message());
    require<FileError>(S_ISREG(info.st_mode), path_, ": is ", S_ISDIR(info.st_mode) ? "a folder" : "no regular file",
                       ", expected a file");
    file_.reset(std::fopen(path_.c_str(), "rb"));
    require<FileError>(file_ != nullptr, path_, ": cannot be opened: ", system_message());
    length_ = Index(info.st_size);
    unsigned char magic[2] = {0, 0};
    const bool gzip = std::fread(magic, 1, 2, file_.get()) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
    std::rewind(file_.get());
    if (gzip) gunzip_ = std::make_unique<Gunzip>(file_.get(), path_);
  }

  const std::string& path() const { return path_; }
  bool is_gzip() const { return gunzip_ != nullptr; }
  Index length() const { return length_; }
  /// No more bytes than this can come out: deflate expands at most 1032 times.
  Index most_bytes() const {
    constexpr Index expansion = 1032;
    if (!is_gzip()) return length_;
    return length_ > INT64_MAX / expansion ? INT64_MAX : length_ * expansion;
  }

  /// Up to n bytes; fewer only at the end.
  Index read(std::uint8_t* out, Index n) {
    if (gunzip_) return gunzip_->read(out, n);
    const auto got = Index(std::fread(out, 1, std::size_t(n), file_.get()));
    require<FileError>(!std::ferror(file_.get()), path_, ": could not be read");
    return got;
  }
  /// n bytes, or FileError. Memory grows with what really arrives, never with what n claims.
  std::vector<std::uint8_t> read_exactly(Index n, const char* what) {
    std::vector<std::uint8_t> bytes;
    if (!is_gzip() && n <= length_) bytes.reserve(std::size_t(n));
    while (Index(bytes.size()) < n) {
      const Index have = Index(bytes.size()), part = std::min(n - have, std::max<Index>(have, Index(1) << 20));
      bytes.resize(std::size_t(have + part));
      const Index got = read(bytes.data() + have, part);
      require<FileError>(got == part, path_, ": too short: ", what, " need ", n, " bytes, only ", have + got,
                         " are there; the file is cut short or its header is wrong");
    }
    return bytes;
  }
  /// Passes over n bytes; false if the file ends before.
  bool skip(Index n) {
    std::vector<std::uint8_t> scratch(std::size_t(std::min<Index>(n, Index(1) << 16)));
    while (n > 0) {
      const Index part = std::min(n, Index(scratch.size()));
      if (read(scratch.data(), part) < part) return false;
      n -= part;
    }
    return true;
  }
  /// Reads to the end of a gzip stream, so that its checksum is checked; the bytes are not kept. FileError if there are
  /// more than 16 MiB: no more work is done for a file than its header accounts for.
  void finish() {
    constexpr Index most = Index(16) << 20;
    require<FileError>(!is_gzip() || !skip(most + 1), path_, ": more than ", most,
                       " bytes follow what the header describes; the header is wrong, or this is no image");
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::unique_ptr<Gunzip> gunzip_;
  Index length_ = 0;
};

/// A file that appears under its name only when commit() has put all of it on the disk; before, it is a temporary file
/// in the same folder, which an error removes. An earlier file of that name stays whole until then. Files that belong
/// together are all finished before the first is published.
class OutputFile {
 public:
  OutputFile(const std::string& path, bool gzip) : path_(path) {
    const std::filesystem::path target(path);
    std::error_code ignored;
    require<FileError>(!std::filesystem::exists(target, ignored) || std::filesystem::is_regular_file(target, ignored),
                       path, ": cannot be written: a folder or device has that name");
    if (gzip) gzip_ = std::make_unique<Gzip>(path);
    static std::atomic<unsigned> counter{0};
    temporary_ = (target.parent_path() /
                  text(".", target.filename().string(), ".", ::getpid(), ".", counter.fetch_add(1), ".tmp"))
                     .string();
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    require<FileError>(descriptor_ >= 0, path, ": cannot be written: ", system_message());
  }
  ~OutputFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::uint8_t> bytes) {
    if (gzip_)
      gzip_->write(bytes.data(), Index(bytes.size()), false, [this](const std::uint8_t* b, Index n) { put(b, n); });
    else put(bytes.data(), Index(bytes.size()));
  }
  void commit() {
    finish();
    publish();
  }
  /// Puts everything on the disk, under the temporary name still.
  void finish() {
    if (gzip_) gzip_->write(nullptr, 0, true, [this](const std::uint8_t* b, Index n) { put(b, n); });
    require<FileError>(::fsync(descriptor_) == 0, path_, ": could not be written to the disk: ", system_message());
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    require<FileError>(closed == 0, path_, ": could not be written to the disk: ", system_message());
  }
  /// Gives a finished file its name.
  void publish() {
    require<FileError>(::rename(temporary_.c_str(), path_.c_str()) == 0, path_,
                       ": could not be renamed into place: ", system_message());
    temporary_.clear();
    const std::string folder = std::filesystem::path(path_).parent_path().string();
    const int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {  // makes the new name durable; not every file system offers it, and the file itself is safe
      ::fsync(directory);
      ::close(directory);
    }
  }

 private:
  void put(const std::uint8_t* bytes, Index n) {
    while (n > 0) {
      const ssize_t wrote = ::write(descriptor_, bytes, std::size_t(std::min<Index>(n, Index(1) << 30)));
      if (wrote < 0 && errno == EINTR) continue;
      require<FileError>(wrote > 0, path_, ": could not be written: ", system_message(),
                         "; the unfinished file was removed");
      bytes += wrote;
      n -= Index(wrote);
    }
  }

  std::string path_, temporary_;
  std::unique_ptr<Gzip> gzip_;
  int descriptor_ = -1;
};

inline void write_whole_file(const std::string& path, std::span<const std::uint8_t> bytes) {
  OutputFile file(path, false);
  file.write(bytes);
  file.commit();
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
