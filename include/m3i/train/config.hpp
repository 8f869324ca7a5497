#pragma once
/// Configuration files: strict reading, overrides from the command line, printing, comparing.
///
/// A file need not name every key (the rest keeps its default), but every key it names must exist, once, with a value
/// of the right type and range. C++ comments are allowed. The structs are described in `setting.hpp`.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "m3i/core/error.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Reports that two fields do not fit together: check(heads.size() == depths.size(), "heads", "has 3 entries, ...").
struct ConfigCheck {
  std::string origin, prefix;

  template <class... Parts>
  void operator()(bool ok, const char* key, const Parts&... parts) const {
    require<ConfigError>(ok, origin, ": ", prefix, key, ": ", text(parts...));
  }
};

namespace detail {

inline const Setting* find_setting(const std::vector<Setting>& all, std::string_view key) {
  for (const auto& s : all)
    if (s.key == key) return &s;
  return nullptr;
}

inline std::string parent_of(const std::string& key) {
  const auto dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}
inline std::string leaf_of(const std::string& key) {
  const auto dot = key.rfind('.');
  return dot == std::string::npos ? key : key.substr(dot + 1);
}

/// "did you mean ...?": a near name in the same section, the same name elsewhere, else a near one elsewhere, else the
/// names there are.
inline std::string suggestion(const std::vector<Setting>& all, const std::string& key) {
  const std::string section = parent_of(key), leaf = leaf_of(key);
  std::vector<std::string> siblings, same, leaves;
  for (const auto& s : all) {
    if (parent_of(s.key) == section) siblings.push_back(leaf_of(s.key));
    if (leaf_of(s.key) == leaf) same.push_back(s.key);
    leaves.push_back(leaf_of(s.key));
  }
  const std::string dotted = section.empty() ? "" : section + ".";
  if (const auto near = nearest_word(leaf, siblings); !near.empty()) same.insert(same.begin(), dotted + near);
  if (!same.empty()) return "; did you mean " + join_words(same, " or ") + "?";
  if (const auto near = nearest_word(leaf, leaves); !near.empty())
    for (const auto& s : all)
      if (leaf_of(s.key) == near) return "; did you mean " + s.key + "?";
  if (siblings.empty()) return "";
  return "; " + (section.empty() ? std::string("the file") : section) + " may have " + join_words(siblings);
}

/// Sets every value below `json`, which stands at `prefix` ("" or "pretrain.").
inline void read_section(const std::vector<Setting>& all, const OrderedJson& json, const Where& where) {
  if (!json.is_object())
    wrong_value(json, {where.origin, where.key.empty() ? "the file" : where.key}, "a section { ... }");
  for (const auto& [name, value] : json.items()) {
    const Where inner{where.origin, where.key.empty() ? name : where.key + "." + name};
    const Setting* s = name.find('.') == std::string::npos ? find_setting(all, inner.key) : nullptr;
    require<ConfigError>(s != nullptr, where.origin, ": ", inner.key, ": no such key", suggestion(all, inner.key));
    if (s->section) read_section(all, value, inner);
    else s->set(value, inner);
  }
}

/// "[json.exception.parse_error.101] parse error at line 3, ..." without the part that only its authors need.
inline std::string json_message(const nlohmann::json::exception& error) {
  const std::string_view what = error.what();
  const auto bracket = what.find("] ");
  return std::string(bracket == std::string_view::npos ? what : what.substr(bracket + 2));
}

/// The whole of a text file of at most `limit` bytes.
inline std::string read_config_file(const std::string& path, std::uintmax_t limit) {
  std::error_code error;
  const auto kind = std::filesystem::status(path, error).type();
  require<FileError>(kind != std::filesystem::file_type::not_found, path, ": no such file");
  require<FileError>(kind == std::filesystem::file_type::regular, path, ": not a file");
  const auto bytes = std::filesystem::file_size(path, error);
  require<FileError>(!error && bytes <= limit, path, ": has ", bytes, " bytes, expected at most ", limit);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  require<FileError>(file != nullptr, path, ": cannot be opened for reading");
  std::string out(static_cast<std::size_t>(bytes), '\0');
  out.resize(std::fread(out.data(), 1, out.size(), file.get()));
  require<FileError>(out.size() == bytes, path, ": read ", out.size(), " of ", bytes, " bytes");
  return out;
}

/// Objects on indented lines, lists on one line.
inline void pretty_json(std::string& out, const OrderedJson& json, std::size_t indent) {
  if (json.is_array()) {
    for (std::size_t i = 0; i < json.size(); ++i) {
      out += i == 0 ? "[" : ", ";
      pretty_json(out, json[i], indent);
    }
    out += json.empty() ? "[]" : "]";
    return;
  }
  if (!json.is_object() || json.empty()) {
    out += json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    return;
  }
  const std::string pad(indent + 2, ' ');
  bool first = true;
  out += "{\n";
  for (const auto& [name, value] : json.items()) {
    out += (first ? "" : ",\n") + pad + OrderedJson(name).dump() + ": ";
    pretty_json(out, value, indent + 2);
    first = false;
  }
  out += "\n" + std::string(indent, ' ') + "}";
}

}  // namespace detail

