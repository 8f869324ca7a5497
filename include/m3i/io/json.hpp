#pragma once
/// Strict JSON on top of nlohmann/json: duplicate keys, deep nesting, numbers out of range, NUL bytes and anything
/// after the value are errors that name the file.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "m3i/core/atomic_file.hpp"
#include "m3i/core/error.hpp"
#include "m3i/io/mapped_file.hpp"

namespace m3i {
inline namespace M3I_ABI {

using Json = nlohmann::json;

/// At most `longest` bytes of a text from outside, for an error message; never cut inside a UTF-8 character.
inline std::string excerpt(std::string_view s, std::size_t longest = 80) {
  if (s.size() <= longest) return std::string(s);
  while (longest > 0 && (static_cast<unsigned char>(s[longest]) & 0xC0u) == 0x80u) --longest;
  return std::string(s.substr(0, longest)) + "...";
}

namespace detail {

/// Receives the parser's events and builds the value; the parser itself does not recurse.
class StrictJson {
 public:
  StrictJson(const std::string& where, std::size_t max_depth) : where_(where), max_depth_(max_depth) {}

  Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) { return add(value); }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    require<FileError>(!stack_.back()->contains(name), where_, ": JSON key \"", excerpt(name), "\" appears twice");
    key_ = name;
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& error) {
    const std::string_view what = error.what();  // "[json.exception...] parse error at line 1, ..."
    const auto bracket = what.find("] ");
    fail<FileError>(where_, ": malformed JSON near byte ", byte, ": ",
                    excerpt(what.substr(bracket == what.npos ? 0 : bracket + 2), 240));
  }

 private:
  Json* add(Json value, bool) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[key_] = std::move(value));
  }
  template <class V>
  bool add(V&& value) {
    add(Json(std::forward<V>(value)), true);
    return true;
  }
  bool open(Json value) {
    require<FileError>(stack_.size() < max_depth_, where_, ": JSON is nested deeper than ", max_depth_, " levels");
    stack_.push_back(add(std::move(value), true));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  const std::string& where_;
  std::size_t max_depth_;
  Json root_;
  std::string key_;
  std::vector<Json*> stack_;  // a parent does not grow while a child is open, so the pointers stay good
};

}  // namespace detail

/// Parses one JSON value that fills `bytes`. `where` begins the message of the FileError.
inline Json parse_json(std::string_view bytes, const std::string& where, std::size_t max_depth = 64) {
  // The parser takes a NUL for the end of its input and would ignore what follows.
  require<FileError>(bytes.find('\0') == std::string_view::npos, where, ": JSON contains a NUL byte");
  detail::StrictJson builder(where, max_depth);
  Json::sax_parse(bytes.begin(), bytes.end(), &builder);
  return builder.take();
}

inline Json read_json(const std::string& path) {
  const MappedFile file(path);
  return parse_json(file.bytes(), path);
}

/// UTF-8 text of a value, or FileError when one of its strings is not UTF-8.
inline std::string json_text(const Json& value, const std::string& where, int indent = -1) {
  try {
    return value.dump(indent);
  } catch (const Json::exception& error) {
    fail<FileError>(where, ": cannot be written as JSON: ", excerpt(error.what(), 240));
  }
}

inline void write_json(const std::string& path, const Json& value) {
  write_file(path, json_text(value, path, 2) + "\n");
}

/// Every place where two values differ, as "model.depth: 4 here, 6 there".
inline std::vector<std::string> json_differences(const Json& here, const Json& there, const std::string& at = "") {
  std::vector<std::string> out;
  const auto label = [&](const std::string& key) { return at.empty() ? key : at + "." + key; };
  const auto shown = [](const Json& v) { return excerpt(v.dump(-1, ' ', false, Json::error_handler_t::replace)); };
  const auto append = [&](const std::vector<std::string>& more) { out.insert(out.end(), more.begin(), more.end()); };
  if (here.is_object() && there.is_object()) {
    for (const auto& [key, value] : here.items())
      if (!there.contains(key)) out.push_back(label(key) + ": " + shown(value) + " here, absent there");
      else append(json_differences(value, there[key], label(key)));
    for (const auto& [key, value] : there.items())
      if (!here.contains(key)) out.push_back(label(key) + ": absent here, " + shown(value) + " there");
  } else if (here != there) {
    out.push_back((at.empty() ? std::string("value") : at) + ": " + shown(here) + " here, " + shown(there) + " there");
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
