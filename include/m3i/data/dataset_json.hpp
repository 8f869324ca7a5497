#pragma once
/// dataset.json in its dialects: Medical Segmentation Decathlon, MONAI data lists, nnU-Net version 2, and m3i's own.
///
///   Decathlon   "training": [{"image", "label"}], "test": files or objects, "labels": {"0": "background"}, "modality"
///   MONAI       also "validation" and "testing"; an entry may have "fold", a list of files as "image" (one a channel),
///               and a class number as "label"
///   nnU-Net v2  "channel_names", "labels": {"background": 0}, "file_ending", "numTraining"; cases are found in
///               imagesTr (CASE_0000 is channel 0) and labelsTr, or named by "dataset": {CASE: {"images", "label"}}
///   nnU-Net v1  a Decathlon file whose images have the channel's number in their names on the disk
///   m3i         "classes"; in an entry "subject", "class", "modality", "body_part", "finding", "finding_label",
///               "structures"
///
/// Paths start at the folder of the JSON file. Files whose names start with "._" (macOS puts them into archives) are
/// passed over.

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/file_names.hpp"
#include "m3i/data/json_fields.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct FindOptions {
  /// Of images with several channels, the one that is read; without it they are refused.
  std::optional<Index> channel{};
};

namespace detail {

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

/// nnU-Net's regions (several values as one target) and its ignored value have no counterpart here: better said than
/// trained wrongly.
inline void refuse_regions(const Json& labels, const std::string& where) {
  if (!labels.is_object()) return;
  for (const auto& [key, value] : labels.items()) {
    require<FileError>(!value.is_array(), where, ": \"", excerpt(key), "\" is a region of several values ",
                       excerpt(value.dump()), ", which is not supported; give each value a name of its own");
    require<FileError>(key != "ignore", where,
                       ": \"ignore\" voxels are not supported; label them, or crop them off and drop the entry");
  }
}

/// Names of the channels ("modality" or "channel_names"); empty if unknown.
inline std::vector<std::string> channel_names(const Json& json, const std::string& path) {
  for (const char* key : {"channel_names", "modality"}) {
    if (!json.contains(key)) continue;
    if (json[key].is_string()) return {json[key].get<std::string>()};
    return read_names(json[key], text(path, ": ", key));
  }
  return {};
}

/// "CT" and "MRI" of a data set of one channel, as captions call them; empty for other words.
inline std::string modality_of(const std::vector<std::string>& channels) {
  if (channels.size() != 1) return "";
  const std::string& name = channels[0];
  return name == "CT" ? "CT" : name == "MR" || name == "MRI" ? "MRI" : "";
}

class DatasetJson {
 public:
  DatasetJson(const std::string& path, const FindOptions& options, SubjectList& list)
      : path_(path), options_(options), list_(list), json_(read_json(path)) {
    require<FileError>(json_.is_object(), path_, ": expected an object with a list \"training\"");
    require<FileError>(!options.channel || *options.channel >= 0, path_, ": channel ", options.channel.value_or(0),
                       " does not exist; channels count from 0");
  }

  void read() {
    if (json_.contains("labels")) {
      refuse_regions(json_["labels"], path_ + ": labels");
      list_.structures = read_names(json_["labels"], path_ + ": labels");
    }
    if (json_.contains("classes")) list_.classes = read_names(json_["classes"], path_ + ": classes");
    channels_ = channel_names(json_, path_);
    if (json_.contains("training")) read_lists();
    else if (json_.contains("dataset")) read_cases();
    else read_folders();
    name_subjects(list_.entries);
    compare_count("numTraining", "training");
    compare_count("numTest", "test");
  }

 private:
  /// "_0012"
  static std::string channel_suffix(std::size_t channel) { return "_" + std::to_string(10000 + channel).substr(1); }
  static bool is_resource_fork(const std::string& path) {
    return std::filesystem::path(path).filename().string().rfind("._", 0) == 0;
  }
  std::string inside(const std::string& path) const {
    return path.empty() ? path : (std::filesystem::path(list_.folder) / path).lexically_normal().string();
  }

