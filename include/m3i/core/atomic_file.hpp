#pragma once
/// Files that appear whole or not at all: written beside their place under a temporary name, flushed to the disk, and
/// renamed. After a crash, a kill or a full disk the old file is still there.

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The system's words for an errno value, as "No space left on device".
inline std::string errno_text(int code) { return std::generic_category().message(code); }

/// For tests: called before each system call of an AtomicFile with its name (open, write, fsync, rename,
/// fsync_folder). A result other than 0 is taken as the errno of a failed call. Null by default.
using FileFault = int (*)(const char* call);
inline std::atomic<FileFault>& file_fault() {
  static std::atomic<FileFault> hook{nullptr};
  return hook;
}

/// A file being written. Nothing is visible at `path` until commit(); without it the destructor removes the temporary
/// file. A symbolic link at `path` is replaced by the file. Every failure throws FileError with the path, the call and
/// the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path) : path_(std::move(path)) {
    static std::atomic<unsigned> counter{0};
    require<FileError>(!path_.empty() && path_.back() != '/', "write: \"", path_, "\" does not name a file");
    for (int attempt = 0; attempt < 100; ++attempt) {  // a name may be left over from a killed process with our number
      temporary_ = text(path_, ".tmp.", Pid(::getpid()), ".", counter++);
      const int error = call(
          "open", [&] { return handle_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
      if (error == 0) return;
      if (error != EEXIST) fail<FileError>("write ", path_, ": cannot create ", temporary_, ": ", errno_text(error));
    }
    fail<FileError>("write ", path_, ": no free temporary name; remove the files ", path_, ".tmp.*");
  }
  ~AtomicFile() { discard(); }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes) {
    require<FileError>(handle_ >= 0, "write ", path_, ": the file is already closed");
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
      constexpr std::size_t largest = std::size_t(1) << 26;
      ssize_t written = 0;
      check("write",
            call("write", [&] { return written = ::write(handle_, next, bytes < largest ? bytes : largest); }));
      next += written;
      bytes -= std::size_t(written);
    }
  }
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }

  /// Flushes the file, puts it in place and flushes the folder entry.
  void commit() {
    require<FileError>(handle_ >= 0, "write ", path_, ": the file is already closed");
    check("flush", call("fsync", [&] { return ::fsync(handle_); }));
    const int handle = std::exchange(handle_, -1);
    if (::close(handle) != 0 && errno != EINTR) check("close", errno);
    check("rename the temporary file of", call("rename", [&] { return ::rename(temporary_.c_str(), path_.c_str()); }));
    temporary_.clear();
    flush_folder();
  }

 private:
  using Pid = long;

  /// 0, or the errno of a call; interrupted calls are repeated.
  template <class Call>
  static int call(const char* name, const Call& function) {
    if (const FileFault fault = file_fault().load())
      if (const int error = fault(name)) return error;
    for (;;) {
      if (function() >= 0) return 0;
      if (errno != EINTR) return errno;
    }
  }
  void check(const char* action, int error) {
    if (error == 0) return;
    discard();
    fail<FileError>("write ", path_, ": cannot ", action, " the file: ", errno_text(error),
                    "; what was there before is unchanged");
  }
  void flush_folder() const {
    const auto slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (handle < 0)
      return;  // a folder that may be written but not read: the file is in place, the entry not yet flushed
    const int error = call("fsync_folder", [&] { return ::fsync(handle); });
    ::close(handle);
    if (error != 0 && error != EINVAL && error != ENOTSUP)  // some network file systems cannot flush folders
      fail<FileError>("write ", path_,
                      ": the file is in place, but its folder could not be flushed: ", errno_text(error));
  }
  void discard() noexcept {
    if (handle_ >= 0) ::close(std::exchange(handle_, -1));
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    temporary_.clear();
  }

  std::string path_, temporary_;
  int handle_ = -1;
};

/// Writes a whole file atomically.
inline void write_file(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace M3I_ABI
}  // namespace m3i
