#pragma once
/// A check of a data set that is made once: what was found out about a sound one is kept in a folder, under a hash of
/// the content of all its files.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/check.hpp"
#include "m3i/data/volume_cache.hpp"
#include "m3i/io/sha256.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// A hash of everything that a check's result depends on. (Paths need not be UTF-8, which JSON would want.)
inline std::string check_key(const SubjectList& list, const DatasetCheck& options) {
  std::vector<std::string> parts(list.entries.size());
  parallel_for(Index(parts.size()), [&](Index i) {
    const SubjectEntry& e = list.entries[std::size_t(i)];
    std::string& part = parts[std::size_t(i)];
    part = text("\n", e.subject, "|", e.image, "|", content_key(e.image), "|", e.class_label.value_or(-1));
    if (!e.labels.empty()) part += text("|", e.labels, "|", content_key(e.labels));
    for (const std::string& channel : e.channels) part += text("|", channel, "|", content_key(channel));
    for (const std::string& name : e.structures) part += "|" + name;
  });
  std::string key = text("check ", options.need_labels, options.need_classes, options.first_frame);
  for (const auto* names : {&list.structures, &list.classes})
    for (const std::string& name : *names) key += "|" + name;
  for (const std::string& part : parts) key += part;
  return sha256(key);
}

inline Json facts_json(const CaseFacts& c) {
  return {{"size", c.size},
          {"spacing_mm", c.spacing_mm},
          {"orientation", c.orientation},
          {"intensities", {c.low, c.high, c.mean, c.foreground}},
          {"labels_read", c.labels_read},
          {"labels", c.labels},
          {"hashes", {c.image_hash, c.labels_hash}}};
}
inline CaseFacts facts_of(const Json& j) {
  CaseFacts c;
  c.image_read = true;
  c.size = j.at("size").get<Size3>();
  c.spacing_mm = j.at("spacing_mm").get<Point3>();
  c.orientation = j.at("orientation").get<std::string>();
  const auto v = j.at("intensities").get<std::array<double, 4>>();
  c.low = v[0], c.high = v[1], c.mean = v[2], c.foreground = v[3];
  c.labels_read = j.at("labels_read").get<bool>();
  c.labels = j.at("labels").get<std::vector<std::pair<Index, Index>>>();
  const auto hashes = j.at("hashes").get<std::array<std::uint64_t, 2>>();
  c.image_hash = hashes[0], c.labels_hash = hashes[1];
  return c;
}

/// The facts that were kept for this key; empty if there are none, or if they are damaged.
inline std::vector<CaseFacts> kept_facts(const std::string& path, const std::string& key, std::size_t cases) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return {};
  try {
    const Json json = read_json(path);
    std::vector<CaseFacts> facts;
    if (json.at("key") != key) return {};
    for (const Json& item : json.at("cases")) facts.push_back(facts_of(item));
    return facts.size() == cases ? facts : std::vector<CaseFacts>{};
  } catch (const Error&) {
    return {};
  } catch (const Json::exception&) {
    return {};
  }
}

}  // namespace detail

/// require_sound_dataset, whose result for the same files is found in `folder` ("": none) the next time: files are then
/// hashed, not unpacked. Throws FileError that lists the problems.
inline DatasetReport require_sound_dataset(const SubjectList& list,
                                           const DatasetCheck& options,
                                           const std::string& folder) {
  if (folder.empty()) return require_sound_dataset(list, options);
  std::string key;
  try {
    key = detail::check_key(list, options);
  } catch (const FileError&) {
    return require_sound_dataset(list, options);  // a file is missing: the check names all that are
  }
  const std::string path = (std::filesystem::path(folder) / ("check_" + key.substr(0, 16) + ".json")).string();
  DatasetReport report;
  report.checked = Index(list.entries.size());
  report.cases = detail::kept_facts(path, key, list.entries.size());
  if (!report.cases.empty()) return report;
  report = require_sound_dataset(list, options);
  Json json{{"key", key}, {"cases", Json::array()}};
  for (const CaseFacts& c : report.cases) json["cases"].push_back(detail::facts_json(c));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require<FileError>(!error, folder, ": cannot be made: ", error.message());
  write_json(path, json);
  return report;
}

}  // namespace M3I_ABI
}  // namespace m3i
