#pragma once
/// A folder of NIfTI volumes as a data set: who is in it, and which labels belong to which image.

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/json_fields.hpp"
#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/intensity.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/text/describe.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// One image and what belongs to it. Paths are complete; empty means none.
struct SubjectEntry {
  std::string subject;  ///< several images may be of one subject
  std::string image, labels;
  std::optional<Index> class_label{};   ///< for classification
  std::string modality, body_part;      ///< as the data set says; empty: unknown
  std::string finding;                  ///< for captions
  int finding_label = 0;                ///< the structure that shows it
  std::vector<std::string> structures;  ///< names of this entry's labels, if they differ from the data set's
};

struct SubjectList {
  std::string folder;
  std::vector<SubjectEntry> entries;
  std::vector<std::string> structures;  ///< names of the labels, entry 0 the background; empty if unknown
  std::vector<std::string> classes;     ///< names of the classes; empty if unknown
  std::vector<std::string> left_out;    ///< files that were found but not taken, each with the reason
};

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
  if (stem.rfind("sub-", 0) != 0) return without_channel(stem);
  return stem.substr(0, stem.find('_'));
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
      entry.subject = subject_of_stem(nifti_stem(file));
      entry.labels = labels_of(file);
      used.insert(entry.labels);
      list.entries.push_back(std::move(entry));
    }
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
      for (const char* ending : {".nii.gz", ".nii"}) {
        const fs::path there = folder.parent_path() / ("labels" + name.substr(6)) / (without_channel(stem) + ending);
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

/// {"0": "background", "1": "liver"} (Medical Segmentation Decathlon) or {"background": 0, "liver": 1} (nnU-Net) as a
/// list; also a plain list.
inline std::vector<std::string> read_names(const Json& names, const std::string& where) {
  if (names.is_array()) {
    for (const Json& n : names) require<FileError>(n.is_string(), where, ": names must be strings");
    return names.get<std::vector<std::string>>();
  }
  require<FileError>(names.is_object(), where, ": expected names by number, found ", names.type_name());
  std::map<Index, std::string> by_number;
  for (const auto& [key, value] : names.items()) {
    const bool number_first = value.is_string();
    require<FileError>(number_first || value.is_number_integer(), where, ": \"", excerpt(key),
                       "\" must be a number and a name");
    const std::string digits = number_first ? key : text(value.get<std::int64_t>());
    const bool number = !digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos;
    require<FileError>(number && digits.size() < 6, where, ": \"", excerpt(digits),
                       "\" is not a label number from 0 to 99999");
    by_number[std::stoll(digits)] = number_first ? value.get<std::string>() : key;
  }
  std::vector<std::string> out;
  for (const auto& [position, name] : by_number) {
    require<FileError>(position == Index(out.size()), where, ": number ", out.size(), " has no name");
    out.push_back(name);
  }
  return out;
}

inline SubjectEntry read_entry(const Json& json, const std::string& folder, const std::string& where) {
  const auto inside = [&](const std::string& path) {
    return path.empty() ? path : (std::filesystem::path(folder) / path).lexically_normal().string();
  };
  SubjectEntry entry;
  if (json.is_string()) {
    entry.image = inside(json.get<std::string>());
  } else {
    JsonFields fields(json, where);
    entry.image = inside(fields.string("image", true));
    entry.labels = inside(fields.string("label", false));
    entry.subject = fields.string("subject", false);
    if (fields.has("class")) entry.class_label = fields.integer("class");
    require<FileError>(entry.class_label.value_or(0) >= 0, where, ": class ", entry.class_label.value_or(0),
                       " is negative");
    entry.modality = fields.string("modality", false);
    entry.body_part = fields.string("body_part", false);
    entry.finding = fields.string("finding", false);
    if (fields.has("finding_label")) {
      const Index label = fields.integer("finding_label");
      require<FileError>(label >= 0 && label < 256, where, ": finding_label ", label, " must lie in [0, 255]");
      entry.finding_label = int(label);
    }
    if (fields.has("structures")) entry.structures = fields.strings("structures");
    fields.finish();
  }
  if (entry.subject.empty()) entry.subject = subject_of_stem(nifti_stem(entry.image));
  require<FileError>(!entry.subject.empty(), where, ": \"", entry.image, "\" is not a .nii or .nii.gz file");
  return entry;
}

/// Reads dataset.json: the Decathlon's keys "training", "test" and "labels", and ours ("classes"; in an entry
/// "subject", "class", "modality", "body_part", "finding", "finding_label", "structures").
inline void read_dataset_json(const std::string& path, SubjectList& list) {
  const Json json = read_json(path);
  require<FileError>(json.is_object() && json.contains("training") && json["training"].is_array(), path,
                     ": expected an object with a list \"training\"");
  if (json.contains("labels")) list.structures = read_names(json["labels"], path + ": labels");
  if (json.contains("classes")) list.classes = read_names(json["classes"], path + ": classes");
  for (const char* part : {"training", "test"}) {
    if (!json.contains(part)) continue;
    require<FileError>(json[part].is_array(), path, ": \"", part, "\" must be a list");
    Index number = 0;
    for (const Json& item : json[part])
      list.entries.push_back(read_entry(item, list.folder, text(path, ": ", part, "[", number++, "]")));
  }
}

/// Reads classes.json, {"subject": 1, ...}: the class of each subject, or of each image by its stem.
inline void read_classes_json(const std::string& path, SubjectList& list) {
  const Json json = read_json(path);
  require<FileError>(json.is_object(), path, ": expected an object of subject and class number");
  std::set<std::string> used;
  for (SubjectEntry& entry : list.entries)
    for (const std::string& key : {nifti_stem(entry.image), entry.subject})
      if (json.contains(key) && !entry.class_label) {
        const Json& value = json[key];
        require<FileError>(value.is_number_integer() && value >= 0 && value < 100000, path, ": \"", key, "\" is ",
                           excerpt(value.dump()), ", expected a class number from 0");
        entry.class_label = value.get<Index>();
        used.insert(key);
      } else if (json.contains(key)) {
        used.insert(key);
      }
  for (const auto& [key, value] : json.items())
    require<FileError>(used.count(key) > 0, path, ": \"", excerpt(key), "\" is no subject of this data set");
}

}  // namespace detail

