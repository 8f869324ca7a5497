#pragma once
/// Training, validation and test sets by subject, so that no subject is on two sides.

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "m3i/core/random.hpp"
#include "m3i/data/json_fields.hpp"
#include "m3i/text/describe.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct Split {
  std::vector<std::string> train, validation, test;  ///< subjects, sorted
  std::uint64_t seed = 0;
  std::string method{};  ///< how it was made, in words: "ratio 7 : 1 : 2", "fold 0 of 5"; may be empty

  std::array<const std::vector<std::string>*, 3> parts() const { return {&train, &validation, &test}; }
};

/// A subject and, for a stratified split, its class.
struct SplitSubject {
  std::string name;
  Index class_label = 0;
};

namespace detail {
inline const char* split_part_name(std::size_t part) { return part == 0 ? "train" : part == 1 ? "validation" : "test"; }

inline std::string split_hash(const Split& split) {
  std::string all;
  for (std::size_t p = 0; p < 3; ++p) {
    all += text("[", split_part_name(p), "]\n");
    for (const std::string& s : *split.parts()[p]) all += s + "\n";
  }
  if (!split.method.empty()) all += text("[seed]\n", split.seed, "\n[method]\n", split.method, "\n");
  std::string hex;
  for (int digit = 15; digit >= 0; --digit) hex += "0123456789abcdef"[text_hash(all) >> (4 * digit) & 15];
  return hex;
}

/// Names by class. Throws ConfigError for an empty list or a subject with two classes.
inline std::map<Index, std::vector<std::string>> subjects_by_class(const std::vector<SplitSubject>& subjects) {
  require<ConfigError>(!subjects.empty(), "split: there is no subject");
  std::map<std::string, Index> class_of;
  for (const SplitSubject& s : subjects) {
    const auto [at, is_new] = class_of.emplace(s.name, s.class_label);
    require<ConfigError>(at->second == s.class_label, "split: subject \"", s.name, "\" has classes ", at->second,
                         " and ", s.class_label);
  }
  std::map<Index, std::vector<std::string>> classes;
  for (const auto& [name, label] : class_of) classes[label].push_back(name);
  return classes;
}
inline void sort_parts(Split& split) {
  for (auto* part : {&split.train, &split.validation, &split.test}) std::sort(part->begin(), part->end());
}
/// "a", "b" and 7 more.
inline std::string subject_names(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 10); ++i)
    out += text(i > 0 ? ", " : "", '"', names[i], '"');
  return names.size() > 10 ? text(out, " and ", names.size() - 10, " more") : out;
}
}  // namespace detail

/// Throws ConfigError, naming the subject, if one is in two parts or twice in one.
inline void check_split(const Split& split, const std::string& where = "split") {
  std::map<std::string, std::size_t> seen;
  for (std::size_t p = 0; p < 3; ++p)
    for (const std::string& subject : *split.parts()[p]) {
      const auto [at, is_new] = seen.emplace(subject, p);
      require<ConfigError>(is_new, where, ": subject \"", subject, "\" is in ", detail::split_part_name(at->second),
                           " and ", at->second == p ? "there again" : detail::split_part_name(p),
                           "; each subject may be in one part once");
    }
}
/// The same, and the subjects of the data set must be those of the split: says who was added or removed since.
inline void check_split(const Split& split, const std::vector<std::string>& subjects, const std::string& where) {
  check_split(split, where);
  const std::set<std::string> here(subjects.begin(), subjects.end());
  std::set<std::string> there;
  for (const auto* part : split.parts()) there.insert(part->begin(), part->end());
  std::vector<std::string> added, removed;
  std::set_difference(here.begin(), here.end(), there.begin(), there.end(), std::back_inserter(added));
  std::set_difference(there.begin(), there.end(), here.begin(), here.end(), std::back_inserter(removed));
  require<ConfigError>(added.empty() && removed.empty(), where, ": the data set is not the one that was split",
                       added.empty() ? "" : "; in the data set but in no part: ", detail::subject_names(added),
                       removed.empty() ? "" : "; in the split but not in the data set: ",
                       detail::subject_names(removed), "; restore the data set, or make a new split");
}

