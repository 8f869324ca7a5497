#pragma once
/// model.safetensors: the parameters of a network, and in the metadata what it is and what it needs.
///
/// Metadata: m3i.kind (pretrained, segmentation, classification), m3i.config (the whole configuration as JSON),
/// m3i.chain (the transform chain of its volumes as JSON), m3i.preprocessing (the same in words), m3i.names
/// (structures, or classes), m3i.label_values (what each structure is called in label files), and any number of notes
/// m3i.note.NAME.

#include <algorithm>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "m3i/data/chain_json.hpp"
#include "m3i/io/json.hpp"
#include "m3i/io/safetensors.hpp"
#include "m3i/train/method_config.hpp"
#include "m3i/train/preprocessing.hpp"
#include "m3i/train/weights.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What a model file says besides its parameters.
struct ModelInfo {
  std::string kind;  ///< "pretrained", "segmentation" or "classification"
  MethodConfig config;
  std::vector<std::string> names;    ///< segmentation: structures, entry 0 the background; classification: classes
  std::vector<std::int32_t> values;  ///< segmentation: the value of each structure in label files, rising from 0
  std::map<std::string, std::string> notes;
  std::optional<TransformChain> chain = std::nullopt;  ///< of its volumes; none: the one that the configuration makes

  Index classes() const { return Index(names.size()); }
};

/// A model file, open for reading.
struct ModelFile {
  std::shared_ptr<const SafeTensors> weights;
  ModelInfo info;

  const std::string& path() const { return weights->path(); }
};

/// The chain that brings volumes to the network: the one that the file stores, whatever later versions make of its
/// configuration.
inline TransformChain preprocessing_chain(const ModelInfo& info) {
  return info.chain ? *info.chain : preprocessing_chain(info.config);
}
/// The same for people.
inline std::string preprocessing_text(const ModelInfo& info) { return preprocessing_chain(info).text(); }
inline std::string preprocessing_text(const MethodConfig& config) { return preprocessing_chain(config).text(); }

namespace detail {

inline const std::string note_prefix = "m3i.note.";

inline std::map<std::string, std::string> model_metadata(const ModelInfo& info, const std::string& path) {
  std::map<std::string, std::string> out{{"format", "pt"},
                                         {"m3i.kind", info.kind},
                                         {"m3i.config", config_text(info.config)},
                                         {"m3i.chain", chain_json(preprocessing_chain(info))},
                                         {"m3i.preprocessing", preprocessing_text(info)}};
  if (!info.names.empty()) out["m3i.names"] = json_text(info.names, path);
  if (!info.values.empty()) out["m3i.label_values"] = json_text(info.values, path);
  for (const auto& [key, words] : info.notes) out[note_prefix + key] = words;
  return out;
}

/// A list in the metadata; empty if it is not there.
template <class Item>
std::vector<Item> metadata_list(const SafeTensors& file, const char* key) {
  const auto at = file.metadata().find(key);
  if (at == file.metadata().end()) return {};
  const std::string where = text(file.path(), ": ", key);
  const Json json = parse_json(at->second, where);
  require<FileError>(json.is_array(), where, ": is ", json.type_name(), ", expected a list");
  std::vector<Item> out;
  for (const Json& item : json) {
    if constexpr (std::is_integral_v<Item>)
      require<FileError>(
          item.is_number_integer() && std::in_range<Item>(item.get<std::int64_t>()) && item.get<Item>() >= 0, where,
          ": holds ", excerpt(item.dump()), ", expected whole numbers from 0");
    else require<FileError>(item.is_string(), where, ": holds ", excerpt(item.dump()), ", expected strings");
    out.push_back(item.get<Item>());
  }
  return out;
}

inline void check_model_info(const ModelInfo& info, const std::string& path) {
  const bool segmentation = info.kind == "segmentation";
  require<FileError>(segmentation || info.kind == "classification" || info.kind == "pretrained", path,
                     ": m3i.kind is \"", excerpt(info.kind), "\", expected pretrained, segmentation or classification");
  if (info.kind == "pretrained") return;
  require<FileError>(info.classes() >= 2 && info.classes() <= 256, path, ": m3i.names has ", info.classes(),
                     " entries, expected 2 to 256");
  if (!segmentation) return;
  require<FileError>(
      info.values.size() == info.names.size() && info.values[0] == 0 &&
          std::adjacent_find(info.values.begin(), info.values.end(), std::greater_equal<>()) == info.values.end(),
      path, ": m3i.label_values must hold ", info.names.size(), " rising numbers from 0, one for each of m3i.names");
}

}  // namespace detail

