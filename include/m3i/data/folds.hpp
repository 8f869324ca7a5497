#pragma once
/// Splits for cross-validation, and the splits that a data set brings with it.

#include <string>
#include <utility>
#include <vector>

#include "m3i/data/split.hpp"
#include "m3i/data/subject_list.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Run `fold` of a k-fold cross-validation.
///
/// Subjects are shuffled within their class and dealt out to the folds in turn. Fold `fold` is the test set and the
/// next one validates (with two folds none does), so that over k runs every subject is tested once, by a model that was
/// not chosen by it. All k runs need the same subjects, classes and seed. Throws ConfigError for fewer than two folds,
/// fewer subjects than folds, or a fold that does not exist.
inline Split make_fold(const std::vector<SplitSubject>& subjects, std::uint64_t seed, Index folds, Index fold) {
  const auto classes = detail::subjects_by_class(subjects);
  Index count = 0;
  for (const auto& [label, names] : classes) count += Index(names.size());
  require<ConfigError>(folds >= 2 && folds <= count, "split: ", folds, " folds of ", count,
                       " subject(s), expected 2 to the number of subjects");
  require<ConfigError>(fold >= 0 && fold < folds, "split: fold ", fold, " of ", folds,
                       " does not exist; they count from 0");
  Split split;
  split.seed = seed;
  split.method = text("fold ", fold, " of ", folds);
  Index dealt = 0;
  for (const auto& [label, names] : classes) {
    Random random = Random(seed, 0x666f6c64).split(std::uint64_t(label));
    for (const Index n : random.permutation(Index(names.size()))) {
      const Index at = dealt++ % folds;
      auto& part = at == fold ? split.test : folds > 2 && at == (fold + 1) % folds ? split.validation : split.train;
      part.push_back(names[std::size_t(n)]);
    }
  }
  detail::sort_parts(split);
  return split;
}

/// The split that a data set's own lists say: entries of "validation" and those of fold `fold` validate, those of
/// "test" are tested, the others are for training. Throws ConfigError for a subject on two sides, and if there is no
/// training subject, nothing that validates and nothing that tests.
inline Split given_split(const SubjectList& list, Index fold) {
  Split split;
  split.method = text("as given, fold ", fold);
  std::map<std::string, std::pair<std::size_t, std::string>> sides;
  for (const SubjectEntry& e : list.entries) {
    const std::size_t side = e.part == "test" ? 2 : e.part == "validation" || e.fold == fold ? 1 : 0;
    const auto [at, is_new] = sides.emplace(e.subject, std::pair(side, e.image));
    require<ConfigError>(at->second.first == side, "split: subject \"", e.subject, "\" is on two sides, ",
                         detail::split_part_name(at->second.first), " (", at->second.second, ") and ",
                         detail::split_part_name(side), " (", e.image, "); repair the lists of ", list.folder);
  }
  for (const auto& [subject, side] : sides)
    (side.first == 0 ? split.train : side.first == 1 ? split.validation : split.test).push_back(subject);
  require<ConfigError>(!split.train.empty() && split.train.size() < sides.size(), "split: ", list.folder,
                       " gives no training subject, or none for validation and test, with fold ", fold,
                       "; use data.split_by ratio or folds");
  return split;
}

}  // namespace M3I_ABI
}  // namespace m3i
