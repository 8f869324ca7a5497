#pragma once
/// Words in messages: the nearest of a list to a mistyped one, lists with commas.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Number of single-character edits (insert, delete, replace, swap of neighbours) between two words.
inline Index edit_distance(std::string_view a, std::string_view b) {
  const std::size_t n = a.size(), m = b.size();
  std::vector<std::vector<Index>> d(n + 1, std::vector<Index>(m + 1));
  for (std::size_t i = 0; i <= n; ++i) d[i][0] = static_cast<Index>(i);
  for (std::size_t j = 0; j <= m; ++j) d[0][j] = static_cast<Index>(j);
  for (std::size_t i = 1; i <= n; ++i)
    for (std::size_t j = 1; j <= m; ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[n][m];
}

/// The candidate nearest to a mistyped word, or "" if none is near (more than a third of the letters differ).
inline std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  if (word.size() > 100) return best;
  Index least = std::max<Index>(1, static_cast<Index>(word.size()) / 3) + 1;
  for (const auto& candidate : candidates)
    if (const Index d = edit_distance(word, candidate); d < least) least = d, best = candidate;
  return best;
}

inline std::string join_words(const std::vector<std::string>& words, std::string_view separator = ", ") {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : std::string(separator)) + word;
  return out;
}

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
