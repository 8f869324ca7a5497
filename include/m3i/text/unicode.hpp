#pragma once
/// Text as code points: UTF-8, character classes, lower case, and the HTML character references of web captions.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>

#include "m3i/core/error.hpp"
#include "m3i/text/html_entities.hpp"
#include "m3i/text/unicode_tables.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace unicode {

/// Bytes of the UTF-8 character that starts at `at`, or 0 if there is none: cut off, overlong, a surrogate, or above
/// U+10FFFF.
inline std::size_t utf8_length(std::string_view s, std::size_t at, char32_t* code) {
  const auto byte = [&](std::size_t i) { return std::uint32_t(static_cast<unsigned char>(s[at + i])); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) {
    *code = lead;
    return 1;
  }
  const std::size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || at + n > s.size()) return 0;
  std::uint32_t c = lead & (0x7Fu >> n);
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0u) != 0x80u) return 0;
    c = c << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return 0;
  *code = c;
  return n;
}

inline void append_utf8(std::string& out, char32_t c) {
  const auto tail = [&](int shift) { out += char(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xC0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    out += char(0xE0 | c >> 12);
    tail(6), tail(0);
  } else {
    out += char(0xF0 | c >> 18);
    tail(12), tail(6), tail(0);
  }
}

/// Throws FileError at the first byte that is not UTF-8; `where` begins the message.
inline std::u32string decode_utf8(std::string_view s, std::string_view where) {
  std::u32string out;
  out.reserve(s.size());
  for (std::size_t at = 0; at < s.size();) {
    char32_t c = 0;
    const std::size_t n = utf8_length(s, at, &c);
    require<FileError>(n > 0, where, ": the text is not UTF-8 at byte ", at, "; convert it to UTF-8");
    out += c;
    at += n;
  }
  return out;
}

inline std::string encode_utf8(std::u32string_view s) {
  std::string out;
  out.reserve(s.size());
  for (const char32_t c : s) append_utf8(out, c);
  return out;
}

/// Bytes that are not UTF-8 become U+FFFD.
inline std::string repair_utf8(std::string_view s) {
  std::string out;
  for (std::size_t at = 0; at < s.size();) {
    char32_t c = 0xFFFD;
    const std::size_t n = utf8_length(s, at, &c);
    append_utf8(out, c);
    at += n ? n : 1;
  }
  return out;
}

/// Binary search in a sorted table of ranges; null if c lies in none.
template <class Range, std::size_t N>
const Range* find(const Range (&table)[N], char32_t c) {
  const auto it = std::upper_bound(std::begin(table), std::end(table), c,
                                   [](char32_t value, const Range& range) { return value < range.first; });
  return it != std::begin(table) && c <= std::prev(it)->last ? std::prev(it) : nullptr;
}

inline bool is_letter(char32_t c) {
  return c < 0x80 ? (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') : find(letters, c) != nullptr;
}
inline bool is_number(char32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : find(numbers, c) != nullptr; }
/// White_Space of Unicode, and the separators U+001C to U+001F.
inline bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// Whether the capital sigma at `at` is the last letter of a word, as Unicode's SpecialCasing defines it: a cased
/// character before it and none after it, ignorable ones apart.
inline bool is_final_sigma(std::u32string_view s, std::size_t at) {
  const auto cased_neighbour = [&](std::ptrdiff_t step) {
    for (auto i = std::ptrdiff_t(at) + step; i >= 0 && i < std::ptrdiff_t(s.size()); i += step)
      if (!find(case_ignorable, s[std::size_t(i)])) return find(cased, s[std::size_t(i)]) != nullptr;
    return false;
  };
  return cased_neighbour(-1) && !cased_neighbour(1);
}

/// Lower case of all scripts (Unicode 14.0, no language rules: "I" becomes "i" in Turkish too).
inline std::u32string lower(std::u32string_view s) {
  std::u32string out;
  out.reserve(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) {
    const char32_t c = s[i];
    if (c < 0x80) {
      out += c >= 'A' && c <= 'Z' ? c + 32 : c;
    } else if (c == 0x130) {
      out += U"i\u0307";
    } else if (c == 0x3A3) {
      out += is_final_sigma(s, i) ? char32_t(0x3C2) : char32_t(0x3C3);
    } else {
      const LowerRange* range = find(lower_ranges, c);
      const bool upper = range && (c - range->first) % range->step == 0;
      out += upper ? char32_t(std::int32_t(c) + range->delta) : c;
    }
  }
  return out;
}

namespace detail {

inline const Entity* find_entity(std::string_view name) {
  const auto it = std::lower_bound(std::begin(entities), std::end(entities), name,
                                   [](const Entity& e, std::string_view n) { return std::string_view(e.name) < n; });
  return it != std::end(entities) && it->name == name ? it : nullptr;
}

/// What a numeric reference stands for by HTML 5's rules: Windows-1252 for U+0080 to U+009F, U+FFFD for what is no
/// character, nothing for control characters and noncharacters.
inline void append_numeric(std::u32string& out, std::uint64_t c) {
  constexpr char32_t windows[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,  //
                                    0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,    //
                                    0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,  //
                                    0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};
  if (c >= 0x80 && c < 0xA0) out += windows[c - 0x80];
  else if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) out += char32_t(0xFFFD);
  else if (c == 0x0D) out += char32_t(0x0D);
  else if (const bool control = (c < 0x20 && c != 0x09 && c != 0x0A && c != 0x0C) || c == 0x7F,
           nothing = (c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF);
           !control && !nothing)
    out += char32_t(c);
}

/// The reference that starts at s[at] == '&': appends what it stands for and returns its length, or 0 if it is none.
inline std::size_t unescape_one(std::u32string_view s, std::size_t at, std::u32string& out) {
  std::size_t i = at + 1;
  const auto digit = [&](bool hex) -> int {
    if (i >= s.size()) return -1;
    const char32_t c = s[i];
    if (c >= '0' && c <= '9') return int(c - '0');
    if (hex && c >= 'a' && c <= 'f') return int(c - 'a') + 10;
    return hex && c >= 'A' && c <= 'F' ? int(c - 'A') + 10 : -1;
  };
  if (i < s.size() && s[i] == '#') {
    ++i;
    const bool hex = i < s.size() && (s[i] == 'x' || s[i] == 'X');
    if (hex) ++i;
    if (digit(hex) < 0) return 0;
    std::uint64_t value = 0;
    for (int d = digit(hex); d >= 0; ++i, d = digit(hex))
      value = std::min<std::uint64_t>(value * (hex ? 16 : 10) + std::uint64_t(d), 0x110000);
    append_numeric(out, value);
    return i + (i < s.size() && s[i] == ';') - at;
  }
  std::string name;
  for (; i < s.size() && name.size() < 32 && s[i] < 0x80 && std::strchr("\t\n\f <&#;", int(s[i])) == nullptr; ++i)
    name += char(s[i]);
  if (i < s.size() && s[i] == ';')
    if (const Entity* e = find_entity(name)) {
      out += char32_t(e->code);
      return i + 1 - at;
    }
  for (; name.size() > 1; name.pop_back())  // the longest beginning that needs no semicolon
    if (const Entity* e = find_entity(name); e && e->bare) {
      out += char32_t(e->code);
      return name.size() + 1;
    }
  return 0;
}

}  // namespace detail

/// Replaces HTML character references once: numeric ones, and the named ones of HTML 4 (and apos).
inline std::u32string html_unescape(std::u32string_view s) {
  std::u32string out;
  out.reserve(s.size());
  for (std::size_t i = 0; i < s.size();) {
    const std::size_t n = s[i] == '&' ? detail::unescape_one(s, i, out) : 0;
    if (n == 0) out += s[i];
    i += n ? n : 1;
  }
  return out;
}

/// Every run of white space becomes one space; none is left at the ends.
inline std::u32string collapse_space(std::u32string_view s) {
  std::u32string out;
  out.reserve(s.size());
  for (const char32_t c : s) {
    if (!is_space(c)) out += c;
    else if (!out.empty() && out.back() != ' ') out += U' ';
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace unicode
}  // namespace M3I_ABI
}  // namespace m3i
