#pragma once
/// What the fuzz targets share. A target is a source with LLVMFuzzerTestOneInput(bytes): libFuzzer calls it (preset
/// "fuzz", see run.sh), and folder.cpp calls it with the files of folders, as a test of every build.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "m3i/core/memory.hpp"
#include "m3i/core/parallel.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

/// The most bytes that were taken at one time since the last reset (allocations.cpp).
std::size_t memory_peak();
void reset_memory_peak();

/// Most bytes that reading a file of `honest` bytes may take.
inline std::size_t allowance(std::size_t honest) { return (std::size_t(64) << 20) + 2 * honest; }

/// Ends the program with a message: libFuzzer keeps the input, a test fails.
[[noreturn]] inline void finding(const std::string& what) {
  std::fprintf(stderr, "finding: %s\n", what.c_str());
  std::abort();
}

/// A folder of this process in memory (/dev/shm) if there is one, removed at the end.
class Scratch {
 public:
  Scratch() {
    namespace fs = std::filesystem;
    const fs::path root = fs::is_directory("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path();
    folder_ = (root / m3i::text("m3i_fuzz_", long(::getpid()))).string();
    fs::create_directories(folder_);
    m3i::set_thread_count(1);  // inputs are small, and a crash is then that of the calling thread
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string path(const char* name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
};

/// A file whose content is replaced for each input; it stays open, which is faster than making it anew.
class ScratchFile {
 public:
  explicit ScratchFile(std::string path) : path_(std::move(path)) {
    handle_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (handle_ < 0) finding("cannot create " + path_);
  }
  ~ScratchFile() { ::close(handle_); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const std::string& path() const { return path_; }
  void set(const std::uint8_t* data, std::size_t size) {
    if (::pwrite(handle_, data, size, 0) != ssize_t(size) || ::ftruncate(handle_, off_t(size)) != 0)
      finding("cannot write " + path_);
  }

 private:
  std::string path_;
  int handle_ = -1;
};

/// Runs work(); m3i's own errors are the right answer to a wrong input, anything else ends the program. `honest()`
/// gives the bytes that the input really holds; it is asked only when the plain size does not justify the memory.
template <class Work, class Honest>
void examine(std::size_t size, const Honest& honest, const Work& work) {
  reset_memory_peak();
  try {
    work();
  } catch (const m3i::Error& error) {
    if (std::string_view(error.what()).size() > 4096) finding("an error message of more than 4096 bytes");
  }
  const std::size_t took = memory_peak();
  if (took <= allowance(size)) return;
  if (took > allowance(honest()))
    finding(m3i::text("took ", took, " bytes for an input of ", size, " that holds ", honest()));
}
template <class Work>
void examine(std::size_t size, const Work& work) {
  examine(
      size, [size] { return size; }, work);
}

}  // namespace fuzz