/// Finds the data set of a folder: by dataset.json if there is one, else all .nii and .nii.gz files below it, paired by
/// names (imagesTr/labelsTr; X and X_label, X_labels4, X_seg, X_mask). classes.json adds class labels.
/// Throws FileError for a folder that is missing or holds no volume, and for malformed JSON. Volumes are not opened:
/// see check_dataset.
inline SubjectList find_subjects(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  require<FileError>(fs::exists(folder, error), folder, ": no such folder");
  require<FileError>(fs::is_directory(folder, error), folder, ": is a file, expected a folder of NIfTI volumes");
  SubjectList list;
  list.folder = folder;
  const auto inside = [&](const char* name) { return (fs::path(folder) / name).string(); };
  if (fs::exists(inside("dataset.json"), error)) {
    detail::read_dataset_json(inside("dataset.json"), list);
  } else {
    const auto files = detail::nifti_files(folder);
    detail::NamePairing(files).fill(list);
  }
  if (fs::exists(inside("classes.json"), error)) detail::read_classes_json(inside("classes.json"), list);
  require<FileError>(!list.entries.empty(), folder, ": holds no image (.nii or .nii.gz)",
                     list.left_out.empty() ? "" : "; what is there looks like labels only");
  return list;
}

/// Writes dataset.json for a folder; paths become relative to it.
inline void write_dataset_json(const std::string& path, const SubjectList& list, const std::string& name) {
  const auto relative = [&](const std::string& file) {
    return std::filesystem::path(file).lexically_relative(std::filesystem::path(path).parent_path()).string();
  };
  Json json{{"name", name}, {"numTraining", list.entries.size()}, {"training", Json::array()}};
  const auto by_number = [](const std::vector<std::string>& names) {
    Json out = Json::object();
    for (std::size_t i = 0; i < names.size(); ++i) out[std::to_string(i)] = names[i];
    return out;
  };
  if (!list.structures.empty()) json["labels"] = by_number(list.structures);
  if (!list.classes.empty()) json["classes"] = by_number(list.classes);
  for (const SubjectEntry& e : list.entries) {
    Json item{{"subject", e.subject}, {"image", relative(e.image)}};
    if (!e.labels.empty()) item["label"] = relative(e.labels);
    if (e.class_label) item["class"] = *e.class_label;
    if (!e.modality.empty()) item["modality"] = e.modality;
    if (!e.body_part.empty()) item["body_part"] = e.body_part;
    if (!e.finding.empty()) item["finding"] = e.finding;
    if (e.finding_label > 0) item["finding_label"] = e.finding_label;
    if (!e.structures.empty()) item["structures"] = e.structures;
    json["training"].push_back(std::move(item));
  }
  write_json(path, json);
}

}  // namespace M3I_ABI
}  // namespace m3i