/// Splits subjects by the ratios, here 7 : 1 : 2.
///
/// Subjects are shuffled within their class and dealt out one by one to the part that is furthest behind its share, so
/// that sizes are within one of the ratios and classes are spread evenly. Training gets a subject in any case; with
/// three or more no part that has a share stays empty. A subject listed twice (two images) counts once. The order of
/// the list does not matter. Throws ConfigError for an empty list, ratios that are not positive and finite, or a
/// subject with two classes.
inline Split make_split(const std::vector<SplitSubject>& subjects,
                        std::uint64_t seed,
                        const std::array<double, 3>& ratios = {7, 1, 2}) {
  const auto classes = detail::subjects_by_class(subjects);
  const double total = ratios[0] + ratios[1] + ratios[2];
  for (const double r : ratios)
    require<ConfigError>(std::isfinite(r) && r >= 0 && ratios[0] > 0 && std::isfinite(total), "split: ratios ",
                         ratios[0], " : ", ratios[1], " : ", ratios[2],
                         " must be finite, not negative, and train's positive");
  std::array<std::vector<std::string>, 3> parts;
  double dealt = 0;
  for (const auto& [label, names] : classes) {
    Random random = Random(seed, 0x73706c69).split(std::uint64_t(label));
    for (const Index n : random.permutation(Index(names.size()))) {
      dealt += 1;
      std::size_t next = 0;
      double most = -1e300;
      for (std::size_t p = 0; p < 3; ++p) {
        const double behind = ratios[p] / total * dealt - double(parts[p].size());
        if (ratios[p] > 0 && behind > most + 1e-9) most = behind, next = p;
      }
      parts[next].push_back(names[std::size_t(n)]);
    }
  }
  for (std::size_t p = 0; p < 3; ++p)
    if (ratios[p] > 0 && parts[p].empty() && (p == 0 || dealt >= 3)) {
      auto& largest = *std::max_element(parts.begin(), parts.end(),
                                        [](const auto& a, const auto& b) { return a.size() < b.size(); });
      parts[p].push_back(largest.back());
      largest.pop_back();
    }
  for (auto& part : parts) std::sort(part.begin(), part.end());
  return {parts[0], parts[1], parts[2], seed, text("ratio ", ratios[0], " : ", ratios[1], " : ", ratios[2])};
}

/// A share of the training subjects for experiments on data efficiency: at least one; smaller shares of the same seed
/// are contained in larger ones.
inline std::vector<std::string> take_share(const std::vector<std::string>& subjects, double share, std::uint64_t seed) {
  require<ConfigError>(share > 0 && share <= 1, "share ", share, " of the subjects must lie in (0, 1]");
  require<ConfigError>(!subjects.empty(), "share: there is no subject");
  std::vector<std::string> sorted = subjects, out;
  std::sort(sorted.begin(), sorted.end());
  const Index many = std::max<Index>(1, Index(std::floor(share * double(sorted.size()) + 0.5)));
  const auto order = Random(seed, 0x73686172).permutation(Index(sorted.size()));
  for (Index i = 0; i < many; ++i) out.push_back(sorted[std::size_t(order[std::size_t(i)])]);
  std::sort(out.begin(), out.end());
  return out;
}

/// Writes the split with a hash of its content: subjects, seed and method.
inline void write_split(const std::string& path, const Split& split) {
  check_split(split, path);
  Json json{{"seed", split.seed}, {"hash", detail::split_hash(split)}};
  if (!split.method.empty()) json["method"] = split.method;
  for (std::size_t p = 0; p < 3; ++p) json[detail::split_part_name(p)] = *split.parts()[p];
  write_json(path, json);
}

/// Throws FileError for malformed files and for a content that is not that of the stored hash, ConfigError for a
/// subject in two parts.
inline Split read_split(const std::string& path) {
  const Json json = read_json(path);
  detail::JsonFields fields(json, path);
  Split split;
  if (fields.has("seed")) {
    const Json& seed = json["seed"];
    require<FileError>(seed.is_number_unsigned(), path, ": \"seed\" must be a whole number from 0");
    split.seed = seed.get<std::uint64_t>();
    fields.accept("seed");
  }
  const std::string hash = fields.string("hash", false);
  split.method = fields.string("method", false);
  for (const char* part : {"train", "validation", "test"})
    require<FileError>(fields.has(part), path, ": \"", part, "\" is missing");
  split.train = fields.strings("train");
  split.validation = fields.strings("validation");
  split.test = fields.strings("test");
  fields.finish();
  check_split(split, path);
  require<FileError>(hash.empty() || hash == detail::split_hash(split), path, ": hash ", excerpt(hash),
                     " does not fit the subjects listed (", detail::split_hash(split),
                     "); restore the file, or remove \"hash\" to accept the list as it is");
  require<FileError>(!split.train.empty(), path, ": \"train\" is empty");
  return split;
}

}  // namespace M3I_ABI
}  // namespace m3i