  /// A file, or a list of files with one for each channel.
  std::vector<std::string> files(const Json& value, const std::string& where) const {
    std::vector<std::string> out;
    const auto take = [&](const Json& v) {
      require<FileError>(v.is_string() && !v.get<std::string>().empty(), where, ": \"image\" is ", excerpt(v.dump()),
                         ", expected a file name, or a list of them with one for each channel");
      out.push_back(inside(v.get<std::string>()));
    };
    if (value.is_array())
      for (const Json& v : value) take(v);
    else take(value);
    require<FileError>(!out.empty(), where, ": \"image\" is an empty list");
    return out;
  }
  /// nnU-Net version 1 names X.nii.gz where X_0000.nii.gz, X_0001.nii.gz, ... lie, one for each channel.
  std::vector<std::string> with_channels(std::vector<std::string> files) const {
    const std::string stem = nifti_stem(files[0]);
    std::error_code error;
    if (files.size() != 1 || stem.empty() || std::filesystem::exists(files[0], error)) return files;
    const std::filesystem::path path(files[0]);
    const std::string ending = path.filename().string().substr(stem.size());
    const auto file = [&](std::size_t c) {
      return (path.parent_path() / (stem + channel_suffix(c) + ending)).string();
    };
    if (!std::filesystem::exists(file(0), error)) return files;
    files.clear();
    for (std::size_t c = 0; c < std::clamp<std::size_t>(channels_.size(), 1, 9999); ++c) files.push_back(file(c));
    return files;
  }
  void set_image(SubjectEntry& entry, std::vector<std::string> named, const std::string& where) const {
    std::vector<std::string> files = with_channels(std::move(named));
    const auto count = Index(files.size());
    if (count > 1) {
      std::string names;
      for (const std::string& name : channels_) names += (names.empty() ? " (" : ", ") + excerpt(name, 20);
      require<FileError>(options_.channel.has_value(), where, ": has ", count, " channels", names,
                         names.empty() ? "" : ")", ", and one is read; choose it by data.channel, from 0 to ",
                         count - 1);
      entry.channels = files;
    }
    const Index channel = options_.channel.value_or(0);
    require<FileError>(channel < count, where, ": has ", count, " channel(s), data.channel is ", channel);
    entry.image = std::move(files[std::size_t(channel)]);
  }
  void set_label(SubjectEntry& entry, const Json& label, const std::string& where) const {
    if (label.is_number_integer()) {  // of MONAI's lists for classification
      entry.class_label = label.is_number_unsigned() && label.get<std::uint64_t>() > 99999 ? -1 : label.get<Index>();
      require<FileError>(*entry.class_label >= 0, where, ": class ", excerpt(label.dump()),
                         " must be a number from 0 to 99999");
    } else if (label.is_array() && label.size() == 1 && label[0].is_string()) {
      entry.labels = inside(label[0].get<std::string>());
    } else {
      require<FileError>(label.is_string(), where, ": \"label\" is ", excerpt(label.dump()),
                         ", expected a file name or a class number");
      entry.labels = inside(label.get<std::string>());
    }
  }

  SubjectEntry entry(const Json& json, const std::string& where) const {
    SubjectEntry entry;
    if (json.is_string()) {
      set_image(entry, files(json, where), where);
      return entry;
    }
    JsonFields fields(json, where);
    require<FileError>(fields.has("image"), where, ": \"image\" is missing");
    set_image(entry, files(json["image"], where), where);
    if (fields.has("label")) set_label(entry, json["label"], where);
    for (const char* key : {"image", "label", "class", "fold", "finding_label", "structures"}) fields.accept(key);
    entry.subject = fields.string("subject", false);
    if (fields.has("class")) entry.class_label = fields.integer("class");
    require<FileError>(entry.class_label.value_or(0) >= 0, where, ": class ", entry.class_label.value_or(0),
                       " is negative");
    if (fields.has("fold")) {
      entry.fold = fields.integer("fold");
      require<FileError>(*entry.fold >= 0 && *entry.fold < 1000, where, ": fold ", *entry.fold,
                         " must lie in [0, 999]");
    }
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
    return entry;
  }

  void add(SubjectEntry entry, const char* part, const std::string& where) {
    if (is_resource_fork(entry.image)) {
      list_.left_out.push_back(entry.image + ": is no volume but what macOS stores beside one");
      return;
    }
    require<FileError>(!nifti_stem(entry.image).empty(), where, ": \"", entry.image,
                       "\" is not a .nii or .nii.gz file");
    if (entry.modality.empty()) entry.modality = modality_of(channels_);
    entry.part = part;
    ++counts_[part];
    list_.entries.push_back(std::move(entry));
  }

  void read_lists() {
    static const std::pair<const char*, const char*> parts[] = {
        {"training", "training"}, {"validation", "validation"}, {"test", "test"}, {"testing", "test"}};
    for (const auto& [key, part] : parts) {
      if (!json_.contains(key)) continue;
      require<FileError>(json_[key].is_array(), path_, ": \"", key, "\" must be a list");
      Index number = 0;
      for (const Json& item : json_[key]) {
        const std::string where = text(path_, ": ", key, "[", number++, "]");
        add(entry(item, where), part, where);
      }
    }
  }

  /// nnU-Net's "dataset": {CASE: {"images": [...], "label": "..."}}.
  void read_cases() {
    require<FileError>(json_["dataset"].is_object(), path_, ": \"dataset\" must be an object of cases");
    for (const auto& [name, item] : json_["dataset"].items()) {
      const std::string where = text(path_, ": dataset.", excerpt(name));
      require<FileError>(item.is_object() && item.contains("images"), where, ": \"images\" is missing");
      SubjectEntry entry;
      entry.subject = subject_of_stem(name);
      set_image(entry, files(item["images"], where), where);
      if (item.contains("label")) set_label(entry, item["label"], where);
      add(std::move(entry), "training", where);
    }
  }

