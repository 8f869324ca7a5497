#pragma once
/// Phantoms as a data set on disk: images, labels and dataset.json.

#include <filesystem>
#include <string>

#include "m3i/core/parallel.hpp"
#include "m3i/data/subjects.hpp"
#include "m3i/imaging/phantom.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Writes image and labels of one phantom into folder/imagesTr and folder/labelsTr, which must exist.
///
///   ending   ".nii" or ".nii.gz"
inline SubjectEntry write_phantom(const std::string& folder, const PhantomSubject& p, const std::string& ending) {
  namespace fs = std::filesystem;
  SubjectEntry entry;
  entry.subject = p.id;
  entry.image = (fs::path(folder) / "imagesTr" / (p.id + ending)).string();
  entry.labels = (fs::path(folder) / "labelsTr" / (p.id + ending)).string();
  entry.class_label = p.disease ? 1 : 0;
  entry.modality = name(p.modality);
  entry.body_part = name(p.body);
  entry.finding = p.finding;
  entry.finding_label = p.finding_label;
  entry.structures = p.structures;
  write_nifti(entry.image, p.image);
  write_labels(entry.labels, p.labels);
  return entry;
}

/// Makes subjects first .. first + count - 1 of the population `seed` and writes them with a dataset.json, whose
/// classes are healthy and diseased. With one body part in all of them its structures are those of the data set. Throws
/// ConfigError for options out of range and FileError for what cannot be written.
inline SubjectList write_phantom_set(const std::string& folder,
                                     Index count,
                                     std::uint64_t seed,
                                     const PhantomOptions& options = {},
                                     Index first = 0,
                                     const std::string& ending = ".nii") {
  namespace fs = std::filesystem;
  require<ConfigError>(count > 0 && first >= 0, "phantoms: ", count, " subjects from number ", first,
                       ", expected at least one, from 0");
  require<ConfigError>(ending == ".nii" || ending == ".nii.gz", "phantoms: file ending \"", ending,
                       "\" is not .nii or .nii.gz");
  for (const char* part : {"imagesTr", "labelsTr"}) {
    std::error_code error;
    fs::create_directories(fs::path(folder) / part, error);
    require<FileError>(!error, folder, ": cannot create the folder ", part, ": ", error.message());
  }
  SubjectList list;
  list.folder = folder;
  list.classes = {"healthy", "diseased"};
  list.entries.resize(std::size_t(count));
  parallel_for(count, [&](Index i) {
    list.entries[std::size_t(i)] = write_phantom(folder, make_phantom(seed, first + i, options), ending);
  });
  if (options.body) {
    list.structures = structure_names(*options.body);
    for (SubjectEntry& e : list.entries) e.structures.clear();
  }
  write_dataset_json((fs::path(folder) / "dataset.json").string(), list, "phantoms");
  return list;
}

}  // namespace M3I_ABI
}  // namespace m3i
