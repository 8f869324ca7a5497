#pragma once
/// The images of a downstream task: found, checked, and split by subject, before any long work starts.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/check_cache.hpp"
#include "m3i/data/folds.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A data set with its split; the parts hold numbers of entries, in the order of the list.
struct Cohort {
  SubjectList list;
  Split split;
  std::vector<Index> train, validation, test;

  const SubjectEntry& entry(Index e) const { return list.entries[std::size_t(e)]; }
  /// Names of the values in an entry's label file; empty if unknown.
  const std::vector<std::string>& structures(Index e) const {
    return entry(e).structures.empty() ? list.structures : entry(e).structures;
  }
  /// The entries of "train", "validation", "test" or "all".
  std::vector<Index> part(const std::string& name) const {
    if (name == "train") return train;
    if (name == "validation") return validation;
    if (name == "test") return test;
    require<ConfigError>(name == "all", "part \"", name, "\" is none of train, validation, test, all");
    std::vector<Index> all(list.entries.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = Index(i);
    return all;
  }
};

/// What the images are needed for.
enum class Task { segmentation, classification };

namespace detail {

/// The label values that an entry has, as "1,2,5,".
inline std::string label_words(const CaseFacts& facts) {
  std::string out;
  for (const auto& [value, voxels] : facts.labels) out += value != 0 ? text(value, ",") : "";
  return out;
}

/// Subjects with a number for what they have in common (class, body part; or the labels that occur), so that a split or
/// a share of them holds a bit of everything. `facts` is that of the entries.
inline std::vector<SplitSubject> stratified_subjects(const std::vector<SubjectEntry>& entries,
                                                     const std::vector<CaseFacts>& facts,
                                                     choice::Stratify by) {
  std::map<std::string, std::string> kind;  // of each subject: the first of its images decides
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const SubjectEntry& e = entries[i];
    const std::string words = text(e.class_label ? text(*e.class_label) : std::string("none"), '/', e.body_part);
    kind.emplace(e.subject, by == choice::Stratify::classes  ? words
                            : by == choice::Stratify::labels ? label_words(facts[i])
                                                             : std::string());
  }
  std::map<std::string, Index> number;
  for (const auto& item : kind) number.emplace(item.second, 0);
  Index next = 0;
  for (auto& item : number) item.second = next++;
  std::vector<SplitSubject> out;
  for (const auto& [subject, words] : kind) out.push_back({subject, number[words]});
  return out;
}

/// A share of the training subjects in which each stratum keeps its part: at least one subject, and smaller shares of
/// the same seed are contained in larger ones.
inline std::vector<std::string> stratified_share(const std::vector<std::string>& train,
                                                 const std::vector<SplitSubject>& strata,
                                                 double share,
                                                 std::uint64_t seed) {
  std::map<Index, std::vector<std::string>> groups;
  const std::set<std::string> chosen(train.begin(), train.end());
  for (const SplitSubject& s : strata)
    if (chosen.count(s.name) > 0) groups[s.class_label].push_back(s.name);
  std::vector<std::pair<double, std::string>> order;  // place within the stratum as a fraction
  for (auto& [stratum, names] : groups) {
    Random random = Random(seed, 0x73686172).split(std::uint64_t(stratum));
    const double offset = random.uniform();
    const auto shuffled = random.permutation(Index(names.size()));
    for (std::size_t i = 0; i < names.size(); ++i)
      order.emplace_back((double(i) + offset) / double(names.size()), names[std::size_t(shuffled[i])]);
  }
  std::sort(order.begin(), order.end());
  const auto many = std::max<std::size_t>(1, std::size_t(share * double(order.size()) + 0.5));
  std::vector<std::string> out;
  for (std::size_t i = 0; i < std::min(many, order.size()); ++i) out.push_back(order[i].second);
  std::sort(out.begin(), out.end());
  return out;
}

inline Split configured_split(const SubjectList& list,
                              const std::vector<SplitSubject>& strata,
                              const MethodConfig& config) {
  const DataConfig& d = config.data;
  switch (d.split_by) {
    case choice::SplitBy::folds: return make_fold(strata, config.run.seed, d.folds, d.fold);
    case choice::SplitBy::given: return given_split(list, d.fold);
    case choice::SplitBy::ratio: break;
  }
  return make_split(strata, config.run.seed, d.split);
}

inline std::vector<Index> entries_of(const SubjectList& list, const std::vector<std::string>& subjects) {
  const std::set<std::string> wanted(subjects.begin(), subjects.end());
  std::vector<Index> out;
  for (std::size_t i = 0; i < list.entries.size(); ++i)
    if (wanted.count(list.entries[i].subject) > 0) out.push_back(Index(i));
  return out;
}

/// Leaves out images without the task's target, as the test images of public data sets are, and says so. If no image
/// has a target the list stays as it is, and the check reports each of them.
inline void leave_out_untargeted(SubjectList& list, Task task) {
  const auto has_target = [&](const SubjectEntry& e) {
    return task == Task::segmentation ? !e.labels.empty() : e.class_label.has_value();
  };
  if (std::none_of(list.entries.begin(), list.entries.end(), has_target)) return;
  std::vector<SubjectEntry> kept;
  for (SubjectEntry& e : list.entries)
    if (has_target(e)) kept.push_back(std::move(e));
    else list.left_out.push_back(e.image + (task == Task::segmentation ? ": has no labels" : ": has no class"));
  list.entries = std::move(kept);
}

}  // namespace detail