  /// nnU-Net's folders imagesTr and imagesTs: CASE_0000.nii.gz, CASE_0001.nii.gz, ... with labelsTr/CASE.nii.gz.
  void read_folders() {
    require<FileError>(json_.contains("channel_names") || json_.contains("file_ending"), path_,
                       ": expected a list \"training\", or \"channel_names\" of nnU-Net");
    std::string ending = ".nii.gz";
    if (json_.contains("file_ending")) ending = JsonFields(json_, path_).string("file_ending", true);
    require<FileError>(ending == ".nii.gz" || ending == ".nii", path_, ": file_ending \"", excerpt(ending),
                       "\" is not supported, expected .nii.gz or .nii; convert the images");
    for (const auto& [images, labels, part] :
         {std::array{"imagesTr", "labelsTr", "training"}, std::array{"imagesTs", "labelsTs", "test"}}) {
      std::error_code error;
      if (!std::filesystem::is_directory(inside(images), error)) continue;
      const bool labelled = std::filesystem::is_directory(inside(labels), error);
      for (const auto& [name, files] : cases(images, ending)) {
        const std::string where = text(path_, ": ", images, "/", name);
        SubjectEntry entry;
        entry.subject = subject_of_stem(name);
        set_image(entry, files, where);
        if (labelled) entry.labels = inside(text(labels, "/", name, ending));
        add(std::move(entry), part, where);
      }
    }
  }
  /// The files of each case, in the order of the channels; every channel has its name, whether the file is there or
  /// not.
  std::map<std::string, std::vector<std::string>> cases(const char* folder, const std::string& ending) {
    std::map<std::string, std::vector<std::string>> out;
    for (const std::string& file : nifti_files(inside(folder))) {
      const std::string stem = nifti_stem(file), name = without_channel(stem);
      if (!ends_with(file, ending) || name == stem) {
        list_.left_out.push_back(file + ": is not named CASE_0000" + ending + ", as nnU-Net names images");
        continue;
      }
      auto& files = out[name];
      files.resize(std::max<std::size_t>(channels_.size(), 1));
      const auto channel = std::size_t(std::stoul(stem.substr(stem.size() - 4)));
      if (channel < files.size()) files[channel] = file;
      else list_.left_out.push_back(text(file, ": channel ", channel, " has no name in channel_names"));
    }
    for (auto& [name, files] : out)
      for (std::size_t c = 0; c < files.size(); ++c)
        if (files[c].empty()) files[c] = inside(text(folder, "/", name, channel_suffix(c), ending));
    return out;
  }

  void compare_count(const char* key, const char* part) {
    if (!json_.contains(key)) return;
    const Json& said = json_[key];
    const Index found = counts_[part];
    if (!said.is_number_integer() || said != found)
      list_.surprises.push_back(text(path_, ": ", key, " is ", excerpt(said.dump()), ", ", found, " are there"));
  }

  const std::string& path_;
  const FindOptions& options_;
  SubjectList& list_;
  Json json_;
  std::vector<std::string> channels_;
  std::map<std::string, Index> counts_;
};

/// Reads dataset.json into `list`, whose folder is set.
inline void read_dataset_json(const std::string& path, SubjectList& list, const FindOptions& options = {}) {
  DatasetJson(path, options, list).read();
}

/// Reads classes.json, {"subject": 1, ...}: the class of each subject, or of each image by its stem.
inline void read_classes_json(const std::string& path, SubjectList& list) {
  const Json json = read_json(path);
  require<FileError>(json.is_object(), path, ": expected an object of subject and class number");
  std::set<std::string> used;
  for (SubjectEntry& entry : list.entries) {
    const std::optional<Index> given = entry.class_label;
    for (const std::string& key : {nifti_stem(entry.image), entry.subject}) {
      if (!json.contains(key)) continue;
      const Json& value = json[key];
      require<FileError>(value.is_number_integer() && value.get<Index>() >= 0 && value.get<Index>() < 100000, path,
                         ": \"", key, "\" is ", excerpt(value.dump()), ", expected a class number from 0");
      require<FileError>(!given || value.get<Index>() == *given, path, ": \"", key, "\" is class ", value.get<Index>(),
                         ", the data set's own list says ", given.value_or(0));
      if (!entry.class_label) entry.class_label = value.get<Index>();
      used.insert(key);
    }
  }
  for (const auto& [key, value] : json.items())
    require<FileError>(used.count(key) > 0, path, ": \"", excerpt(key), "\" is no subject of this data set");
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