/// Parses the text of a configuration file; refuses a key that stands twice in one section, which JSON leaves open.
inline OrderedJson parse_config(std::string_view text, const std::string& origin) {
  std::vector<std::set<std::string>> open;  // the keys seen in each section that is being read
  const auto watch = [&](int, OrderedJson::parse_event_t event, OrderedJson& value) {
    if (event == OrderedJson::parse_event_t::object_start) open.emplace_back();
    if (event == OrderedJson::parse_event_t::object_end) open.pop_back();
    if (event == OrderedJson::parse_event_t::key)
      require<ConfigError>(open.back().insert(value.get<std::string>()).second, origin, ": key ",
                           value.get<std::string>(), " stands twice in one section; keep one");
    return true;
  };
  try {
    return OrderedJson::parse(text, watch, true, true);
  } catch (const nlohmann::json::exception& error) {
    fail<ConfigError>(origin, ": not valid JSON: ", detail::json_message(error));
  }
}

/// Sets the fields that `json` names. On an error `config` keeps its old values.
template <ConfigSection C>
void read_config(C& config, const OrderedJson& json, const std::string& origin) {
  C next = config;
  detail::read_section(settings(next), json, {origin, ""});
  config = std::move(next);
}

/// Applies one override, "pretrain.epochs=3", "network.depths=1,1" or "pretrain.alignment=info_nce".
template <ConfigSection C>
void set_config(C& config, std::string_view assignment) {
  const auto equals = assignment.find('=');
  require<ConfigError>(equals != std::string_view::npos && equals > 0, "--set ", assignment, ": expected key=value");
  const std::string key(assignment.substr(0, equals)), value(assignment.substr(equals + 1));
  const auto all = settings(config);
  const Setting* s = detail::find_setting(all, key);
  require<ConfigError>(s != nullptr, "--set: ", key, ": no such key", detail::suggestion(all, key));
  require<ConfigError>(!s->section, "--set: ", key, ": is a section; set one of its keys");
  OrderedJson json;
  if (s->takes_text) {
    json = value;
  } else {
    const bool bare_list = s->takes_list && value != "null" && (value.empty() || value.front() != '[');
    const std::string written = bare_list ? "[" + value + "]" : value;
    json = OrderedJson::parse(std::string_view(written), nullptr, false);
    if (json.is_discarded() && bare_list) {  // a list of names, written without quotes
      json = OrderedJson::array();
      for (std::size_t at = 0; at <= value.size();) {
        const std::size_t comma = std::min(value.find(',', at), value.size());
        json.push_back(value.substr(at, comma - at));
        at = comma + 1;
      }
    }
    if (json.is_discarded()) json = value;  // not JSON: the type's own message shows it as text
  }
  s->set(json, {"--set", key});
}

/// Runs `check(ConfigCheck)` of every section that has one, then of `config` itself.
template <ConfigSection C>
void check_config(const C& config, const std::string& origin, const std::string& prefix = "") {
  const auto inner = [&](const char* name, const auto& value, const char*, Range = {}) {
    if constexpr (ConfigSection<std::remove_cvref_t<decltype(value)>>) check_config(value, origin, prefix + name + ".");
  };
  C::fields(config, inner);
  if constexpr (requires { config.check(ConfigCheck{}); }) config.check(ConfigCheck{origin, prefix});
}

/// Defaults, then the file (if `path` is not ""), then the overrides, then the checks.
/// Throws FileError if the file cannot be read and ConfigError, naming file and key, if its content is wrong.
template <ConfigSection C>
C load_config(const std::string& path, const std::vector<std::string>& overrides = {}) {
  C config{};
  if (!path.empty()) read_config(config, parse_config(detail::read_config_file(path, 1 << 24), path), path);
  for (const auto& assignment : overrides) set_config(config, assignment);
  check_config(config, path.empty() ? "configuration" : path);
  return config;
}

/// The configuration as JSON: every key, in the order of declaration.
template <ConfigSection C>
OrderedJson config_json(const C& config) {
  OrderedJson out = OrderedJson::object();
  for (const auto& s : settings(config)) {
    OrderedJson* at = &out;
    std::size_t begin = 0;
    for (std::size_t dot; (dot = s.key.find('.', begin)) != std::string::npos; begin = dot + 1)
      at = &(*at)[s.key.substr(begin, dot - begin)];
    (*at)[s.key.substr(begin)] = s.section ? OrderedJson::object() : s.get();
  }
  return out;
}

/// The configuration as the text of a file that `load_config` reads back to the same values.
template <ConfigSection C>
std::string config_text(const C& config) {
  std::string out;
  detail::pretty_json(out, config_json(config), 0);
  return out + "\n";
}

/// Every key with its value, its meaning and what it may be: the output of a program's --show-config.
template <ConfigSection C>
std::string describe_config(const C& config) {
  const auto all = settings(config);
  const auto value_of = [](const Setting& s) {
    return s.get().dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
  };
  const auto padded = [](std::string word, std::size_t width) {
    if (word.size() < width) word.resize(width, ' ');
    return word;
  };
  constexpr std::size_t value_width = 24;  // few are longer
  std::size_t key_width = 0;
  for (const auto& s : all)
    if (!s.section) key_width = std::max(key_width, s.key.size());
  std::string out;
  for (const auto& s : all) {
    if (s.section) out += "\n" + s.key + ": " + s.doc + "\n";
    else
      out += "  " + padded(s.key, key_width) + "  " + padded(value_of(s), value_width) + "  " + s.doc + " [" + s.type +
             "]\n";
  }
  return out;
}

/// One line for each key whose value differs: "pretrain.epochs: 300 against 3". Empty if the two are equal.
template <ConfigSection C>
std::vector<std::string> config_difference(const C& a, const C& b) {
  const auto left = settings(a), right = settings(b);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].section) continue;
    const auto x = left[i].get(), y = right[i].get();
    if (x != y) out.push_back(text(left[i].key, ": ", x.dump(), " against ", y.dump()));
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
