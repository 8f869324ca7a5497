#pragma once
/// A report as one HTML file: no scripts, no outside resources, everything escaped, readable on paper.
///
///     Report report("Med3DInsight on phantoms", "three seeds, 32^3 voxels");
///     report.heading("Results");
///     Table table{{"method", "Dice", "HD95 (mm)"}};
///     table.add({"from scratch", mean_sd_text(dice, 3), mean_sd_text(hd95, 1)});
///     report.table(table, "Mean ± sd over seeds.");
///     report.svg(line_chart(chart), "Training loss.");
///     report.save("report.html");

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/core/atomic_file.hpp"
#include "m3i/core/error.hpp"
#include "m3i/train/markup.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Rows of text under a header. Cells that look like numbers are set to the right.
struct Table {
  std::vector<std::string> header{};
  std::vector<std::vector<std::string>> rows{};
  std::vector<std::pair<std::size_t, std::size_t>> strong{};  ///< (row, column) of cells in bold, such as the best ones

  explicit Table(std::vector<std::string> names) : header(std::move(names)) {}

  /// Throws ShapeError if the row has not one cell for each name of the header.
  void add(std::vector<std::string> row) {
    require(row.size() == header.size(), "table: a row of ", row.size(), " cells, the header has ", header.size());
    rows.push_back(std::move(row));
  }
};

/// A picture of a row of pictures.
struct Picture {
  std::string png;  ///< the bytes of a PNG file
  std::string caption{};
};

