#pragma once
/// A folder of its own for one test case, removed at its end.

#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "m3i/imaging/nifti.hpp"

struct TemporaryFolder {
  std::filesystem::path path;

  TemporaryFolder() {
    static int count = 0;
    path = std::filesystem::temp_directory_path() / m3i::text("m3i_data_", long(::getpid()), "_", count++);
    std::filesystem::create_directories(path);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path / name).string(); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << bytes;
    return *this / name;
  }
  /// A volume whose voxels count up from `first`.
  std::string volume(const std::string& name, float first = 0, const m3i::Shape& shape = {4, 5, 6}) const {
    m3i::Volume<float> v{m3i::Tensor<float>(shape), {}, nullptr};
    for (auto& x : v.voxels.span()) x = first++;
    return volume(name, v);
  }
  template <class T>
  std::string volume(const std::string& name, const m3i::Volume<T>& v) const {
    std::filesystem::create_directories((path / name).parent_path());
    m3i::write_nifti(*this / name, v);
    return *this / name;
  }
  std::string labels(const std::string& name, std::uint8_t most = 1, const m3i::Shape& shape = {4, 5, 6}) const {
    m3i::Volume<std::uint8_t> v{m3i::Tensor<std::uint8_t>::zeros(shape), {}, nullptr};
    v.voxels.data()[0] = most;
    return volume(name, v);
  }
};
