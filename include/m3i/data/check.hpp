#pragma once
/// Looks at every file of a data set before any long work starts, and reports all problems at once.

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/parallel.hpp"
#include "m3i/data/case_facts.hpp"
#include "m3i/data/subjects.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct DatasetCheck {
  bool need_labels = false;   ///< an entry without labels is a problem
  bool need_classes = false;  ///< an entry without class is a problem
  bool first_frame = false;   ///< files with several frames are read, not refused
};

struct DatasetReport {
  struct Problem {
    std::string file, text;
  };
  Index checked = 0;
  std::vector<Problem> problems;
  std::vector<CaseFacts> cases;  ///< one an entry, in the order of the list

  bool sound() const { return problems.empty(); }
  /// One line for each problem; at most `longest` of them.
  std::string text(std::size_t longest = 20) const {
    std::string out;
    for (std::size_t i = 0; i < std::min(longest, problems.size()); ++i) out += problems[i].text + "\n";
    if (problems.size() > longest) out += m3i::text("and ", problems.size() - longest, " more\n");
    return out;
  }
};

namespace detail {

template <class T>
std::uint64_t voxels_hash(const Tensor<T>& voxels) {
  return text_hash({reinterpret_cast<const char*>(voxels.data()), voxels.bytes()});
}

/// All that one entry has wrong with it, and what it is like.
inline std::vector<DatasetReport::Problem> check_entry(const SubjectEntry& entry,
                                                       const SubjectList& list,
                                                       const DatasetCheck& options,
                                                       CaseFacts& facts) {
  std::vector<DatasetReport::Problem> problems;
  const auto attempt = [&](const std::string& file, const auto& work) {
    try {
      work();
    } catch (const Error& error) {
      problems.push_back({file, error.what()});
    }
  };
  std::optional<Volume<float>> image;
  attempt(entry.image, [&] {
    image = read_nifti<float>(entry.image, {options.first_frame});
    add_image_facts(facts, *image);
    facts.image_hash = voxels_hash(image->voxels);
    check_intensities(*image, entry.image);
  });
  for (const std::string& channel : entry.channels)
    if (channel != entry.image)
      attempt(channel, [&] {
        const Grid grid = grid_of(read_nifti_header(channel), channel);
        if (image) check_same_grid(entry.image, image->grid(), channel, grid);
      });
  if (!entry.labels.empty()) {
    attempt(entry.labels, [&] {
      const auto labels = read_labels<std::int32_t>(entry.labels, {options.first_frame});
      const bool same = image && same_grid(image->grid(), labels.grid()).same;
      add_label_facts(facts, labels.voxels, same ? &*image : nullptr);
      facts.labels_hash = voxels_hash(labels.voxels);
      if (image) check_same_grid(entry.image, image->grid(), entry.labels, labels.grid());
      const auto& names = entry.structures.empty() ? list.structures : entry.structures;
      const Index most = facts.labels.back().first;
      require<FileError>(names.empty() || most < Index(names.size()), entry.labels, ": holds label ", most,
                         ", but only 0 to ", names.size() - 1, " have names; extend the names or repair the labels");
    });
  } else if (options.need_labels) {
    problems.push_back({entry.image, entry.image + ": has no label volume; name it in dataset.json or put it beside as "
                                                   "NAME_label.nii.gz"});
  }
  if (options.need_classes && !entry.class_label)
    problems.push_back({entry.image, entry.image + ": has no class; name it in dataset.json or classes.json"});
  if (entry.class_label && !list.classes.empty() && *entry.class_label >= Index(list.classes.size()))
    problems.push_back({entry.image, text(entry.image, ": class ", *entry.class_label, " has no name; named are 0 to ",
                                          list.classes.size() - 1)});
  return problems;
}

}  // namespace detail

/// Reads every volume of the list and collects what is wrong: missing or unreadable files, several frames, NaN or
/// constant images, labels that are not whole numbers, lie on another grid or have no name, an image listed twice, the
/// same voxels under two subjects (they could end up on both sides of a split), missing labels or classes if needed.
/// Never throws for bad data; an empty list is a problem too.
inline DatasetReport check_dataset(const SubjectList& list, const DatasetCheck& options = {}) {
  DatasetReport report;
  report.checked = Index(list.entries.size());
  if (list.entries.empty())
    report.problems.push_back({list.folder, list.folder + ": the data set is empty; expected NIfTI volumes"});
  std::vector<std::vector<DatasetReport::Problem>> found(list.entries.size());
  report.cases.resize(list.entries.size());
  parallel_for(report.checked, [&](Index i) {
    found[std::size_t(i)] =
        detail::check_entry(list.entries[std::size_t(i)], list, options, report.cases[std::size_t(i)]);
  });
  std::map<std::string, std::size_t> paths;
  std::map<std::uint64_t, std::size_t> contents;
  for (std::size_t i = 0; i < list.entries.size(); ++i) {
    const SubjectEntry& entry = list.entries[i];
    report.problems.insert(report.problems.end(), found[i].begin(), found[i].end());
    if (!paths.emplace(entry.image, i).second) {
      report.problems.push_back({entry.image, entry.image + ": is listed twice"});
      continue;
    }
    if (!report.cases[i].image_read) continue;
    const auto [first, is_new] = contents.emplace(report.cases[i].image_hash, i);
    const SubjectEntry& other = list.entries[first->second];
    if (!is_new && other.subject != entry.subject)
      report.problems.push_back({entry.image, text(entry.image, ": has the same voxels as ", other.image,
                                                   ", which is of another subject; remove one of them")});
  }
  return report;
}

/// The same, as one FileError that lists the problems; what was found out about a sound data set is returned.
inline DatasetReport require_sound_dataset(const SubjectList& list, const DatasetCheck& options = {}) {
  DatasetReport report = check_dataset(list, options);
  require<FileError>(report.sound(), "data set ", list.folder, ": ", report.problems.size(), " problem(s) in ",
                     report.checked, " image(s)\n", report.text());
  return report;
}

}  // namespace M3I_ABI
}  // namespace m3i
