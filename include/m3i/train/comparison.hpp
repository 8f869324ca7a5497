#pragma once
/// Two methods compared on the same subjects, from the CSV files that `evaluate` writes.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <compare>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/core/error.hpp"
#include "m3i/metrics/paired.hpp"
#include "m3i/metrics/summary.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A table of texts with named columns.
struct CsvTable {
  std::string path;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  bool has(const std::string& name) const { return std::find(columns.begin(), columns.end(), name) != columns.end(); }
  /// Throws FileError naming the columns that there are.
  std::size_t column(const std::string& name) const {
    std::string all;
    for (const std::string& c : columns) all += (all.empty() ? "" : ", ") + c;
    require<FileError>(has(name), path, ": has no column \"", name, "\"; it has ", all);
    return std::size_t(std::find(columns.begin(), columns.end(), name) - columns.begin());
  }
};

/// Reads CSV by RFC 4180: quoted fields may hold commas, line breaks and doubled quotes. The first line names the
/// columns. Throws FileError for a row with another number of fields or an open quote.
inline CsvTable parse_csv(const std::string& path, std::string_view bytes) {
  CsvTable table{path, {}, {}};
  std::vector<std::string> row;
  std::string field;
  bool quoted = false, any = false;  // any: the row has begun
  std::size_t line = 1;
  const auto end_row = [&] {
    row.push_back(std::exchange(field, {}));
    if (table.columns.empty()) table.columns = row;
    else table.rows.push_back(row);
    require<FileError>(row.size() == table.columns.size(), path, ": line ", line, " has ", row.size(),
                       " fields, expected ", table.columns.size());
    row.clear();
    any = false;
  };
  if (bytes.substr(0, 3) == "\xef\xbb\xbf") bytes.remove_prefix(3);  // byte order mark, as spreadsheets write it
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (quoted) {
      if (c == '"' && i + 1 < bytes.size() && bytes[i + 1] == '"') field += bytes[++i];
      else if (c == '"') quoted = false;
      else field += c;
    } else if (c == '"' && field.empty()) {
      quoted = any = true;
    } else if (c == ',') {
      row.push_back(std::exchange(field, {}));
      any = true;
    } else if (c == '\n') {
      if (any || !field.empty()) end_row();
    } else if (c != '\r') {
      field += c;
    }
    line += c == '\n';
  }
  require<FileError>(!quoted, path, ": ends within a quoted field");
  if (any || !field.empty()) end_row();
  require<FileError>(!table.columns.empty(), path, ": is empty, expected a line of column names");
  return table;
}

/// What is compared, and of what one pair consists.
struct ComparisonRequest {
  std::string metric = "dice";  ///< a column, or its name without the unit: hd95 finds hd95_mm
  std::string structure;        ///< "": all, averaged within a subject
  bool by_run = false;          ///< one pair a file (a seed) instead of one a subject
  std::uint64_t seed = 0;       ///< of bootstrap and permutations
  ZeroDifferences zeros = ZeroDifferences::wilcox;
};

/// Both methods' figures, in pairs.
struct ComparedPairs {
  std::string column;
  std::vector<std::string> names;  ///< of the pairs: subjects, or files
  std::vector<double> a, b;
  Index rows = 0;       ///< (subject, image, structure) rows that both have, with values on both sides
  Index undefined = 0;  ///< rows without a value on one side or both: left out on both
  Index unmatched = 0;  ///< rows that only one side has
};

