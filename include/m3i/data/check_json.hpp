#pragma once
/// The check of a data set as a JSON report.

#include <map>
#include <string>
#include <vector>

#include "m3i/data/check.hpp"
#include "m3i/io/json.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// {"folder", "images", "subjects", "usable", "problems": [{"file", "text"}], "surprises", "left_out", "cases": [...]}.
/// A case has "subject", "image", "labels", "size", "spacing_mm", "orientation", "intensities" (low, high, mean,
/// foreground), "label_voxels" by value, "class", "part", "fold"; what could not be read is absent.
inline Json dataset_report_json(const SubjectList& list,
                                const DatasetReport& report,
                                const std::vector<std::string>& surprises) {
  std::map<std::string, Index> problems, subjects;
  Json out{{"folder", list.folder},   {"images", report.checked},  {"problems", Json::array()},
           {"surprises", surprises},  {"left_out", list.left_out}, {"structures", list.structures},
           {"classes", list.classes}, {"cases", Json::array()}};
  for (const auto& p : report.problems) {
    ++problems[p.file];
    out["problems"].push_back({{"file", p.file}, {"text", p.text}});
  }
  Index usable = 0;
  for (std::size_t i = 0; i < list.entries.size(); ++i) {
    const SubjectEntry& e = list.entries[i];
    const CaseFacts& c = report.cases[i];
    ++subjects[e.subject];
    const bool sound = problems.count(e.image) == 0 && problems.count(e.labels) == 0;
    usable += sound;
    Json item{{"subject", e.subject}, {"image", e.image}, {"usable", sound}};
    if (!e.labels.empty()) item["labels"] = e.labels;
    if (e.channels.size() > 1) item["channels"] = e.channels;
    if (e.class_label) item["class"] = *e.class_label;
    if (!e.part.empty()) item["part"] = e.part;
    if (e.fold) item["fold"] = *e.fold;
    if (c.image_read) {
      item["size"] = c.size;
      item["spacing_mm"] = c.spacing_mm;
      item["orientation"] = c.orientation;
      item["intensities"] = {{"low", c.low}, {"high", c.high}, {"mean", c.mean}, {"foreground", c.foreground}};
    }
    if (c.labels_read) {
      item["label_voxels"] = Json::object();
      for (const auto& [value, voxels] : c.labels) item["label_voxels"][std::to_string(value)] = voxels;
    }
    out["cases"].push_back(std::move(item));
  }
  out["usable"] = usable;
  out["subjects"] = subjects.size();
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
