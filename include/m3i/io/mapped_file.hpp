#pragma once
/// A file's bytes in memory without reading them: pages come in as they are touched.

#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "m3i/core/atomic_file.hpp"
#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Read-only view of a regular file. The file must not be shortened while it is mapped (files that m3i writes are
/// replaced, never shortened). Throws FileError.
class MappedFile {
 public:
  explicit MappedFile(std::string path) : path_(std::move(path)) {
    const int handle = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    require<FileError>(handle >= 0, "read ", path_, ": ", errno_text(errno));
    struct stat status {};
    const bool known = ::fstat(handle, &status) == 0;
    if (!known || !S_ISREG(status.st_mode)) {
      ::close(handle);
      fail<FileError>("read ", path_, ": is not a regular file");
    }
    size_ = std::size_t(status.st_size);
    if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, handle, 0);
    const int error = errno;
    ::close(handle);
    require<FileError>(data_ != MAP_FAILED, "read ", path_, ": cannot map ", size_, " bytes: ", errno_text(error));
  }
  ~MappedFile() {
    if (data_) ::munmap(data_, size_);
  }
  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;

  const std::string& path() const { return path_; }
  std::size_t size() const { return size_; }
  const char* data() const { return static_cast<const char*>(data_); }
  std::string_view bytes() const { return {data(), size_}; }

 private:
  std::string path_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
