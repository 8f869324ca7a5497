#pragma once
/// CLIP's byte-pair tokenizer: text to the ids that the public CLIP checkpoints were trained with.
///
/// Sennrich et al. 2016, arXiv:1508.07909 (byte-pair encoding); Radford et al. 2021, arXiv:2103.00020 (CLIP).

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/text/text_file.hpp"
#include "m3i/text/unicode.hpp"
#include "m3i/text/vocab_json.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What happens to a text with more tokens than the context holds: an error; its end is lost, as in CLIP; or it becomes
/// several rows, whose embeddings the caller averages.
enum class LongText { error, truncate, mean_of_chunks };

/// Texts as the rows of a text tower's input.
struct TokenRows {
  Tensor<std::int64_t> ids;   ///< [rows, context]: start, tokens, end, then zeros
  std::vector<Index> ends;    ///< position of the end token in each row, where CLIP reads the embedding
  std::vector<Index> text;    ///< which text each row came from; not decreasing
  std::vector<Index> tokens;  ///< for each text, how many tokens it has (start and end not counted)
  std::vector<Index> lost;    ///< for each text, how many of them are in no row
};

/// Text cleaning of CLIP: HTML character references are replaced twice (captions from the web are often escaped twice),
/// white space is collapsed, and letters become lower case. Mis-decoded text ("Ã©") is not repaired.
inline std::u32string clean_caption(std::string_view caption) {
  std::u32string s = unicode::decode_utf8(caption, "tokenizer");
  s = unicode::html_unescape(unicode::html_unescape(s));
  return unicode::lower(unicode::collapse_space(s));
}

