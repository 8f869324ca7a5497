#pragma once
/// Settings: one field of a configuration struct, with its name, its bounds and its way to JSON and back.
///
/// A configuration struct is plain data with one line per field:
///
///     struct PsatConfig {
///       Index queries = 300;
///       double dropout = 0;
///
///       template <class Self, class Field> static void fields(Self& self, Field&& field) {
///         field("queries", self.queries, "learnable queries (3.3)", at_least(1));
///         field("dropout", self.dropout, "fraction of activations set to zero", between(0, 1));
///       }
///     };
///
/// A field may be a bool, an integer, a double, text, an enumeration, std::optional, std::vector or std::array of
/// those, or another configuration struct. An enumeration counts from 0 and names its values by a free function
/// `enum_names(E)` that returns an array of texts. `train/config.hpp` reads, overrides, checks and prints.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"
#include "m3i/core/words.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// JSON whose keys keep the order in which they were written.
using OrderedJson = nlohmann::ordered_json;

/// The interval that a number, or each number of a list, must lie in.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_excluded = false;
  bool high_excluded = false;

  bool holds(double x) const { return (low_excluded ? x > low : x >= low) && (high_excluded ? x < high : x <= high); }
  /// ">= 1", "> 0", "in [0, 1)", or "" for every number.
  std::string text() const {
    constexpr double inf = std::numeric_limits<double>::infinity();
    if (low == -inf && high == inf) return "";
    if (high == inf) return m3i::text(low_excluded ? "> " : ">= ", low);
    if (low == -inf) return m3i::text(high_excluded ? "< " : "<= ", high);
    return m3i::text("in ", low_excluded ? '(' : '[', low, ", ", high, high_excluded ? ')' : ']');
  }
};
inline Range at_least(double low) { return {.low = low}; }
inline Range above(double low) { return {.low = low, .low_excluded = true}; }
inline Range between(double low, double high) { return {.low = low, .high = high}; }
inline Range from_below(double low, double high) {
  return {.low = low, .high = high, .high_excluded = true};
}  // [low, high)
inline Range above_upto(double low, double high) {
  return {.low = low, .high = high, .low_excluded = true};
}  // (low, high]

/// Where a value came from ("configs/paper.json", "--set") and its key ("pretrain.epochs").
struct Where {
  std::string origin, key;
};

/// One field of a configuration, bound to the struct it came from (which must outlive it).
struct Setting {
  std::string key;   ///< "pretrain.optimizer.learning_rate"
  std::string doc;   ///< what it means, in a line
  std::string type;  ///< "integer >= 1", "one of adam, sgd", "section"
  bool section = false;
  bool takes_text = false;  ///< an override is taken as it is, without JSON quotes
  bool takes_list = false;  ///< an override may be written 2,2,2,2 instead of [2,2,2,2]
  std::function<OrderedJson()> get;
  std::function<void(const OrderedJson&, const Where&)> set;  ///< empty if the struct was const
};

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  enum_names(e);
};

/// The name of an enumeration's value.
template <NamedEnum E>
std::string enum_name(E value) {
  return std::string(enum_names(value)[static_cast<std::size_t>(value)]);
}

