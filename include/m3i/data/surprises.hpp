#pragma once
/// What is odd in a sound data set: nothing that stops the work, but what its owner would want to know before it.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "m3i/data/check.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

inline double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// "3 images, as a.nii, b.nii, ..." with at most three names.
inline std::string images_text(const SubjectList& list, const std::vector<std::size_t>& which) {
  std::string out = text(which.size(), which.size() == 1 ? " image, " : " images, as ");
  for (std::size_t i = 0; i < std::min<std::size_t>(3, which.size()); ++i)
    out += (i > 0 ? ", " : "") + std::filesystem::path(list.entries[which[i]].image).filename().string();
  return out + (which.size() > 3 ? ", ..." : "");
}

/// Three digits that count.
inline std::string rounded(double x) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.3g", x);
  return std::abs(x) < 1000 ? digits : text(Index(std::round(x)));
}

/// Adds lines about the images of a list.
class Surprises {
 public:
  Surprises(const SubjectList& list, const DatasetReport& report) : list_(list), report_(report) {
    lines = list.surprises;
  }

  void all() {
    orientations();
    note(
        [](const CaseFacts& c) {
          const auto [small, large] = std::minmax_element(c.spacing_mm.begin(), c.spacing_mm.end());
          return c.image_read && *large > 3 * *small;
        },
        "voxels more than 3 times as long as wide; details across the slices are lost");
    outliers(
        "voxel size", [](const CaseFacts& c) { return std::cbrt(1000 * c.voxel_ml()); }, 0.5, "mm");
    outliers(
        "mean foreground intensity", [](const CaseFacts& c) { return c.foreground; }, 0.2, "");
    note([](const CaseFacts& c) { return c.labels_read && c.labelled() == 0; }, "labels that are all background");
    note([](const CaseFacts& c) { return c.labels.size() > 256; }, "more than 256 label values");
    label_values();
    duplicate_labels();
    subjects_and_classes();
  }

  std::vector<std::string> lines;

 private:
  template <class Is>
  void note(const Is& is, const char* what) {
    std::vector<std::size_t> which;
    for (std::size_t i = 0; i < report_.cases.size(); ++i)
      if (is(report_.cases[i])) which.push_back(i);
    if (!which.empty()) lines.push_back(images_text(list_, which) + ": " + what);
  }
  void orientations() {
    std::map<std::string, std::vector<std::size_t>> codes;
    for (std::size_t i = 0; i < report_.cases.size(); ++i)
      if (report_.cases[i].image_read) codes[report_.cases[i].orientation].push_back(i);
    if (codes.size() < 2) return;
    std::string out;
    for (const auto& [code, which] : codes) out += (out.empty() ? "" : "; ") + code + " " + images_text(list_, which);
    lines.push_back("orientations differ (they are brought to RAS when read): " + out);
  }
  /// Values more than 6 robust deviations and the given share away from the median; of five or more images.
  template <class Value>
  void outliers(const char* name, const Value& value, double share, const char* unit) {
    std::vector<double> values, deviations;
    for (const CaseFacts& c : report_.cases)
      if (c.image_read) values.push_back(value(c));
    if (values.size() < 5) return;
    const double middle = median_of(values);
    for (const double v : values) deviations.push_back(std::abs(v - middle));
    const double limit = std::max(6 * 1.4826 * median_of(deviations), share * std::abs(middle));
    for (std::size_t i = 0; i < report_.cases.size(); ++i) {
      const CaseFacts& c = report_.cases[i];
      if (c.image_read && std::abs(value(c) - middle) > limit)
        lines.push_back(text(list_.entries[i].image, ": ", name, " ", rounded(value(c)), *unit ? " " : "", unit,
                             " is far from the median ", rounded(middle)));
    }
  }
  /// Names that no label volume uses, and values that hide between the names.
  void label_values() {
    if (list_.structures.empty()) return;
    std::set<Index> seen;
    bool own_names = false, any = false;
    for (std::size_t i = 0; i < report_.cases.size(); ++i) {
      own_names = own_names || !list_.entries[i].structures.empty();
      any = any || report_.cases[i].labels_read;
      for (const auto& [value, voxels] : report_.cases[i].labels) seen.insert(value);
    }
    if (own_names || !any) return;
    for (std::size_t v = 1; v < list_.structures.size(); ++v)
      if (seen.count(Index(v)) == 0)
        lines.push_back(text("label ", v, " (", list_.structures[v], ") occurs in no label volume"));
  }
  void duplicate_labels() {
    std::map<std::uint64_t, std::vector<std::size_t>> same;
    for (std::size_t i = 0; i < report_.cases.size(); ++i)
      if (report_.cases[i].labels_read && report_.cases[i].labelled() > 0)
        same[report_.cases[i].labels_hash].push_back(i);
    for (const auto& [hash, which] : same)
      if (which.size() > 1) lines.push_back(images_text(list_, which) + ": the same labels, voxel by voxel");
  }
  void subjects_and_classes() {
    std::map<std::string, Index> images;
    std::map<Index, std::set<std::string>> classes;
    for (const SubjectEntry& e : list_.entries) {
      ++images[e.subject];
      if (e.class_label) classes[*e.class_label].insert(e.subject);
    }
    const auto several = std::count_if(images.begin(), images.end(), [](const auto& s) { return s.second > 1; });
    if (several > 0)
      lines.push_back(
          text(several, " of ", images.size(), " subjects have more than one image; a split keeps those together"));
    for (const auto& [label, subjects] : classes)
      if (subjects.size() < 3)
        lines.push_back(
            text("class ", label, " has ", subjects.size(), " subject(s), too few for training, validation and test"));
  }

  const SubjectList& list_;
  const DatasetReport& report_;
};

}  // namespace detail

/// Lines about mixed orientations, thick slices, voxel sizes and intensities far from the others', empty or repeated
/// labels, names that no label has, several images of one subject, rare classes, and counts that the description gets
/// wrong.
inline std::vector<std::string> dataset_surprises(const SubjectList& list, const DatasetReport& report) {
  detail::Surprises surprises(list, report);
  surprises.all();
  return surprises.lines;
}

}  // namespace M3I_ABI
}  // namespace m3i
