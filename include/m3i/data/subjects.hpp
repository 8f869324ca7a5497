#pragma once
/// A folder of NIfTI volumes as a data set.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/dataset_json.hpp"
#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/intensity.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/text/describe.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Finds the data set of a folder: by dataset.json if there is one, else all .nii and .nii.gz files below it, paired by
/// names (imagesTr/labelsTr; X and X_label, X_labels4, X_seg, X_mask). classes.json adds class labels. Instead of the
/// folder its JSON file may be given, under any name (MONAI's data lists). Throws FileError for a folder that is
/// missing or holds no volume, for malformed JSON, and for images of several channels unless options.channel chooses
/// one. Volumes are not opened: see check_dataset.
inline SubjectList find_subjects(const std::string& folder, const FindOptions& options = {}) {
  namespace fs = std::filesystem;
  std::error_code error;
  require<FileError>(fs::exists(folder, error), folder, ": no such folder");
  const bool is_folder = fs::is_directory(folder, error);
  require<FileError>(is_folder || detail::ends_with(folder, ".json"), folder,
                     ": is a file, expected a folder of NIfTI volumes or its dataset.json");
  SubjectList list;
  list.folder = is_folder ? folder : fs::path(folder).parent_path().string();
  const auto inside = [&](const char* name) { return (fs::path(list.folder) / name).string(); };
  const std::string json = is_folder ? inside("dataset.json") : folder;
  if (fs::exists(json, error)) {
    detail::read_dataset_json(json, list, options);
  } else {
    const auto files = detail::nifti_files(folder);
    detail::NamePairing(files).fill(list);
  }
  if (fs::exists(inside("classes.json"), error)) detail::read_classes_json(inside("classes.json"), list);
  require<FileError>(!list.entries.empty(), folder, ": holds no image (.nii or .nii.gz)",
                     list.left_out.empty() ? "" : "; what is there looks like labels only");
  return list;
}

/// Writes dataset.json for a folder; paths become relative to it. Of several channels the chosen one is named.
inline void write_dataset_json(const std::string& path, const SubjectList& list, const std::string& name) {
  const auto relative = [&](const std::string& file) {
    return std::filesystem::path(file).lexically_relative(std::filesystem::path(path).parent_path()).string();
  };
  Json json{{"name", name}, {"training", Json::array()}};
  const auto by_number = [](const std::vector<std::string>& names) {
    Json out = Json::object();
    for (std::size_t i = 0; i < names.size(); ++i) out[std::to_string(i)] = names[i];
    return out;
  };
  if (!list.structures.empty()) json["labels"] = by_number(list.structures);
  if (!list.classes.empty()) json["classes"] = by_number(list.classes);
  for (const SubjectEntry& e : list.entries) {
    Json item{{"subject", e.subject}, {"image", relative(e.image)}};
    if (e.fold) item["fold"] = *e.fold;
    if (!e.labels.empty()) item["label"] = relative(e.labels);
    if (e.class_label) item["class"] = *e.class_label;
    if (!e.modality.empty()) item["modality"] = e.modality;
    if (!e.body_part.empty()) item["body_part"] = e.body_part;
    if (!e.finding.empty()) item["finding"] = e.finding;
    if (e.finding_label > 0) item["finding_label"] = e.finding_label;
    if (!e.structures.empty()) item["structures"] = e.structures;
    json[e.part.empty() ? "training" : e.part].push_back(std::move(item));
  }
  json["numTraining"] = json["training"].size();
  write_json(path, json);
}

}  // namespace M3I_ABI
}  // namespace m3i
