#pragma once
/// Training checkpoints: one safetensors file a checkpoint, in a folder that keeps the last few.
///
/// Arrays are grouped by name (model/..., optimizer/..., metric/...); everything else is metadata. A file is written
/// atomically and carries a checksum of all it says, so that a cut or damaged one is recognised.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/core/random.hpp"
#include "m3i/io/crc32.hpp"
#include "m3i/io/json.hpp"
#include "m3i/io/safetensors.hpp"
#include "m3i/io/state.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Where a training run stands, besides its arrays.
struct TrainingState {
  Index step = 0;                            ///< optimiser steps done
  std::uint64_t seed = 0;                    ///< the run's seed
  std::string network;                       ///< what was trained, in words: "nnformer 128x128x128"
  Json config = Json::object();              ///< the whole configuration
  std::map<std::string, Random> random;      ///< random streams, by name
  std::map<std::string, Index> counters;     ///< positions: epoch, sample of the loader, ...
  std::map<std::string, std::string> notes;  ///< anything else, such as the checksum of the data
};

namespace detail {

inline constexpr std::string_view checkpoint_format = "m3i-checkpoint-1";

template <class N>
N checkpoint_number(std::string_view digits, const std::string& where) {
  N value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  require<FileError>(error == std::errc() && end == digits.data() + digits.size(), where, "\"", excerpt(digits),
                     "\" is not a whole number");
  return value;
}

inline std::map<std::string, std::string> to_metadata(const TrainingState& s, const std::string& where) {
  std::map<std::string, std::string> out = {{"format", std::string(checkpoint_format)},
                                            {"step", text(s.step)},
                                            {"seed", text(s.seed)},
                                            {"network", s.network},
                                            {"config", json_text(s.config, where)}};
  for (const auto& [name, r] : s.random) out["random/" + name] = text(r.seed, ' ', r.stream, ' ', r.next);
  for (const auto& [name, n] : s.counters) out["counter/" + name] = text(n);
  for (const auto& [name, words] : s.notes) out["note/" + name] = words;
  return out;
}

inline TrainingState from_metadata(const std::map<std::string, std::string>& metadata, const std::string& path) {
  TrainingState s;
  for (const char* key : {"step", "seed", "network", "config"})
    require<FileError>(metadata.count(key) == 1, path, ": checkpoint has no \"", key, "\"");
  for (const auto& [key, words] : metadata) {
    const std::string where = text(path, ": checkpoint \"", excerpt(key), "\": ");
    const auto slash = key.find('/');
    const std::string group = key.substr(0, slash), name = slash == key.npos ? "" : key.substr(slash + 1);
    if (key == "step") s.step = checkpoint_number<Index>(words, where);
    else if (key == "seed") s.seed = checkpoint_number<std::uint64_t>(words, where);
    else if (key == "network") s.network = words;
    else if (key == "config") s.config = parse_json(words, where);
    else if (group == "counter") s.counters[name] = checkpoint_number<Index>(words, where);
    else if (group == "note") s.notes[name] = words;
    else if (group == "random") {
      const auto a = words.find(' '), b = words.rfind(' ');
      require<FileError>(a != words.npos && a != b, where, "expected seed, stream and position");
      const auto number = [&](std::string_view part) { return checkpoint_number<std::uint64_t>(part, where); };
      const std::string_view all = words;
      s.random.emplace(
          name, Random(number(all.substr(0, a)), number(all.substr(a + 1, b - a - 1)), number(all.substr(b + 1))));
    }
  }
  return s;
}

/// Checksum of metadata (but the checksum itself), names, types, shapes and values, in the order of names.
class CheckpointSum {
 public:
  explicit CheckpointSum(const std::map<std::string, std::string>& metadata) {
    for (const auto& [key, words] : metadata)
      if (key != "crc32") field(key), field(words);
  }
  void array(std::string_view name, std::string_view dtype, const Shape& shape, std::string_view bytes) {
    field(name), field(dtype), field(shape.text());
    crc_ = crc32(bytes, crc_);
  }
  std::string value() const { return text(crc_); }

 private:
  /// The length keeps "ab" + "c" apart from "a" + "bc".
  void field(std::string_view words) { crc_ = crc32(words, crc32(text(words.size(), ':'), crc_)); }
  std::uint32_t crc_ = 0;
};

}  // namespace detail

/// An open, verified checkpoint.
struct Checkpoint {
  std::shared_ptr<const SafeTensors> file;
  TrainingState state;

  const std::string& path() const { return file->path(); }
};