namespace detail {

/// The column of that name, or the one that begins with it and a unit.
inline std::string metric_column(const CsvTable& table, const std::string& metric) {
  if (table.has(metric)) return metric;
  for (const char* ending : {"_mm", "_voxels", "_at_"})
    for (const std::string& column : table.columns)
      if (column.rfind(metric + ending, 0) == 0) return column;
  return table.columns[table.column(metric)];  // throws, naming the columns
}

inline double csv_value(const CsvTable& table, std::size_t row, std::size_t column) {
  const std::string& word = table.rows[row][column];
  if (word.empty()) return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  require<FileError>(error == std::errc() && end == word.data() + word.size(), table.path, ": row ", row + 1,
                     ", column ", table.columns[column], " holds \"", word, "\", expected a number or nothing");
  require<FileError>(!std::isinf(value), table.path, ": row ", row + 1, " holds an infinite ", table.columns[column],
                     ", of which no mean difference exists; evaluate with another policy for empty masks");
  return value;
}

struct RowKey {
  std::string subject, image, structure;
  auto operator<=>(const RowKey&) const = default;
};

/// The rows of one file. Images are told apart by their file name, so that copies in other folders match.
inline std::map<RowKey, double> keyed_rows(const CsvTable& table,
                                           const std::string& column,
                                           const std::string& structure) {
  const auto text_of = [&](std::size_t row, const char* name) {
    return table.has(name) ? table.rows[row][table.column(name)] : std::string();
  };
  const std::size_t subject = table.column("subject"), value = table.column(column);
  std::map<RowKey, double> out;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    const std::string image = text_of(row, "image");
    RowKey key{table.rows[row][subject], image.substr(image.find_last_of("/\\") + 1), text_of(row, "structure")};
    if (!structure.empty() && key.structure != structure) continue;
    require<FileError>(out.emplace(key, csv_value(table, row, value)).second, table.path, ": row ", row + 1,
                       " repeats subject \"", key.subject, "\", structure \"", key.structure, "\"");
  }
  require<FileError>(!out.empty(), table.path, ": has no row",
                     structure.empty() ? std::string() : text(" of structure \"", structure, "\""));
  return out;
}

inline double mean_of(const std::vector<double>& values) { return summary_of(values).mean; }

}  // namespace detail

/// Pairs the rows of runs a[i] and b[i]: the same method's runs, for example one a seed, in the same order. A value
/// that is missing on one side is left out on both, so that both means are over the same rows. Rows are averaged over
/// structures and images within a subject, then over the runs (or, by run, over subjects).
/// Throws FileError when the files do not fit together, ConfigError for lists of different lengths.
inline ComparedPairs pair_rows(const std::vector<CsvTable>& a,
                               const std::vector<CsvTable>& b,
                               const ComparisonRequest& request) {
  require<ConfigError>(!a.empty() && a.size() == b.size(), "compare: ", a.size(), " and ", b.size(),
                       " files; runs are compared in pairs, so both sides need the same number");
  ComparedPairs out;
  out.column = detail::metric_column(a[0], request.metric);
  std::map<std::string, std::pair<std::vector<double>, std::vector<double>>> pairs;  // subject means, one a run
  for (std::size_t run = 0; run < a.size(); ++run) {
    require<FileError>(b[run].has(out.column), b[run].path, ": has no column ", out.column, ", which ", a[run].path,
                       " has; were both evaluated by the same convention?");
    const auto rows_a = detail::keyed_rows(a[run], out.column, request.structure),
               rows_b = detail::keyed_rows(b[run], out.column, request.structure);
    std::map<std::string, std::pair<std::vector<double>, std::vector<double>>> subjects;
    Index matched = 0;
    for (const auto& [key, value] : rows_a) {
      const auto other = rows_b.find(key);
      if (other == rows_b.end()) continue;
      ++matched;
      if (std::isnan(value) || std::isnan(other->second)) {
        ++out.undefined;
        continue;
      }
      ++out.rows;
      subjects[key.subject].first.push_back(value);
      subjects[key.subject].second.push_back(other->second);
    }
    out.unmatched += Index(rows_a.size()) + Index(rows_b.size()) - 2 * matched;
    for (const auto& [subject, values] : subjects) {
      auto& pair = pairs[request.by_run ? text("run ", run + 1, ": ", a[run].path, " / ", b[run].path) : subject];
      pair.first.push_back(detail::mean_of(values.first));
      pair.second.push_back(detail::mean_of(values.second));
    }
  }
  for (const auto& [name, values] : pairs) {
    out.names.push_back(name);
    out.a.push_back(detail::mean_of(values.first));
    out.b.push_back(detail::mean_of(values.second));
  }
  require<FileError>(!out.names.empty(), a[0].path, " and ", b[0].path,
                     ": no row in common has a value on both sides; are they of the same cases?");
  return out;
}

