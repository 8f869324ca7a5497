#pragma once
/// Transform chains as JSON, strict both ways: a list of steps, each an object of its name and its fields.
///
///     [{"step": "orient", "codes": "RAS"}, {"step": "spacing", "mm": [1, 1, 1], "sampling": "linear"}, ...]
///
/// A field that is not there keeps its default; a step or field that is unknown, of the wrong type or out of its bounds
/// is an error that names both.

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "m3i/core/words.hpp"
#include "m3i/imaging/chain_steps.hpp"
#include "m3i/io/json.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Adds a step's fields to its object, in their order.
struct WriteStepField {
  nlohmann::ordered_json& object;
  template <class Field>
  void operator()(const char* name, const Field& value, const StepBounds&) const {
    if constexpr (std::same_as<Field, Sampling>) object[name] = sampling_names[std::size_t(value)];
    else object[name] = value;
  }
};

/// Sets a step's fields that its object names.
class ReadStepField {
 public:
  ReadStepField(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  template <class Field>
  void operator()(const char* name, Field& value, const StepBounds&) {
    known_.push_back(name);
    const auto at = object_.find(name);
    if (at != object_.end()) read(name, *at, value);
  }
  /// Every field of the object must be one of the step's.
  void finish() const {
    for (const auto& [key, value] : object_.items()) {
      if (key == "step" || std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      const std::string near = nearest_word(key, known_);
      fail<ConfigError>(where_, ": no field \"", excerpt(key), "\"",
                        near.empty() ? text("; it has ", known_.empty() ? "none" : join_words(known_))
                                     : text("; did you mean ", near, "?"));
    }
  }

 private:
  [[noreturn]] void wrong(const char* name, const Json& json, const std::string& expected) const {
    fail<ConfigError>(where_, ": ", name, " is ", excerpt(json.dump(-1, ' ', true, Json::error_handler_t::replace)),
                      ", expected ", expected);
  }
  void read(const char* name, const Json& json, double& value) const {
    if (!json.is_number()) wrong(name, json, "a number");
    value = json.get<double>();
  }
  void read(const char* name, const Json& json, Index& value) const {
    if (!json.is_number_integer() || (json.is_number_unsigned() && json.get<std::uint64_t>() > INT64_MAX))
      wrong(name, json, "a whole number");
    value = json.get<Index>();
  }
  void read(const char* name, const Json& json, bool& value) const {
    if (!json.is_boolean()) wrong(name, json, "true or false");
    value = json.get<bool>();
  }
  void read(const char* name, const Json& json, std::string& value) const {
    if (!json.is_string()) wrong(name, json, "text");
    value = json.get<std::string>();
  }
  void read(const char* name, const Json& json, Sampling& value) const {
    const std::vector<std::string> names(sampling_names.begin(), sampling_names.end());
    const auto at = json.is_string() ? std::find(names.begin(), names.end(), json.get<std::string>()) : names.end();
    if (at == names.end()) wrong(name, json, "one of " + join_words(names));
    value = Sampling(at - names.begin());
  }
  template <class Number>
  void read(const char* name, const Json& json, std::array<Number, 3>& value) const {
    if (!json.is_array() || json.size() != 3) wrong(name, json, "a list of 3 numbers");
    for (std::size_t a = 0; a < 3; ++a) read(name, json[a], value[a]);
  }

  const Json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

/// Calls f(step) with a default step of each kind.
template <class F, std::size_t... I>
void for_each_step_kind(const F& f, std::index_sequence<I...>) {
  (f(std::variant_alternative_t<I, TransformStep>{}), ...);
}
template <class F>
void for_each_step_kind(const F& f) {
  for_each_step_kind(f, std::make_index_sequence<std::variant_size_v<TransformStep>>{});
}

inline TransformStep read_step(const Json& json, const std::string& where) {
  require<ConfigError>(json.is_object() && json.contains("step") && json["step"].is_string(), where, ": is ",
                       excerpt(json.dump(-1, ' ', true, Json::error_handler_t::replace)),
                       ", expected an object with \"step\", the step's name");
  const auto name = json["step"].get<std::string>();
  TransformStep out;
  std::vector<std::string> names;
  bool found = false;
  for_each_step_kind([&](auto step) {
    names.push_back(step.name);
    if (name != step.name) return;
    ReadStepField field(json, text(where, " (", name, ")"));
    step.fields(step, field);
    field.finish();
    out = step;
    found = true;
  });
  const std::string near = found ? "" : nearest_word(name, names);
  require<ConfigError>(found, where, ": no step \"", excerpt(name), "\"; ",
                       near.empty() ? "there are " + join_words(names) : "did you mean " + near + "?");
  return out;
}

}  // namespace detail

/// The chain as JSON on one line; numbers come back to the bit. Throws ConfigError for a chain out of its bounds.
inline std::string chain_json(const TransformChain& chain) {
  check_chain(chain);
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const TransformStep& step : chain.steps)
    std::visit(
        [&](const auto& s) {
          nlohmann::ordered_json object;
          object["step"] = s.name;
          s.fields(s, detail::WriteStepField{object});
          list.push_back(std::move(object));
        },
        step);
  return list.dump(-1, ' ', true);
}

/// Reads what chain_json wrote, or a chain written by hand; `where` names the source in messages. Throws FileError for
/// broken JSON, ConfigError for what is no chain.
inline TransformChain parse_chain(const std::string& json_text, const std::string& where = "transform chain") {
  const Json json = parse_json(json_text, where);
  require<ConfigError>(json.is_array(), where, ": is ", json.type_name(), ", expected a list of steps");
  require<ConfigError>(json.size() <= 1000, where, ": has ", json.size(), " steps, expected at most 1000");
  TransformChain chain;
  for (std::size_t i = 0; i < json.size(); ++i)
    chain.steps.push_back(detail::read_step(json[i], text(where, ": step ", i + 1)));
  check_chain(chain, where);
  return chain;
}

}  // namespace M3I_ABI
}  // namespace m3i
