#pragma once
/// A table as aligned text for the terminal.

#include <string>
#include <vector>

#include "m3i/train/progress.hpp"
#include "m3i/train/report.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Columns that hold numbers only are set to the right, others to the left, two spaces apart; one line a row.
inline std::string table_text(const Table& table) {
  std::vector<Index> width;
  std::vector<bool> numeric(table.header.size(), true);
  for (std::size_t c = 0; c < table.header.size(); ++c) {
    width.push_back(text_columns(table.header[c]));
    for (const auto& row : table.rows) {
      width[c] = std::max(width[c], text_columns(row[c]));
      numeric[c] = numeric[c] && detail::looks_numeric(row[c]);
    }
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string space(std::size_t(width[c] - text_columns(cells[c])), ' ');
      out += (c > 0 ? "  " : "") + (numeric[c] ? space + cells[c] : cells[c] + space);
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    return out + "\n";
  };
  std::string out = line(table.header);
  for (const auto& row : table.rows) out += line(row);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
