#pragma once
/// A folder of its own for a test, removed at the end.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <stdlib.h>

#include "catch.hpp"
#include "m3i/core/atomic_file.hpp"

struct Scratch {
  std::filesystem::path folder;

  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "m3i_test_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    folder = name;
  }
  ~Scratch() {
    std::error_code error;
    std::filesystem::remove_all(folder, error);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string operator/(const std::string& name) const { return (folder / name).string(); }
  std::size_t files() const {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n;
    return n;
  }
};

inline std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
/// Plain, not atomic: tests write damaged files with it.
inline void put_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// Makes the n-th system call of the files written while it lives fail (n = 0: none), and counts them.
struct FailingCall {
  inline static int countdown = 0, calls = 0, error = 0;
  inline static std::string name;

  FailingCall(int n, int errno_value) {
    countdown = n;
    calls = 0;
    error = errno_value;
    name.clear();
    m3i::file_fault() = [](const char* call) {
      ++calls;
      if (--countdown != 0) return 0;
      name = call;
      return error;
    };
  }
  ~FailingCall() { m3i::file_fault() = nullptr; }
  FailingCall(const FailingCall&) = delete;
  FailingCall& operator=(const FailingCall&) = delete;
};