/// Finds and checks the images of a folder and splits their subjects: by the file `split_path`, or anew as the
/// configuration says (data.split_by). Only `train_fraction` of the training subjects is used.
/// Throws FileError that lists everything that is wrong with the data, ConfigError for a split that does not fit.
inline Cohort load_cohort(const std::string& folder,
                          const std::string& split_path,
                          Task task,
                          const MethodConfig& config,
                          double train_fraction = 1) {
  Cohort cohort;
  cohort.list = find_subjects(folder, {config.data.channel});
  detail::leave_out_untargeted(cohort.list, task);
  const DatasetReport report = require_sound_dataset(
      cohort.list, {.need_labels = task == Task::segmentation, .need_classes = task == Task::classification},
      config.data.cache_folder);
  const auto strata = detail::stratified_subjects(cohort.list.entries, report.cases, config.data.stratify);
  if (split_path.empty()) {
    cohort.split = detail::configured_split(cohort.list, strata, config);
  } else {
    std::vector<std::string> subjects;
    for (const SplitSubject& s : strata) subjects.push_back(s.name);
    cohort.split = read_split(split_path);
    check_split(cohort.split, subjects, split_path);
  }
  cohort.train = detail::entries_of(
      cohort.list, detail::stratified_share(cohort.split.train, strata, train_fraction, config.run.seed));
  cohort.validation = detail::entries_of(cohort.list, cohort.split.validation);
  cohort.test = detail::entries_of(cohort.list, cohort.split.test);
  return cohort;
}

/// "40 images of 40 subjects: 28 for training (of 28), 4 for validation, 8 for the test".
inline std::string cohort_text(const Cohort& c) {
  const std::size_t subjects = c.split.train.size() + c.split.validation.size() + c.split.test.size();
  std::string out = text(c.list.entries.size(), " images of ", subjects, " subjects: ", c.train.size(),
                         " for training (of ", detail::entries_of(c.list, c.split.train).size(), "), ",
                         c.validation.size(), " for validation, ", c.test.size(), " for the test");
  if (!c.list.left_out.empty())
    out += text("; ", c.list.left_out.size(), " files left out, as ", c.list.left_out.front());
  return out;
}

/// A number that changes when the images or the split do; a run is resumed with the same one only.
inline std::string cohort_hash(const Cohort& c) {
  std::string all;
  for (const auto* part : {&c.train, &c.validation, &c.test}) {
    all += "|";
    for (const Index e : *part) all += c.entry(e).subject + " " + detail::nifti_stem(c.entry(e).image) + "\n";
  }
  return text(text_hash(all));
}

}  // namespace M3I_ABI
}  // namespace m3i