namespace detail {

/// `"abc" (text)`, `2.5 (number)`, ...: what a message shows of a wrong value.
inline std::string found_text(const OrderedJson& json) {
  std::string value = json.dump(-1, ' ', true, OrderedJson::error_handler_t::replace);  // ASCII, so a cut is safe
  if (value.size() > 60) value = value.substr(0, 57) + "...";
  const char* kind = json.is_string()           ? "text"
                     : json.is_object()         ? "section"
                     : json.is_array()          ? "list"
                     : json.is_boolean()        ? "true or false"
                     : json.is_null()           ? "nothing"
                     : json.is_number_integer() ? "integer"
                                                : "number";
  return text(value, " (", kind, ")");
}

[[noreturn]] inline void wrong_value(const OrderedJson& json, const Where& where, const std::string& expected) {
  fail<ConfigError>(where.origin, ": ", where.key, ": found ", found_text(json), ", expected ", expected);
}

inline std::string with_range(std::string type, const Range& range) {
  const std::string bounds = range.text();
  return bounds.empty() ? type : type + " " + bounds;
}

/// How a type is named, written to JSON and read back.
template <class T>
struct Codec;

template <>
struct Codec<bool> {
  static std::string type(const Range&) { return "true or false"; }
  static OrderedJson write(bool value) { return value; }
  static bool read(const OrderedJson& json, const Where& where, const Range& range) {
    if (!json.is_boolean()) wrong_value(json, where, type(range));
    return json.get<bool>();
  }
};

template <std::integral T>
struct Codec<T> {
  static std::string type(Range range) {
    if (std::is_unsigned_v<T>) range.low = std::max(range.low, 0.0);
    return with_range("integer", range);
  }
  static OrderedJson write(T value) { return value; }
  static T read(const OrderedJson& json, const Where& where, const Range& range) {
    if (!json.is_number_integer()) wrong_value(json, where, type(range));
    const bool fits = json.is_number_unsigned() ? std::in_range<T>(json.get<std::uint64_t>())
                                                : std::in_range<T>(json.get<std::int64_t>());
    if (!fits || !range.holds(json.get<double>())) wrong_value(json, where, type(range));
    return json.get<T>();
  }
};

template <std::floating_point T>
struct Codec<T> {
  static std::string type(const Range& range) { return with_range("number", range); }
  static OrderedJson write(T value) { return value; }
  static T read(const OrderedJson& json, const Where& where, const Range& range) {
    if (!json.is_number() || !range.holds(json.get<double>())) wrong_value(json, where, type(range));
    return json.get<T>();
  }
};

template <>
struct Codec<std::string> {
  static std::string type(const Range&) { return "text"; }
  static OrderedJson write(const std::string& value) { return value; }
  static std::string read(const OrderedJson& json, const Where& where, const Range& range) {
    if (!json.is_string()) wrong_value(json, where, type(range));
    return json.get<std::string>();
  }
};

template <NamedEnum E>
struct Codec<E> {
  static std::vector<std::string> names() {
    std::vector<std::string> out;
    for (const auto& name : enum_names(E{})) out.emplace_back(name);
    return out;
  }
  static std::string type(const Range&) { return (names().size() == 1 ? "" : "one of ") + join_words(names()); }
  static OrderedJson write(E value) { return enum_name(value); }
  static E read(const OrderedJson& json, const Where& where, const Range& range) {
    const auto all = names();
    if (!json.is_string()) wrong_value(json, where, type(range));
    const auto word = json.get<std::string>();
    const auto at = std::find(all.begin(), all.end(), word);
    if (at == all.end()) {
      const std::string near = nearest_word(word, all);
      wrong_value(json, where, type(range) + (near.empty() ? "" : "; did you mean " + near + "?"));
    }
    return static_cast<E>(at - all.begin());
  }
};

template <class T>
struct Codec<std::optional<T>> {
  static std::string type(const Range& range) { return Codec<T>::type(range) + ", or null"; }
  static OrderedJson write(const std::optional<T>& value) { return value ? Codec<T>::write(*value) : OrderedJson(); }
  static std::optional<T> read(const OrderedJson& json, const Where& where, const Range& range) {
    if (json.is_null()) return std::nullopt;
    return Codec<T>::read(json, where, range);
  }
};

template <class List>
struct ListCodec {
  using T = typename List::value_type;
  static OrderedJson write(const List& list) {
    OrderedJson out = OrderedJson::array();
    for (const auto& value : list) out.push_back(Codec<T>::write(value));
    return out;
  }
  static T element(const OrderedJson& json, std::size_t i, const Where& where, const Range& range) {
    return Codec<T>::read(json[i], {where.origin, text(where.key, "[", i, "]")}, range);
  }
};

template <class T>
struct Codec<std::vector<T>> : ListCodec<std::vector<T>> {
  static std::string type(const Range& range) { return "list of (" + Codec<T>::type(range) + ")"; }
  static std::vector<T> read(const OrderedJson& json, const Where& where, const Range& range) {
    if (!json.is_array()) wrong_value(json, where, type(range));
    std::vector<T> out;
    for (std::size_t i = 0; i < json.size(); ++i) out.push_back(Codec::element(json, i, where, range));
    return out;
  }
};

template <class T, std::size_t N>
struct Codec<std::array<T, N>> : ListCodec<std::array<T, N>> {
  static std::string type(const Range& range) { return text("list of ", N, " (", Codec<T>::type(range), ")"); }
  static std::array<T, N> read(const OrderedJson& json, const Where& where, const Range& range) {
    if (!json.is_array() || json.size() != N) wrong_value(json, where, type(range));
    std::array<T, N> out{};
    for (std::size_t i = 0; i < N; ++i) out[i] = Codec::element(json, i, where, range);
    return out;
  }
};

struct AnyField {
  template <class T>
  void operator()(const char*, T&, const char*, Range = {}) const {}
};
template <class T>
inline constexpr bool is_list = false;
template <class T>
inline constexpr bool is_list<std::vector<T>> = true;
template <class T, std::size_t N>
inline constexpr bool is_list<std::array<T, N>> = true;
template <class T>
inline constexpr bool is_list<std::optional<T>> = is_list<T>;

}  // namespace detail

/// A struct with a static `fields(self, field)`.
template <class T>
concept ConfigSection = requires(T& config) {
  std::remove_const_t<T>::fields(config, detail::AnyField{});
};

namespace detail {
/// The visitor that turns a struct into a list of settings.
struct Binder {
  std::vector<Setting>& out;
  std::string prefix;

  template <class T>
  void operator()(const char* name, T& value, const char* doc, Range range = {}) const {
    using V = std::remove_const_t<T>;
    Setting s;
    s.key = prefix + name;
    s.doc = doc;
    if constexpr (ConfigSection<V>) {
      s.section = true;
      s.type = "section";
      const std::string inner = s.key + ".";
      out.push_back(std::move(s));
      V::fields(value, Binder{out, inner});
    } else {
      s.type = Codec<V>::type(range);
      s.takes_text = std::is_same_v<V, std::string> || std::is_enum_v<V>;
      s.takes_list = is_list<V>;
      s.get = [&value] { return Codec<V>::write(value); };
      if constexpr (!std::is_const_v<T>)
        s.set = [&value, range](const OrderedJson& json, const Where& where) {
          value = Codec<V>::read(json, where, range);
        };
      out.push_back(std::move(s));
    }
  }
};
}  // namespace detail

/// Every field of `config` and of its sections, in the order of declaration; a section comes before its fields.
template <ConfigSection C>
std::vector<Setting> settings(C& config) {
  std::vector<Setting> out;
  std::remove_const_t<C>::fields(config, detail::Binder{out, ""});
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
