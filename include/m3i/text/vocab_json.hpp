#pragma once
/// vocab.json of Hugging Face tokenizers: one JSON object from token to id. A reader for just that, so that tokenizers
/// need no JSON library.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"
#include "m3i/text/unicode.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

class VocabJsonReader {
 public:
  VocabJsonReader(std::string_view bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  std::vector<std::pair<std::string, Index>> read() {
    std::vector<std::pair<std::string, Index>> out;
    expect('{');
    if (!accept('}')) {
      do {
        std::string token = string();
        expect(':');
        out.emplace_back(std::move(token), number());
      } while (accept(','));
      expect('}');
    }
    skip_space();
    require_here(at_ == bytes_.size(), "the end of the file");
    return out;
  }

 private:
  void require_here(bool ok, const char* expected) const {
    require<FileError>(ok, where_, ": malformed vocabulary at byte ", at_, ": expected ", expected);
  }
  void skip_space() {
    while (at_ < bytes_.size() && (bytes_[at_] == ' ' || (bytes_[at_] >= '\t' && bytes_[at_] <= '\r'))) ++at_;
  }
  bool accept(char c) {
    skip_space();
    const bool here = at_ < bytes_.size() && bytes_[at_] == c;
    at_ += here;
    return here;
  }
  void expect(char c) {
    const char expected[] = {'\'', c, '\'', '\0'};
    const bool found = accept(c);
    require_here(found, expected);
  }
  Index number() {
    skip_space();
    const std::size_t begin = at_;
    Index value = 0;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_) {
      value = value * 10 + (bytes_[at_] - '0');
      require_here(value <= INT32_MAX, "an id below 2^31");
    }
    require_here(at_ > begin && (at_ == begin + 1 || bytes_[begin] != '0'), "an id: a plain integer of at least 0");
    return value;
  }
  std::string string() {
    expect('"');
    std::string out;
    for (;;) {
      require_here(at_ < bytes_.size(), "a closing quotation mark");
      char32_t c = 0;
      const std::size_t n = unicode::utf8_length(bytes_, at_, &c);
      require_here(n > 0 && c >= 0x20, "UTF-8 without control characters");
      at_ += n;
      if (c == '"') return out;
      unicode::append_utf8(out, c == '\\' ? escape() : c);
    }
  }
  char32_t escape() {
    require_here(at_ < bytes_.size(), "an escape sequence");
    switch (bytes_[at_++]) {
      case '"': return '"';
      case '\\': return '\\';
      case '/': return '/';
      case 'b': return '\b';
      case 'f': return '\f';
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case 'u': break;
      default: require_here(false, "an escape sequence");
    }
    const char32_t high = four_digits();
    if (high < 0xD800 || high >= 0xE000) return high;
    require_here(high < 0xDC00 && bytes_.substr(at_, 2) == "\\u", "a pair of surrogates");
    at_ += 2;
    const char32_t low = four_digits();
    require_here(low >= 0xDC00 && low < 0xE000, "a pair of surrogates");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }
  char32_t four_digits() {
    char32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = at_ < bytes_.size() ? bytes_[at_] : '\0';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      require_here(digit >= 0, "four hexadecimal digits");
      value = value * 16 + char32_t(digit);
    }
    return value;
  }

  std::string_view bytes_, where_;
  std::size_t at_ = 0;
};

}  // namespace detail

/// Tokens by id. Every id from 0 to the largest must occur once, and every token once. `where` begins the message of
/// the FileError.
inline std::vector<std::string> parse_vocab_json(std::string_view bytes, std::string_view where) {
  auto pairs = detail::VocabJsonReader(bytes, where).read();
  std::vector<std::string> tokens(pairs.size());
  std::vector<bool> seen(pairs.size());
  for (auto& [token, id] : pairs) {
    require<FileError>(id < Index(pairs.size()), where, ": token \"", token, "\" has id ", id, ", but there are only ",
                       pairs.size(), " tokens");
    require<FileError>(!seen[std::size_t(id)], where, ": tokens \"", tokens[std::size_t(id)], "\" and \"", token,
                       "\" share the id ", id);
    seen[std::size_t(id)] = true;
    tokens[std::size_t(id)] = std::move(token);
  }
  return tokens;
}

}  // namespace M3I_ABI
}  // namespace m3i
