#pragma once
/// What SVG and HTML need: escaped text, numbers that do not depend on the locale, base64.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
/// Length of the well-formed UTF-8 character at the start of `s`, 0 if there is none.
inline std::size_t utf8_length(std::string_view s) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const auto follows = [&](std::size_t i) { return i < s.size() && (byte(i) & 0xC0u) == 0x80u; };
  if (s.empty()) return 0;
  const unsigned a = byte(0);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF) return follows(1) ? 2 : 0;
  if (a >= 0xE0 && a <= 0xEF) {
    if (!follows(1) || !follows(2)) return 0;
    const bool overlong = a == 0xE0 && byte(1) < 0xA0, surrogate = a == 0xED && byte(1) > 0x9F;
    return overlong || surrogate ? 0 : 3;
  }
  if (a >= 0xF0 && a <= 0xF4) {
    if (!follows(1) || !follows(2) || !follows(3)) return 0;
    return (a == 0xF0 && byte(1) < 0x90) || (a == 0xF4 && byte(1) > 0x8F) ? 0 : 4;
  }
  return 0;
}
}  // namespace detail

/// Text that is safe between tags and inside quoted attributes of SVG and HTML. Bytes that are not UTF-8 become U+FFFD;
/// control characters, which XML forbids, are left out.
inline std::string escape_markup(std::string_view raw) {
  std::string out;
  for (std::size_t i = 0; i < raw.size();) {
    const std::size_t length = detail::utf8_length(raw.substr(i));
    const char c = raw[i];
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      ++i;
      continue;
    }
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else if (c == '\'') out += "&#39;";
    else if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += raw.substr(i, length);
    i += length;
  }
  return out;
}

/// A number with a fixed count of decimals, with a point in every locale: fixed_text(2.5, 2) is "2.50". "n/a" unless
/// finite.
inline std::string fixed_text(double value, int decimals) {
  if (!std::isfinite(value)) return "n/a";
  char out[400];
  const auto end = std::to_chars(out, out + sizeof out, value, std::chars_format::fixed, decimals).ptr;
  std::string text(out, end);
  if (text.front() == '-' && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);  // no "-0.0"
  return text;
}

/// A number as a reader wants it: "0.25", "12 000", "2×10⁻⁵"; `digits` significant ones at most.
inline std::string number_text(double value, int digits = 6) {
  if (!std::isfinite(value)) return "n/a";
  if (value == 0) return "0";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific, digits - 1).ptr;
  std::string mantissa(buffer, end);
  const auto e = mantissa.find('e');
  int exponent = 0;
  for (std::size_t i = e + 2; i < mantissa.size(); ++i) exponent = exponent * 10 + (mantissa[i] - '0');
  if (mantissa[e + 1] == '-') exponent = -exponent;
  mantissa.resize(e);
  if (mantissa.find('.') != std::string::npos) {
    while (mantissa.back() == '0') mantissa.pop_back();
    if (mantissa.back() == '.') mantissa.pop_back();
  }
  if (exponent < -4 || exponent > 5) {
    static constexpr const char* raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    std::string power = exponent < 0 ? "⁻" : "";
    for (const char c : std::to_string(exponent < 0 ? -exponent : exponent)) power += raised[c - '0'];
    if (mantissa == "1" || mantissa == "-1") return (mantissa == "-1" ? "−10" : "10") + power;
    if (mantissa.front() == '-') mantissa = "−" + mantissa.substr(1);
    return mantissa + "×10" + power;
  }
  const int point = static_cast<int>(mantissa.find('.'));
  const int decimals = point < 0 ? 0 : static_cast<int>(mantissa.size()) - point - 1;
  std::string out = fixed_text(value, std::max(0, decimals - exponent));
  if (std::abs(value) >= 1e4) {  // groups of three, split by a narrow space
    auto at = out.find('.');
    if (at == std::string::npos) at = out.size();
    const std::size_t first = out.front() == '-' ? 1 : 0;
    while (at > first + 3) out.insert(at -= 3, "\u202F");
  }
  return out.front() == '-' ? "−" + out.substr(1) : out;
}

/// Base64 with padding (RFC 4648).
inline std::string base64(std::string_view bytes) {
  static constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t block = 0;
    for (std::size_t k = 0; k < 3; ++k)
      block = block << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? letters[block >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