namespace detail {
inline constexpr std::string_view report_style = R"(
:root { color-scheme: light; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 60rem; background: #fff; color: #222;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid #ddd; }
h3 { font-size: 1.08rem; margin: 1.8rem 0 .4rem; }
p { max-width: 44rem; margin: .6rem 0; }
.subtitle, figcaption, caption { color: #666; }
nav { margin: 1.4rem 0; } nav a { margin-right: 1.2rem; color: #0060a0; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .5rem; font-size: .9rem; }
th, td { padding: .4rem .9rem .4rem 0; text-align: left; border-bottom: 1px solid #e6e6e6; vertical-align: top; }
th { border-bottom: 2px solid #999; font-weight: 600; }
.number { text-align: right; padding: .4rem 0 .4rem 1.2rem; white-space: nowrap; }
figure { margin: 1.2rem 0; } figure svg { max-width: 100%; height: auto; margin-left: -16px; }
figcaption { font-size: .9rem; margin-top: .3rem; overflow-wrap: anywhere; }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.pictures figure { margin: 0; }
.key { font-size: .9rem; } .key span { margin-right: 1.2rem; white-space: nowrap; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid #888; }
img { max-width: 100%; background: #000; image-rendering: pixelated; }
.pictures img { width: 100%; }
pre { background: #f5f5f5; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.45; }
details { margin: 1rem 0; } summary { cursor: pointer; color: #0060a0; }
.note { border-left: 4px solid #e69f00; background: #fff8e8; padding: .6rem 1rem; max-width: 42rem; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  figure, table, pre { break-inside: avoid; } h2, h3 { break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; } }
)";

/// True for "0.83", "0.83 ± 0.02", "12 %", "−3", "n/a": what belongs to the right of a column.
inline bool looks_numeric(std::string_view cell) {
  if (cell.empty() || cell == "n/a") return true;
  if (cell.substr(0, 3) == "−") cell.remove_prefix(3);
  if (!cell.empty() && (cell[0] == '-' || cell[0] == '+')) cell.remove_prefix(1);
  return !cell.empty() && cell[0] >= '0' && cell[0] <= '9' &&
         cell.find_first_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/:") == std::string_view::npos;
}
}  // namespace detail

/// Builds the page from top to bottom. All text is escaped; `svg` takes the text of a chart of `plot.hpp` as it is.
class Report {
 public:
  explicit Report(std::string title, std::string subtitle = "")
      : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

  /// A section; sections stand in the list at the top of the page.
  void heading(const std::string& words) {
    sections_.push_back(words);
    body_ += text("<h2 id=\"s", sections_.size(), "\">", escape_markup(words), "</h2>\n");
  }
  void subheading(const std::string& words) { body_ += "<h3>" + escape_markup(words) + "</h3>\n"; }
  void paragraph(const std::string& words) { body_ += "<p>" + escape_markup(words) + "</p>\n"; }
  /// A paragraph that stands out: limits, warnings.
  void note(const std::string& words) { body_ += "<p class=\"note\">" + escape_markup(words) + "</p>\n"; }
  /// Text as it is, in a fixed-width font; behind a line to open if `summary` is given.
  void code(const std::string& content, const std::string& summary = "") {
    const std::string block = "<pre>" + escape_markup(content) + "</pre>\n";
    body_ += summary.empty() ? block
                             : "<details><summary>" + escape_markup(summary) + "</summary>\n" + block + "</details>\n";
  }

  void table(const Table& table, const std::string& caption = "") {
    std::vector<bool> numeric(table.header.size(), !table.rows.empty());
    for (const auto& row : table.rows)
      for (std::size_t c = 0; c < row.size() && c < numeric.size(); ++c)
        numeric[c] = numeric[c] && detail::looks_numeric(row[c]);
    body_ += "<table>\n";
    if (!caption.empty()) body_ += "<caption>" + escape_markup(caption) + "</caption>\n";
    body_ += "<thead><tr>";
    for (std::size_t c = 0; c < table.header.size(); ++c)
      body_ += (numeric[c] ? "<th class=\"number\">" : "<th>") + escape_markup(table.header[c]) + "</th>";
    body_ += "</tr></thead>\n<tbody>\n";
    for (std::size_t r = 0; r < table.rows.size(); ++r) {
      body_ += "<tr>";
      for (std::size_t c = 0; c < table.rows[r].size(); ++c) {
        const std::string cell = escape_markup(table.rows[r][c]);
        bool strong = false;
        for (const auto& [row, column] : table.strong) strong = strong || (row == r && column == c);
        body_ += (c < numeric.size() && numeric[c] ? "<td class=\"number\">" : "<td>") +
                 (strong ? "<strong>" + cell + "</strong>" : cell) + "</td>";
      }
      body_ += "</tr>\n";
    }
    body_ += "</tbody>\n</table>\n";
  }

  /// A chart. Throws ShapeError unless it is SVG text without scripts and links.
  void svg(const std::string& chart, const std::string& caption = "") {
    const bool plain = chart.rfind("<svg", 0) == 0 && chart.find("<script") == std::string::npos &&
                       chart.find("href") == std::string::npos && chart.find("<foreignObject") == std::string::npos;
    require(plain, "report: svg takes the text of a chart that starts with <svg and has no script and no link");
    figure(chart, caption);
  }

  /// One picture at its own size, from the bytes of a PNG file.
  void png(std::string_view bytes, const std::string& caption = "") { figure(image(bytes, caption), caption); }

  /// What colours mean: names with squares of red, green, blue.
  void key(const std::vector<std::pair<std::string, std::array<std::uint8_t, 3>>>& entries) {
    body_ += "<p class=\"key\">";
    for (const auto& [name, c] : entries)
      body_ += text("<span><i style=\"background:rgb(", int(c[0]), ",", int(c[1]), ",", int(c[2]), ")\"></i>",
                    escape_markup(name), "</span> ");
    body_ += "</p>\n";
  }

  /// Pictures side by side, as many in a row as fit.
  void pictures(const std::vector<Picture>& list) {
    body_ += "<div class=\"pictures\">\n";
    for (const auto& picture : list) figure(image(picture.png, picture.caption), picture.caption);
    body_ += "</div>\n";
  }

  /// The whole page.
  std::string html() const {
    std::string out =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'\">\n<title>" +
        escape_markup(title_) + "</title>\n<style>";
    out += detail::report_style;
    out += "</style>\n</head>\n<body>\n<h1>" + escape_markup(title_) + "</h1>\n";
    if (!subtitle_.empty()) out += "<p class=\"subtitle\">" + escape_markup(subtitle_) + "</p>\n";
    if (sections_.size() > 1) {
      out += "<nav>";
      for (std::size_t i = 0; i < sections_.size(); ++i)
        out += text("<a href=\"#s", i + 1, "\">", escape_markup(sections_[i]), "</a> ");
      out += "</nav>\n";
    }
    return out + body_ + "</body>\n</html>\n";
  }

  /// Writes the page atomically. Throws FileError.
  void save(const std::string& path) const { write_file(path, html()); }

 private:
  static std::string image(std::string_view bytes, const std::string& caption) {
    require(bytes.substr(0, 8) == "\x89PNG\r\n\x1a\n", "report: the picture \"", caption, "\" (", bytes.size(),
            " bytes) is not a PNG file");
    return "<img alt=\"" + escape_markup(caption) + "\" src=\"data:image/png;base64," + base64(bytes) + "\">";
  }
  void figure(const std::string& content, const std::string& caption) {
    body_ += "<figure>" + content;
    if (!caption.empty()) body_ += "<figcaption>" + escape_markup(caption) + "</figcaption>";
    body_ += "</figure>\n";
  }

  std::string title_, subtitle_, body_;
  std::vector<std::string> sections_;
};

}  // namespace M3I_ABI
}  // namespace m3i
