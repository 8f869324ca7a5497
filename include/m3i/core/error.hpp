#pragma once
/// Errors are exceptions derived from Error. A message names the operation or file, what was found, what was
/// expected and what to do; it is built only when the check fails.

#include <charconv>
#include <concepts>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "m3i/core/config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Base of every error that m3i throws.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// A tensor's shape, or an argument of an operation, does not fit.
struct ShapeError : Error {
  using Error::Error;
};
/// A file is missing, unreadable, malformed, or could not be written.
struct FileError : Error {
  using Error::Error;
};
/// A device is missing, out of memory, or reported a failure.
struct DeviceError : Error {
  using Error::Error;
};
/// A setting (configuration key, command-line value) is wrong.
struct ConfigError : Error {
  using Error::Error;
};
/// A value that must be finite is not.
struct NumericError : Error {
  using Error::Error;
};

namespace detail {
inline void append(std::string& out, char part) { out += part; }
template <std::same_as<bool> B>  // a template, so that a string literal does not decay to it
void append(std::string& out, B part) {
  out += part ? "true" : "false";
}
template <class N>
concept Number = std::is_arithmetic_v<N> && !std::same_as<N, bool> && !std::same_as<N, char>;
/// Anything that can describe itself (Shape, Device, ...).
template <class D>
concept Describable = std::convertible_to<decltype(std::declval<const D&>().text()), std::string>;

template <Number N>
void append(std::string& out, N part) {
  char digits[48];
  const auto end = std::to_chars(digits, digits + sizeof digits, part).ptr;
  out.append(digits, end);
}
template <Describable D>
void append(std::string& out, const D& part) {
  out += part.text();
}

/// One part of a message, whatever its type: words, or a value and how to append it. The many messages of a program
/// are then all joined by one function; one for each list of types would be a tenth of the compile time.
struct MessagePart {
  std::string_view words;
  const void* value = nullptr;
  void (*append_value)(std::string&, const void*) = nullptr;

  template <class P>
  MessagePart(const P& part) {
    if constexpr (std::convertible_to<const P&, std::string_view>) {
      words = part;
    } else {
      value = &part;
      append_value = [](std::string& out, const void* v) { append(out, *static_cast<const P*>(v)); };
    }
  }
};
inline std::string join(std::initializer_list<MessagePart> parts) {
  std::string out;
  for (const MessagePart& part : parts)
    if (part.value) part.append_value(out, part.value);
    else out += part.words;
  return out;
}
template <class E>
[[noreturn, gnu::cold]] void throw_joined(std::initializer_list<MessagePart> parts) {
  throw E(join(parts));
}

}  // namespace detail

/// Joins strings, numbers and self-describing values: text("got ", shape, " of ", 3).
template <class... Parts>
std::string text(const Parts&... parts) {
  return detail::join({detail::MessagePart(parts)...});
}

/// Throws E with the joined parts.
template <class E = ShapeError, class... Parts>
[[noreturn, gnu::cold]] void fail(const Parts&... parts) {
  detail::throw_joined<E>({detail::MessagePart(parts)...});
}

/// Throws E unless `ok`: require(a == b, "add: ", a, " against ", b).
template <class E = ShapeError, class... Parts>
void require(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail<E>(parts...);
}

}  // namespace M3I_ABI
}  // namespace m3i
