#pragma once
/// A byte-pair vocabulary learned from captions, for towers that are trained from scratch where no published vocabulary
/// is at hand. Sennrich et al. 2016, arXiv:1508.07909, algorithm 1.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "m3i/text/bpe.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The text of a merge list with at most `count` merges: always the most frequent pair (first in byte order among
/// equals), until no pair occurs twice. BytePairTokenizer::from_merges reads it.
inline std::string learn_merges(const std::vector<std::string>& captions, Index count) {
  const detail::ByteNames names;
  std::map<std::vector<std::string>, Index> words;  // symbols of a word -> how often it occurs
  for (const auto& caption : captions) {
    const std::u32string s = clean_caption(caption);
    for (std::size_t at = 0; at < s.size();) {
      if (unicode::is_space(s[at])) {
        ++at;
        continue;
      }
      const std::size_t length = detail::caption_word(s, at);
      std::vector<std::string> symbols;
      for (const char c : unicode::encode_utf8(std::u32string_view(s).substr(at, length)))
        symbols.push_back(names.name[static_cast<unsigned char>(c)]);
      symbols.back() += "</w>";
      ++words[symbols];
      at += length;
    }
  }
  std::string merges = "#version: m3i 1\n";
  for (Index n = 0; n < count; ++n) {
    std::map<std::pair<std::string, std::string>, Index> pairs;
    for (const auto& [word, times] : words)
      for (std::size_t i = 0; i + 1 < word.size(); ++i) pairs[{word[i], word[i + 1]}] += times;
    auto best = pairs.end();
    for (auto at = pairs.begin(); at != pairs.end(); ++at)
      if (best == pairs.end() || at->second > best->second) best = at;
    if (best == pairs.end() || best->second < 2) break;
    const auto [left, right] = best->first;
    merges += left + " " + right + "\n";
    std::map<std::vector<std::string>, Index> next;
    for (const auto& [word, times] : words) {
      std::vector<std::string> merged;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool pair = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
        merged.push_back(pair ? left + right : word[i]);
        i += pair ? 1 : 0;
      }
      next[merged] += times;
    }
    words = std::move(next);
  }
  return merges;
}

}  // namespace M3I_ABI
}  // namespace m3i
