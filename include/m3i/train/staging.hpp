#pragma once
/// A program's results that consist of many files and appear together or not at all.

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Files and folders of `out`, written into a hidden folder inside it and moved to their places by commit(). Without
/// commit the destructor removes them: whatever goes wrong, an earlier result stays as it was.
///
///     StagedFolder staged("out", {"imagesTr", "dataset.json"}, overwrite);
///     write_file(staged.path("dataset.json"), ...);
///     staged.commit();
class StagedFolder {
  using Path = std::filesystem::path;

 public:
  /// `names`: everything that will be written directly below `out`. Throws FileError if `out` holds anything and
  /// `overwrite` is off, or is not a folder. With `overwrite` only these names are replaced, at commit().
  StagedFolder(std::string out, std::vector<std::string> names, bool overwrite)
      : out_(std::move(out)), names_(std::move(names)), stage_((Path(out_) / ".making").string()) {
    std::error_code error;
    existed_ = std::filesystem::exists(out_, error);
    require<FileError>(!existed_ || std::filesystem::is_directory(out_, error), out_,
                       ": is a file, expected a folder to write to");
    const bool empty = !existed_ || std::filesystem::is_empty(out_, error) || only_stage();
    require<FileError>(!error, out_, ": cannot be looked into: ", error.message());
    require<FileError>(empty || overwrite, out_, ": is not empty; name another folder, or say --overwrite to replace ",
                       "what this program writes there");
    std::filesystem::remove_all(stage_, error);  // left over from a killed run
    std::filesystem::create_directories(stage_, error);
    require<FileError>(!error, out_, ": cannot be made: ", error.message());
  }
  ~StagedFolder() {
    std::error_code error;
    if (done_) return;
    std::filesystem::remove_all(stage_, error);
    if (!existed_) std::filesystem::remove(out_, error);
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::string& out() const { return out_; }
  /// Where to write what shall stand at out/name. The folder of `name` is made.
  std::string path(const std::string& name) const {
    const Path file = Path(stage_) / name;
    std::error_code error;
    std::filesystem::create_directories(file.parent_path(), error);
    require<FileError>(!error, file.parent_path().string(), ": cannot be made: ", error.message());
    return file.string();
  }

  /// Moves everything to its place; an earlier one of the same name goes first.
  void commit() {
    std::error_code error;
    for (const std::string& name : names_) {
      const Path from = Path(stage_) / name, to = Path(out_) / name;
      std::filesystem::remove_all(to, error);
      if (!error && std::filesystem::exists(from)) std::filesystem::rename(from, to, error);
      require<FileError>(!error, to.string(), ": cannot be put in place: ", error.message());
    }
    std::filesystem::remove_all(stage_, error);
    done_ = true;
  }

 private:
  /// True if the only thing there is what a killed run left.
  bool only_stage() const {
    std::error_code error;
    for (const auto& item : std::filesystem::directory_iterator(out_, error))
      if (item.path() != Path(stage_)) return false;
    return !error;
  }

  std::string out_;
  std::vector<std::string> names_;
  std::string stage_;
  bool existed_ = false, done_ = false;
};

}  // namespace M3I_ABI
}  // namespace m3i