namespace detail {

/// Characters of the word that starts at s[at], which is no space: a special token, the ending of a contraction, a run
/// of letters, one number character, or a run of anything else but spaces.
inline std::size_t caption_word(std::u32string_view s, std::size_t at) {
  const auto starts = [&](std::u32string_view word) { return s.substr(at, word.size()) == word; };
  for (const std::u32string_view special : {U"<|startoftext|>", U"<|endoftext|>"})
    if (starts(special)) return special.size();
  // U+017F, the long s, is a lower-case letter that the reference's case-insensitive pattern takes for an s.
  for (const std::u32string_view ending : {U"'s", U"'\u017F", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"})
    if (starts(ending)) return ending.size();
  if (unicode::is_number(s[at])) return 1;
  const bool letters = unicode::is_letter(s[at]);
  std::size_t end = at + 1;
  for (; end < s.size(); ++end) {
    const char32_t c = s[end];
    const bool inside =
        letters ? unicode::is_letter(c) : !(unicode::is_space(c) || unicode::is_letter(c) || unicode::is_number(c));
    if (!inside) break;
  }
  return end - at;
}

/// The printable stand-in of each byte in token files: itself where it is printable Latin-1, else 256, 257, ...
/// `order` lists the bytes as the vocabulary does, printable ones first.
struct ByteNames {
  std::array<std::string, 256> name;
  std::array<unsigned char, 256> order{};

  ByteNames() {
    std::size_t n = 0;
    char32_t extra = 256;
    for (const bool printable : {true, false})
      for (unsigned b = 0; b < 256; ++b) {
        if (printable != ((b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE)) continue;
        order[n++] = static_cast<unsigned char>(b);
        unicode::append_utf8(name[b], printable ? char32_t(b) : extra++);
      }
  }
};

struct MergeRule {
  static constexpr int none = std::numeric_limits<int>::max();
  int rank = none;  ///< lower ranks are merged first
  int id = -1;      ///< what the pair becomes
};

/// "left right" on each line, after a first line that names the version.
inline std::vector<std::pair<std::string, std::string>> parse_merges(std::string_view bytes,
                                                                     const std::string& where,
                                                                     std::size_t most) {
  std::vector<std::pair<std::string, std::string>> out;
  std::size_t line = 0;
  for (std::size_t at = 0; at < bytes.size() && out.size() < most; ++line) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    std::string_view words = bytes.substr(at, end - at);
    at = end + 1;
    if (!words.empty() && words.back() == '\r') words.remove_suffix(1);
    if (line == 0) {
      require<FileError>(words.find("#version") != words.npos, where,
                         ": the first line does not say #version; is this a byte-pair merge list?");
    } else if (!words.empty() || at < bytes.size()) {
      const std::size_t gap = words.find(' ');
      const bool pair = gap != words.npos && gap > 0 && gap + 1 < words.size() && words.rfind(' ') == gap;
      require<FileError>(pair, where, ": line ", line + 1, " is not two tokens with a space between");
      out.emplace_back(words.substr(0, gap), words.substr(gap + 1));
    }
  }
  require<FileError>(line > 0, where, ": is empty");
  return out;
}

}  // namespace detail

/// Immutable once made, so that threads may share one.
class BytePairTokenizer {
 public:
  static constexpr const char* start_token = "<|startoftext|>";
  static constexpr const char* end_token = "<|endoftext|>";
  static constexpr std::size_t clip_merges = 49152 - 256 - 2;  ///< the list holds more than CLIP uses

  /// From CLIP's own bpe_simple_vocab_16e6.txt, or the .gz of it when M3I_ZLIB is on.
  static BytePairTokenizer from_clip(const std::string& path) { return from_merges(read_text_file(path), path); }
  /// From the text of such a file: ids are the bytes, the bytes that end a word, the merges, start and end.
  static BytePairTokenizer from_merges(std::string_view bytes, const std::string& where) {
    const auto merges = detail::parse_merges(bytes, where, clip_merges);
    const detail::ByteNames names;
    std::vector<std::string> tokens;
    for (const char* ending : {"", "</w>"})
      for (const unsigned char b : names.order) tokens.push_back(names.name[b] + ending);
    for (const auto& [left, right] : merges) tokens.push_back(left + right);
    tokens.insert(tokens.end(), {start_token, end_token});
    return BytePairTokenizer(std::move(tokens), merges, where);
  }
  /// From vocab.json and merges.txt of a Hugging Face folder.
  static BytePairTokenizer from_hugging_face(const std::string& vocab_json, const std::string& merges_txt) {
    const auto merges = detail::parse_merges(read_text_file(merges_txt), merges_txt, clip_merges);
    return BytePairTokenizer(parse_vocab_json(read_text_file(vocab_json), vocab_json), merges, vocab_json);
  }

  Index vocab_size() const { return Index(tokens_.size()); }
  Index start_id() const { return start_; }
  Index end_id() const { return end_; }
  const std::string& token(Index id) const { return tokens_[checked(id)]; }

  /// Ids of a text, without start and end. Throws FileError unless the text is UTF-8.
  std::vector<Index> encode(std::string_view caption) const {
    const std::u32string s = clean_caption(caption);
    std::vector<Index> out;
    std::vector<int> symbols;
    for (std::size_t at = 0; at < s.size();) {
      if (unicode::is_space(s[at])) {
        ++at;
        continue;
      }
      const std::size_t length = detail::caption_word(s, at);
      const std::string word = unicode::encode_utf8(std::u32string_view(s).substr(at, length));
      at += length;
      if (word == start_token || word == end_token) {
        out.push_back(word == start_token ? start_ : end_);
        continue;
      }
      symbols.clear();
      for (const char c : word) symbols.push_back(byte_[static_cast<unsigned char>(c)]);
      symbols.back() = last_byte_[static_cast<unsigned char>(word.back())];
      merge(symbols);
      out.insert(out.end(), symbols.begin(), symbols.end());
    }
    return out;
  }
  Index count(std::string_view caption) const { return Index(encode(caption).size()); }

  /// Text of ids, in lower case and with a space after each word; start tokens are skipped and the first end token ends
  /// it. Bytes that are not UTF-8 become U+FFFD.
  std::string decode(const std::vector<Index>& ids) const {
    std::string bytes;
    for (const Index id : ids) {
      const std::string& name = tokens_[checked(id)];
      if (id == end_) break;
      if (id == start_) continue;
      append_bytes(bytes, name);
    }
    if (!bytes.empty() && bytes.back() == ' ') bytes.pop_back();
    return unicode::repair_utf8(bytes);
  }

  /// Rows of `context` ids. With LongText::error, a text that does not fit throws ShapeError with its token count.
  TokenRows tokenize(const std::vector<std::string>& captions,
                     LongText policy = LongText::truncate,
                     Index context = 77) const {
    require(context >= 3, "tokenizer: a context of ", context, " has no room for start, a token and end");
    const Index room = context - 2;
    TokenRows rows;
    std::vector<std::int64_t> ids;
    for (std::size_t t = 0; t < captions.size(); ++t) {
      const std::vector<Index> all = encode(captions[t]);
      const Index n = Index(all.size());
      require(policy != LongText::error || n <= room, "tokenizer: text ", t, " (\"",
              unicode::repair_utf8(captions[t].substr(0, 60)), "\") has ", n, " tokens, the context of ", context,
              " holds ", room, "; shorten it, or choose truncate or mean_of_chunks");
      const Index kept = policy == LongText::mean_of_chunks ? n : std::min(n, room);
      for (Index begin = 0; begin == 0 || begin < kept; begin += room) {
        const Index end = std::min(kept, begin + room), row = Index(ids.size());
        ids.push_back(start_);
        ids.insert(ids.end(), all.begin() + begin, all.begin() + end);
        ids.push_back(end_);
        ids.resize(std::size_t(row + context), 0);
        rows.ends.push_back(end - begin + 1);
        rows.text.push_back(Index(t));
      }
      rows.tokens.push_back(n);
      rows.lost.push_back(n - kept);
    }
    rows.ids = Tensor<std::int64_t>::from(ids, {Index(rows.ends.size()), context});
    return rows;
  }
  TokenRows tokenize(const std::string& caption, LongText policy = LongText::truncate, Index context = 77) const {
    return tokenize(std::vector<std::string>{caption}, policy, context);
  }

 private:
  BytePairTokenizer(std::vector<std::string> tokens,
                    const std::vector<std::pair<std::string, std::string>>& merges,
                    const std::string& where)
      : tokens_(std::move(tokens)) {
    std::unordered_map<std::string_view, int> ids;
    for (std::size_t i = 0; i < tokens_.size(); ++i)
      require<FileError>(ids.emplace(tokens_[i], int(i)).second, where, ": token \"", tokens_[i], "\" occurs twice");
    const auto id = [&](const std::string& token) {
      const auto it = ids.find(token);
      require<FileError>(it != ids.end(), where, ": has no token \"", token,
                         "\"; do the vocabulary and the merge list "
                         "belong together?");
      return it->second;
    };
    const detail::ByteNames names;
    for (std::size_t b = 0; b < 256; ++b) {
      byte_[b] = id(names.name[b]);
      last_byte_[b] = id(names.name[b] + "</w>");
      byte_of_name_.emplace(names.name[b], char(static_cast<unsigned char>(b)));
    }
    start_ = id(start_token);
    end_ = id(end_token);
    for (const auto& [left, right] : merges) {
      const detail::MergeRule merged{int(merges_.size()), id(left + right)};
      const bool fresh = merges_.emplace(key(id(left), id(right)), merged).second;
      require<FileError>(fresh, where, ": the merge \"", left, " ", right, "\" occurs twice");
    }
  }

  static std::uint64_t key(int left, int right) {
    return std::uint64_t(std::uint32_t(left)) << 32 | std::uint32_t(right);
  }
  detail::MergeRule rule(int left, int right) const {
    const auto it = merges_.find(key(left, right));
    return it == merges_.end() ? detail::MergeRule{} : it->second;
  }
  std::size_t checked(Index id) const {
    require(id >= 0 && id < vocab_size(), "tokenizer: id ", id, " is not below the vocabulary's ", vocab_size());
    return std::size_t(id);
  }

  /// Merges the pair of lowest rank wherever it stands, from left to right, until no known pair is left. The rules of
  /// unchanged pairs are kept from pass to pass, so that a very long word stays cheap.
  void merge(std::vector<int>& symbols) const {
    constexpr int stale = -1;
    std::vector<detail::MergeRule> rules(symbols.size());  // rules[i] belongs to symbols i and i + 1
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) rules[i] = rule(symbols[i], symbols[i + 1]);
    for (;;) {
      const auto best = std::min_element(rules.begin(), rules.end(), [](auto& a, auto& b) { return a.rank < b.rank; });
      if (best == rules.end() || best->rank == detail::MergeRule::none) return;
      const detail::MergeRule chosen = *best;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < symbols.size(); ++kept) {
        const bool merged = rules[i].rank == chosen.rank;
        symbols[kept] = merged ? chosen.id : symbols[i];
        if (merged && kept > 0) rules[kept - 1].rank = stale;
        rules[kept] = merged ? detail::MergeRule{stale, -1} : rules[i];
        i += merged ? 2 : 1;
      }
      symbols.resize(kept);
      rules.resize(kept);
      for (std::size_t i = 0; i + 1 < kept; ++i)
        if (rules[i].rank == stale) rules[i] = rule(symbols[i], symbols[i + 1]);
      rules.back() = {};
    }
  }

  void append_bytes(std::string& out, std::string_view name) const {
    const bool ends_word = name.size() > 4 && name.substr(name.size() - 4) == "</w>";
    if (ends_word) name.remove_suffix(4);
    for (std::size_t at = 0; at < name.size();) {
      char32_t c = 0;
      const std::size_t n = std::max<std::size_t>(unicode::utf8_length(name, at, &c), 1);
      const auto it = byte_of_name_.find(std::string(name.substr(at, n)));
      if (it != byte_of_name_.end()) out += it->second;
      at += n;
    }
    if (ends_word) out += ' ';
  }

  std::vector<std::string> tokens_;
  std::array<int, 256> byte_{}, last_byte_{};
  std::unordered_map<std::string, char> byte_of_name_;
  std::unordered_map<std::uint64_t, detail::MergeRule> merges_;
  int start_ = 0, end_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
