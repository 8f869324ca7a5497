#pragma once
/// From the numbers in label files to the classes of a network, and back.
///
/// Names decide where there are any: structures of the same name are one class, whatever their numbers in each file.
/// Without names the values decide: class i is the i-th smallest value that occurs, so that sparse codes such as
/// 0, 26, 41 become 0, 1, 2, and predictions are written with the codes again.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/subjects.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct LabelScheme {
  std::vector<std::string> names;    ///< of each class; entry 0 is the background
  std::vector<std::int32_t> values;  ///< that predictions are written with; rising from 0

  Index classes() const { return Index(names.size()); }
};

namespace detail {

inline const std::vector<std::string>& names_of(const SubjectList& list, const SubjectEntry& entry) {
  return entry.structures.empty() ? list.structures : entry.structures;
}

inline void check_class_count(const std::string& folder, std::size_t classes) {
  require<FileError>(classes >= 2, folder, ": its label volumes hold the background only; there is nothing to segment");
  require<FileError>(classes <= 256, folder, ": its label volumes hold ", classes - 1,
                     " structures, expected at most 255; ", "merge some of them");
}

/// The structures of all entries by name, in the order of their first appearance.
inline LabelScheme scheme_of_names(const SubjectList& list, const std::vector<Index>& entries) {
  LabelScheme scheme{{"background"}, {0}};
  std::set<std::string> seen;
  for (const Index e : entries) {
    const SubjectEntry& entry = list.entries[std::size_t(e)];
    const auto& names = names_of(list, entry);
    require<FileError>(!names.empty(), entry.labels,
                       ": its labels have no names, those of other images have; name all or none");
    std::set<std::string> own;
    for (std::size_t i = 1; i < names.size(); ++i) {
      require<FileError>(own.insert(names[i]).second, entry.labels, ": two of its labels are named \"", names[i], "\"");
      if (!seen.insert(names[i]).second) continue;
      scheme.values.push_back(std::int32_t(scheme.names.size()));
      scheme.names.push_back(names[i]);
    }
  }
  return scheme;
}

/// The values that occur in all label volumes.
inline LabelScheme scheme_of_values(const SubjectList& list, const std::vector<Index>& entries) {
  std::vector<std::set<std::int32_t>> found(entries.size());
  parallel_for(Index(entries.size()), [&](Index i) {
    const auto labels = read_labels<std::int32_t>(list.entries[std::size_t(entries[std::size_t(i)])].labels);
    std::int32_t last = -1;
    for (const std::int32_t v : labels.voxels.span()) {
      if (v != last) found[std::size_t(i)].insert(v);
      last = v;
    }
  });
  std::set<std::int32_t> all{0};
  for (const auto& values : found) all.insert(values.begin(), values.end());
  LabelScheme scheme;
  for (const std::int32_t v : all) {
    scheme.names.push_back(v == 0 ? "background" : text("label ", v));
    scheme.values.push_back(v);
  }
  return scheme;
}

}  // namespace detail

/// The classes of the given entries, which must have labels. Throws FileError for no structure or more than 255, for
/// two labels of one name, and where some entries have names and others not.
inline LabelScheme make_label_scheme(const SubjectList& list, const std::vector<Index>& entries) {
  bool named = false;
  for (const Index e : entries) named = named || !detail::names_of(list, list.entries[std::size_t(e)]).empty();
  const LabelScheme scheme = named ? detail::scheme_of_names(list, entries) : detail::scheme_of_values(list, entries);
  detail::check_class_count(list.folder, scheme.names.size());
  return scheme;
}

/// What each value of one entry's label file is to the network.
class LabelTable {
 public:
  /// `names`: of the file's values, or empty. They decide if any of them is one of the scheme's names.
  LabelTable(const LabelScheme& scheme, const std::vector<std::string>& names) {
    std::map<std::string, std::uint8_t> by_name;
    for (std::size_t c = 1; c < scheme.names.size(); ++c) by_name[scheme.names[c]] = std::uint8_t(c);
    classes_[0] = 0;
    for (std::size_t v = 1; v < names.size(); ++v)
      if (const auto at = by_name.find(names[v]); at != by_name.end()) classes_[std::int32_t(v)] = at->second;
    if (classes_.size() > 1) return;
    for (std::size_t c = 0; c < scheme.values.size(); ++c) classes_[scheme.values[c]] = std::uint8_t(c);
  }

  /// Values to classes. Throws FileError, naming the file, for a value that the network does not know.
  Tensor<std::uint8_t> classes(const Tensor<std::int32_t>& labels, const std::string& path) const {
    const Tensor<std::uint8_t> out(labels.shape());
    std::int32_t last = 0;
    std::uint8_t last_class = 0;
    for (Index i = 0; i < labels.size(); ++i) {
      const std::int32_t value = labels.data()[i];
      if (value != last) {  // neighbours are mostly alike
        const auto at = classes_.find(value);
        require<FileError>(at != classes_.end(), path, ": holds label ", value,
                           ", which is no class of this network; it knows ", known());
        last = value;
        last_class = at->second;
      }
      out.data()[i] = last_class;
    }
    return out;
  }

 private:
  std::string known() const {
    std::string out;
    std::size_t n = 0;
    for (const auto& item : classes_)
      if (++n <= 20) out += (n > 1 ? ", " : "") + text(item.first);
    return n > 20 ? text(out, " and ", n - 20, " more") : out;
  }
  std::map<std::int32_t, std::uint8_t> classes_;
};

/// Classes to the values that label files have; V must hold them all.
template <class V = std::int32_t, class L>
Tensor<V> label_values(const LabelScheme& scheme, const Tensor<L>& classes) {
  require(std::in_range<V>(scheme.values.back()), "label_values: the value ", scheme.values.back(),
          " does not fit; use a larger type");
  const Tensor<V> out(classes.shape());
  for (Index i = 0; i < classes.size(); ++i) out.data()[i] = V(scheme.values.at(std::size_t(classes.data()[i])));
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
