#pragma once
/// What the names of files say: whose they are, whether they hold labels, and which belong together.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/error.hpp"
#include "m3i/data/subject_list.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

inline bool ends_with(const std::string& s, const std::string& ending) {
  return s.size() >= ending.size() && s.compare(s.size() - ending.size(), ending.size(), ending) == 0;
}
/// "a/b_0000.nii.gz" -> "b_0000"; empty if the name is not that of a NIfTI volume.
inline std::string nifti_stem(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  for (const char* ending : {".nii.gz", ".nii"})
    if (ends_with(name, ending)) return name.substr(0, name.size() - std::string(ending).size());
  return "";
}
/// Without the channel number of the nnU-Net convention.
inline std::string without_channel(const std::string& stem) {
  const std::size_t n = stem.size();
  if (n <= 5 || stem[n - 5] != '_') return stem;
  return stem.find_first_not_of("0123456789", n - 4) == std::string::npos ? stem.substr(0, n - 5) : stem;
}
/// "sub-07" of a BIDS name, else the whole stem.
inline std::string subject_of_stem(const std::string& stem) {
  return stem.rfind("sub-", 0) == 0 ? stem.substr(0, stem.find('_')) : stem;
}
/// Names the subjects of entries that have none, by their images. Four digits at the end of a name number a channel,
/// as in nnU-Net, or the case itself, as in "amos_0001". Its labels tell which: those of a channel are named without
/// them. Else they are channels where a few files differ in nothing else and the first has the number 0.
inline void name_subjects(std::vector<SubjectEntry>& entries) {
  struct Family {
    std::size_t files = 0;
    bool has_zero = false;
  };
  std::map<std::string, Family> families;
  const auto family_of = [](const SubjectEntry& e) {
    return (std::filesystem::path(e.image).parent_path() / without_channel(nifti_stem(e.image))).string();
  };
  for (const SubjectEntry& e : entries) {
    Family& family = families[family_of(e)];
    ++family.files;
    family.has_zero = family.has_zero || ends_with(nifti_stem(e.image), "_0000");
  }
  for (SubjectEntry& e : entries) {
    if (!e.subject.empty()) continue;
    const std::string stem = nifti_stem(e.image);
    const Family& family = families[family_of(e)];
    const bool channel = e.channels.size() > 1 || (e.labels.empty() ? family.has_zero && family.files <= 8
                                                                    : nifti_stem(e.labels).rfind(stem, 0) != 0);
    e.subject = subject_of_stem(channel ? without_channel(stem) : stem);
  }
}

/// Whether a word of a file's name says that it holds labels (or tissue maps), not an image.
inline bool is_label_word(std::string word) {
  while (!word.empty() && word.back() >= '0' && word.back() <= '9') word.pop_back();
  static const std::set<std::string> words{"label",      "labels", "seg",  "segmentation", "mask",  "gt",
                                           "annotation", "roi",    "aseg", "aal",          "atlas", "parcellation"};
  static const std::set<std::string> maps{"gm", "wm", "csf", "grey", "gray", "white", "prob", "probability"};
  return words.count(word) > 0 || maps.count(word) > 0 || ends_with(word, "seg") || ends_with(word, "codes");
}
/// Tissue maps and atlases are no targets even when they belong to an image.
inline bool is_target_word(const std::string& word) {
  static const std::set<std::string> words{"label", "labels", "seg", "segmentation", "mask", "gt", "annotation"};
  std::string stem = word;
  while (!stem.empty() && stem.back() >= '0' && stem.back() <= '9') stem.pop_back();
  return words.count(stem) > 0;
}
inline std::vector<std::string> name_words(const std::string& stem) {
  std::vector<std::string> words(1);
  for (const char c : stem) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      words.back() += char(std::tolower(static_cast<unsigned char>(c)));
    else words.emplace_back();
  }
  return words;
}

/// All NIfTI files below a folder, sorted; hidden files and folders are passed over.
inline std::vector<std::string> nifti_files(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error), end;
  require<FileError>(!error, folder, ": cannot be listed: ", error.message());
  while (at != end) {
    const std::string name = at->path().filename().string();
    if (!name.empty() && name[0] == '.') {
      at.disable_recursion_pending();
    } else if (!nifti_stem(name).empty() && at->is_regular_file(error)) {
      files.push_back(at->path().string());
    }
    at.increment(error);
    require<FileError>(!error, folder, ": cannot be listed: ", error.message());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Pairs by names: imagesTr/X(_0000).nii.gz with labelsTr/X.nii.gz; X.nii.gz with X_label.nii.gz, X_seg.nii.gz, ...
class NamePairing {
 public:
  explicit NamePairing(const std::vector<std::string>& files) : files_(files) {
    for (const std::string& file : files) {
      const auto words = name_words(nifti_stem(file));
      const bool label_folder = folder_name(file).rfind("labels", 0) == 0;
      if (label_folder || std::any_of(words.begin(), words.end(), is_label_word)) label_files_.insert(file);
    }
  }

  void fill(SubjectList& list) {
    std::set<std::string> used;
    for (const std::string& file : files_) {
      if (label_files_.count(file) > 0) continue;
      SubjectEntry entry;
      entry.image = file;
      entry.labels = labels_of(file);
      used.insert(entry.labels);
      list.entries.push_back(std::move(entry));
    }
    name_subjects(list.entries);
    for (const std::string& file : label_files_)
      if (used.count(file) == 0)
        list.left_out.push_back(file + ": looks like labels or a map, and is no image's target");
  }

 private:
  static std::string folder_name(const std::string& file) {
    return std::filesystem::path(file).parent_path().filename().string();
  }
  std::string labels_of(const std::string& image) const {
    namespace fs = std::filesystem;
    const fs::path folder = fs::path(image).parent_path();
    const std::string stem = nifti_stem(image), name = folder.filename().string();
    if (name.rfind("images", 0) == 0) {
      for (const std::string& start : {stem, without_channel(stem)})
        for (const char* ending : {".nii.gz", ".nii"}) {
          const fs::path there = folder.parent_path() / ("labels" + name.substr(6)) / (start + ending);
          if (label_files_.count(there.string()) > 0) return there.string();
        }
    }
    std::string best;  // the shortest name is the plain one
    for (const std::string& file : label_files_) {
      const std::string other = nifti_stem(file);
      if (fs::path(file).parent_path() != folder || other.size() <= stem.size() || other.rfind(stem, 0) != 0) continue;
      const auto words = name_words(other.substr(stem.size()));
      const bool target = words.size() > 1 && words[0].empty() && is_target_word(words[1]);
      if (target && (best.empty() || other.size() < nifti_stem(best).size())) best = file;
    }
    return best;
  }

  const std::vector<std::string>& files_;
  std::set<std::string> label_files_;
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
