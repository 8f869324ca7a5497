#pragma once
/// Typed fields of JSON objects from outside, with errors that name the place and the key.

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/shape.hpp"
#include "m3i/io/json.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Takes typed fields out of a JSON object and complains by name.
class JsonFields {
 public:
  JsonFields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    require<FileError>(object.is_object(), where_, ": expected a JSON object, found ", object.type_name());
  }
  bool has(const char* key) const { return object_.contains(key); }
  /// For a field that the caller reads by itself.
  void accept(const char* key) { asked_.insert(key); }
  std::string string(const char* key, bool required) {
    const Json* v = find(key, required);
    if (!v) return "";
    require<FileError>(v->is_string(), where_, ": \"", key, "\" is ", shown(*v), ", expected a string");
    const auto s = v->get<std::string>();
    require<FileError>(!required || !s.empty(), where_, ": \"", key, "\" is empty");
    return s;
  }
  Index integer(const char* key) {
    const Json& v = *find(key, true);
    // Unsigned numbers above the largest Index are whole numbers too, but not ours.
    const bool fits =
        v.is_number_integer() && (!v.is_number_unsigned() || v.get<std::uint64_t>() <= std::uint64_t(INT64_MAX));
    require<FileError>(fits, where_, ": \"", key, "\" is ", shown(v), ", expected a whole number");
    return v.get<Index>();
  }
  std::vector<double> numbers(const char* key, std::size_t count) {
    const Json* v = find(key, false);
    if (!v) return {};
    require<FileError>(v->is_array() && v->size() == count &&
                           std::all_of(v->begin(), v->end(), [](const Json& x) { return x.is_number(); }),
                       where_, ": \"", key, "\" is ", shown(*v), ", expected ", count, " numbers");
    return v->get<std::vector<double>>();
  }
  std::vector<std::string> strings(const char* key) {
    const Json* v = find(key, false);
    if (!v) return {};
    require<FileError>(v->is_array() && std::all_of(v->begin(), v->end(), [](const Json& x) { return x.is_string(); }),
                       where_, ": \"", key, "\" is ", shown(*v), ", expected a list of strings");
    return v->get<std::vector<std::string>>();
  }
  /// Everything must have been asked for: a misspelt key would otherwise be lost in silence.
  void finish() const {
    for (const auto& [key, value] : object_.items())
      require<FileError>(asked_.count(key) > 0, where_, ": unknown key \"", excerpt(key), "\"; known are ", known());
  }

 private:
  const Json* find(const char* key, bool required) {
    asked_.insert(key);
    const auto at = object_.find(key);
    require<FileError>(!required || at != object_.end(), where_, ": \"", key, "\" is missing");
    return at == object_.end() ? nullptr : &*at;
  }
  static std::string shown(const Json& v) { return excerpt(v.dump(-1, ' ', false, Json::error_handler_t::replace)); }
  std::string known() const {
    std::string out;
    for (const std::string& key : asked_) out += (out.empty() ? "" : ", ") + key;
    return out;
  }

  const Json& object_;
  std::string where_;
  std::set<std::string> asked_;
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