/// Opens a model file and reads its metadata. Throws FileError for anything else, with a hint for what it might be.
inline ModelFile read_model(const std::string& path) {
  ModelFile model{std::make_shared<const SafeTensors>(path), {}};
  const auto& metadata = model.weights->metadata();
  const auto kind = metadata.find("m3i.kind"), config = metadata.find("m3i.config"), format = metadata.find("format");
  const bool checkpoint = format != metadata.end() && format->second.rfind("m3i-checkpoint", 0) == 0;
  require<FileError>(kind != metadata.end() && config != metadata.end(), path,
                     ": holds tensors, but its metadata has no m3i.kind and ", "m3i.config",
                     checkpoint ? "; it is a training checkpoint" : "",
                     "; expected the model.safetensors of pretrain, finetune_segmentation or finetune_classification");
  model.info.kind = kind->second;
  read_config(model.info.config, parse_config(config->second, path + ": m3i.config"), path + ": m3i.config");
  if (const auto chain = metadata.find("m3i.chain"); chain != metadata.end())
    model.info.chain = parse_chain(chain->second, path + ": m3i.chain");
  model.info.names = detail::metadata_list<std::string>(*model.weights, "m3i.names");
  model.info.values = detail::metadata_list<std::int32_t>(*model.weights, "m3i.label_values");
  for (const auto& [key, words] : metadata)
    if (key.rfind(detail::note_prefix, 0) == 0) model.info.notes[key.substr(detail::note_prefix.size())] = words;
  detail::check_model_info(model.info, path);
  return model;
}

/// Writes a module with its description, atomically.
template <class T, class Module>
void write_model(const std::string& path, const Module& module, const ModelInfo& info) {
  detail::check_model_info(info, path);
  write_safetensors(path, state_arrays<T>(module), detail::model_metadata(info, path));
}

namespace detail {
/// Whether a key of the configuration tells one network from another. Two backbones differ in the name alone: what only
/// one of them has says nothing of the other.
inline bool shapes_network(const std::string& key, choice::Backbone one, choice::Backbone other) {
  const auto in = [&](std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(), [&](const char* name) { return key == text("network.", name); });
  };
  if (in({"backbone", "image_size", "in_channels"})) return true;
  if (one != other) return false;
  if (one == choice::Backbone::nnformer) return in({"embedding", "depths", "heads", "patch", "windows"});
  return key.rfind("network.unetr.", 0) == 0;
}
}  // namespace detail

/// Throws ConfigError unless the file's network is the configured one (what changes training only may differ).
/// Returns a line for each difference in preprocessing, which is allowed but worth knowing.
inline std::vector<std::string> compare_model(const ModelFile& model, const MethodConfig& config) {
  std::string network;
  std::vector<std::string> preprocessing;
  for (const std::string& line : config_difference(model.info.config, config)) {
    if (detail::shapes_network(line.substr(0, line.find(':')), model.info.config.network.backbone,
                               config.network.backbone))
      network += "\n  " + line;
    for (const char* key : {"data.spacing_mm", "data.antialias", "data.fit", "data.crop_foreground", "data.intensity",
                            "data.low_percentile", "data.high_percentile", "data.window_"})
      if (line.rfind(key, 0) == 0) preprocessing.push_back(line);
  }
  require<ConfigError>(network.empty(), model.path(),
                       ": is another network than the configured one (file against configuration):", network,
                       "\n  use the configuration that it was trained with");
  return preprocessing;
}

}  // namespace M3I_ABI
}  // namespace m3i