/// The comparison as JSON, with what it assumes. Fewer than 2 pairs give means alone.
inline OrderedJson comparison_json(const ComparedPairs& pairs, const ComparisonRequest& request) {
  OrderedJson out{{"metric", pairs.column},
                  {"structure", request.structure.empty() ? "all" : request.structure},
                  {"unit", request.by_run ? "run" : "subject"},
                  {"pairs", pairs.names.size()},
                  {"rows", pairs.rows},
                  {"rows_undefined", pairs.undefined},
                  {"rows_unmatched", pairs.unmatched},
                  {"mean_a", detail::mean_of(pairs.a)},
                  {"mean_b", detail::mean_of(pairs.b)},
                  {"smallest_p", smallest_paired_p(Index(pairs.names.size()))}};
  if (pairs.names.size() >= 2) {
    const PairedComparison c = compare_paired(pairs.a, pairs.b, request.seed, request.zeros);
    out["mean_difference"] = c.mean_difference.value;
    out["mean_difference_interval"] = {c.mean_difference.low, c.mean_difference.high};
    out["median_difference"] = c.median_difference;
    out["wilcoxon"] = {{"w", c.wilcoxon.statistic},
                       {"p", c.wilcoxon.p},
                       {"pairs", c.wilcoxon.pairs},
                       {"zeros", c.wilcoxon.zeros},
                       {"zero_differences", request.zeros == ZeroDifferences::pratt ? "pratt" : "wilcox"},
                       {"exact", c.wilcoxon.exact}};
    out["t_test"] = {{"t", std::isfinite(c.t_test.t) ? OrderedJson(c.t_test.t) : OrderedJson()},
                     {"degrees_of_freedom", c.t_test.degrees},
                     {"p", c.t_test.p}};
    out["permutation"] = {
        {"p", c.permutation.p}, {"permutations", c.permutation.permutations}, {"exact", c.permutation.exact}};
    out["interval"] = "95 %, percentile bootstrap over pairs, 10000 resamples";
  }
  out["values"] = OrderedJson::array();
  for (std::size_t i = 0; i < pairs.names.size(); ++i)
    out["values"].push_back({{"name", pairs.names[i]}, {"a", pairs.a[i]}, {"b", pairs.b[i]}});
  return out;
}

/// Some lines for people.
inline std::string comparison_text(const OrderedJson& c) {
  const auto number = [](const OrderedJson& v) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.4g", v.get<double>());
    return std::string(digits);
  };
  const Index pairs = c.at("pairs").get<Index>();
  std::string out = text(c.at("metric").get<std::string>(), ", structure ", c.at("structure").get<std::string>(), ": ",
                         pairs, pairs == 1 ? " pair, a " : " pairs, each a ", c.at("unit").get<std::string>(), "\n");
  out += text("  mean of A ", number(c.at("mean_a")), ", of B ", number(c.at("mean_b")), "\n");
  if (pairs >= 2) {
    const OrderedJson& interval = c.at("mean_difference_interval");
    out += text("  A - B: mean ", number(c.at("mean_difference")), " [", number(interval[0]), ", ", number(interval[1]),
                "], median ", number(c.at("median_difference")), "\n");
    const OrderedJson& w = c.at("wilcoxon");
    out += text("  Wilcoxon signed-rank p = ", number(w.at("p")), " (", w.at("exact").get<bool>() ? "exact" : "normal",
                ", ", w.at("zeros").get<Index>(),
                " without a difference), permutation p = ", number(c.at("permutation").at("p")),
                ", t test p = ", number(c.at("t_test").at("p")), "\n");
  }
  if (pairs < 6)
    out += text("  too few pairs: with ", pairs, " no signed-rank or permutation test can give p below ",
                number(c.at("smallest_p")), "; 6 are the least for p < 0.05\n");
  for (const char* key : {"rows_undefined", "rows_unmatched"})
    if (c.at(key).get<Index>() > 0)
      out += text("  ", c.at(key).get<Index>(), " row(s) ",
                  key == std::string_view("rows_undefined") ? "without a value on one side, left out on both"
                                                            : "that only one side has, left out",
                  "\n");
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