/// Writes one checkpoint file atomically.
inline void write_checkpoint(const std::string& path, std::vector<NamedArray> arrays, const TrainingState& state) {
  auto metadata = detail::to_metadata(state, path);
  detail::CheckpointSum sum(metadata);
  std::sort(arrays.begin(), arrays.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (const NamedArray& a : arrays) sum.array(a.name, a.dtype, a.shape, {a.data, a.bytes});
  metadata["crc32"] = sum.value();
  write_safetensors(path, std::move(arrays), metadata);
}

/// Opens a checkpoint and verifies every byte. Throws FileError: cut off, damaged, or no checkpoint at all.
inline Checkpoint read_checkpoint(const std::string& path) {
  Checkpoint c;
  c.file = std::make_shared<const SafeTensors>(path);
  const auto& metadata = c.file->metadata();
  const auto format = metadata.find("format"), stored = metadata.find("crc32");
  require<FileError>(format != metadata.end() && format->second == detail::checkpoint_format, path,
                     ": is a safetensors file, but not a training checkpoint of this version (format ",
                     format == metadata.end() ? std::string("absent") : "\"" + excerpt(format->second) + "\"",
                     ", expected \"", detail::checkpoint_format, "\")");
  detail::CheckpointSum sum(metadata);
  for (const auto& [name, e] : c.file->entries()) sum.array(name, e.dtype, e.shape, c.file->bytes(e));
  require<FileError>(stored != metadata.end() && stored->second == sum.value(), path,
                     ": the checkpoint is damaged: its checksum is ", sum.value(), ", expected ",
                     stored == metadata.end() ? std::string("one") : excerpt(stored->second));
  c.state = detail::from_metadata(metadata, path);
  return c;
}

/// Throws FileError unless the checkpoint's group (as "model/") holds exactly these names and shapes; the message says
/// which differ, and how the configurations differ.
template <class T>
void require_same_network(const Checkpoint& checkpoint,
                          const std::string& group,
                          const std::vector<StateSlot<T>>& slots,
                          const TrainingState& here) {
  const LoadReport report = compare_state(*checkpoint.file, slots, {.prefix = group, .ignore = {}, .rename = {}});
  if (report.complete() && checkpoint.state.network == here.network) return;
  std::string differences;
  const auto lines = json_differences(here.config, checkpoint.state.config);
  for (std::size_t i = 0; i < lines.size() && i < 8; ++i) differences += "\n  config " + lines[i];
  fail<FileError>(checkpoint.path(), ": is a checkpoint of another network: \"", excerpt(checkpoint.state.network),
                  "\", this one is \"", excerpt(here.network), "\"; ", report, differences,
                  "\n  use the configuration it was trained with, or another output folder");
}

/// A run's checkpoints: FOLDER/step-000000000037.safetensors, the last `keep` of them. One process writes to a folder.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::string folder, Index keep = 3) : folder_(std::move(folder)), keep_(keep) {
    require<ConfigError>(keep_ >= 1, "checkpoints: keep is ", keep_, ", expected at least 1");
  }

  std::string path(Index step) const {
    std::string digits = text(step);
    digits.insert(0, digits.size() < 12 ? 12 - digits.size() : 0, '0');
    return (std::filesystem::path(folder_) / ("step-" + digits + ".safetensors")).string();
  }

  /// Steps of which a file exists, valid or not, newest first. A folder that does not exist has none.
  std::vector<Index> steps() const {
    std::vector<Index> out;
    for_each_file([&](const std::string& name) {
      const std::string_view digits = step_digits(name);
      Index step = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
      const bool number = !digits.empty() && error == std::errc() && end == digits.data() + digits.size();
      if (number && name == std::filesystem::path(path(step)).filename()) out.push_back(step);
    });
    std::sort(out.rbegin(), out.rend());
    return out;
  }

  /// Writes a checkpoint, then removes those that are older than the last `keep`, and what killed runs left half
  /// written. On failure everything that was there stays.
  std::string save(std::vector<NamedArray> arrays, const TrainingState& state) const {
    require<ConfigError>(state.step >= 0, "checkpoints: step ", state.step, " is negative");
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    require<FileError>(!error, "checkpoints: cannot create ", folder_, ": ", error.message());
    const std::string written = path(state.step);
    write_checkpoint(written, std::move(arrays), state);
    const std::vector<Index> all = steps();
    for (std::size_t i = std::size_t(keep_); i < all.size(); ++i)
      if (all[i] < state.step) std::filesystem::remove(path(all[i]), error);  // left for the next time if it fails
    std::vector<std::string> stale;
    for_each_file([&](const std::string& name) {
      if (name.rfind("step-", 0) == 0 && name.find(".safetensors.tmp.") != name.npos) stale.push_back(name);
    });
    for (const std::string& name : stale) std::filesystem::remove(std::filesystem::path(folder_) / name, error);
    return written;
  }

  bool empty() const { return steps().empty(); }

  /// The newest checkpoint. If it is not valid, throws FileError; with `fall_back`, older ones are tried instead, and
  /// `skipped` (if given) receives the message of each that was passed over.
  Checkpoint latest(bool fall_back = false, std::vector<std::string>* skipped = nullptr) const {
    std::string messages;
    for (const Index step : steps()) {
      try {
        return read_checkpoint(path(step));
      } catch (const FileError& error) {
        if (!fall_back)
          fail<FileError>(error.what(),
                          "; the newest checkpoint cannot be used: remove it, or allow falling back to an older one");
        if (skipped) skipped->push_back(error.what());
        messages += text("\n  ", error.what());
      }
    }
    require<FileError>(messages.empty(), "checkpoints: none in ", folder_, " can be used:", messages);
    fail<FileError>("checkpoints: ", folder_, " holds none (files step-N.safetensors); start without resuming");
  }

 private:
  template <class F>
  void for_each_file(const F& f) const {
    std::error_code error;
    std::filesystem::directory_iterator it(folder_, error);
    if (error == std::errc::no_such_file_or_directory) return;
    for (const std::filesystem::directory_iterator end; !error && it != end; it.increment(error))
      f(it->path().filename().string());
    require<FileError>(!error, "checkpoints: cannot list ", folder_, ": ", error.message());
  }
  /// "37" of "step-37.safetensors"; empty for any other name.
  static std::string_view step_digits(const std::string& name) {
    constexpr std::string_view before = "step-", after = ".safetensors";
    const std::string_view s = name;
    if (s.size() <= before.size() + after.size() || s.substr(0, before.size()) != before) return {};
    if (s.substr(s.size() - after.size()) != after) return {};
    return s.substr(before.size(), s.size() - before.size() - after.size());
  }

  std::string folder_;
  Index keep_;
};

}  // namespace M3I_ABI
}  // namespace m3i
