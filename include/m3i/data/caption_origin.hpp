#pragma once
/// Where a caption of a vision-language model came from: kept beside it in triplets.jsonl.

#include <optional>
#include <string>

#include "m3i/core/shape.hpp"
#include "m3i/data/json_fields.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How a slice was captioned.
struct CaptionOrigin {
  std::string prompt, model;          ///< what was asked for
  std::string model_version;          ///< what the service says that it used
  std::optional<double> temperature;  ///< nothing: the service's own
  std::string response;               ///< the raw text of the answer
  Index prompt_tokens = -1;           ///< as counted by the service; -1: not told
  Index completion_tokens = -1;
  std::string status;  ///< "ok", or "length": the caption was cut by the limit of tokens
};

namespace detail {

/// -1 if it is not told.
inline Index token_count(JsonFields& fields, const char* key, const std::string& where) {
  if (!fields.has(key)) {
    fields.accept(key);
    return -1;
  }
  const Index n = fields.integer(key);
  require<FileError>(n >= 0, where, ": \"", key, "\" is ", n, ", expected 0 or more");
  return n;
}

inline CaptionOrigin caption_origin_of(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  CaptionOrigin o;
  o.prompt = fields.string("prompt", true);
  o.model = fields.string("model", true);
  o.model_version = fields.string("model_version", false);
  if (const auto t = fields.has("temperature") ? json["temperature"] : Json(); !t.is_null()) {
    require<FileError>(t.is_number(), where, ": \"temperature\" is no number");
    o.temperature = t.get<double>();
  }
  fields.accept("temperature");
  o.response = fields.string("response", false);
  o.prompt_tokens = token_count(fields, "prompt_tokens", where);
  o.completion_tokens = token_count(fields, "completion_tokens", where);
  o.status = fields.string("status", true);
  fields.finish();
  return o;
}

inline Json json_of(const CaptionOrigin& o) {
  Json j{{"prompt", o.prompt},     {"model", o.model},   {"model_version", o.model_version},
         {"response", o.response}, {"status", o.status}, {"temperature", nullptr}};
  if (o.temperature) j["temperature"] = *o.temperature;
  if (o.prompt_tokens >= 0) j["prompt_tokens"] = o.prompt_tokens;
  if (o.completion_tokens >= 0) j["completion_tokens"] = o.completion_tokens;
  return j;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
