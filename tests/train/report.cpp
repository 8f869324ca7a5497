#include "m3i/train/report.hpp"

#include <cstdlib>
#include <filesystem>

#include "catch.hpp"
#include "m3i/train/plot.hpp"

using namespace m3i;
using Catch::Contains;

namespace {
const std::string tiny_png("\x89PNG\r\n\x1a\n....", 12);
}

TEST_CASE("report: everything that comes from outside is escaped", "[train][fast]") {
  Report report("<title>", "a & b");
  report.heading("<h>");
  report.subheading("<s>");
  report.paragraph("<p>");
  report.note("<n>");
  report.code("<script>alert(1)</script>", "<sum>");
  Table table({"<x>"});
  table.add({"<cell>"});
  report.table(table, "<cap>");
  report.png(tiny_png, "\" onerror=\"x");
  const std::string html = report.html();
  for (const char* raw : {"<h>", "<s>", "<n>", "<script", "<sum>", "<x>", "<cell>", "<cap>", "\" onerror"})
    CHECK(html.find(raw) == std::string::npos);
  CHECK_THAT(html, Contains("<title>&lt;title&gt;</title>") && Contains("a &amp; b"));
}

TEST_CASE("report: one file without scripts and outside resources", "[train][fast]") {
  Report report("r");
  report.heading("one");
  report.heading("two");
  report.svg(line_chart({.title = "loss"}), "the loss");
  report.pictures({{tiny_png, "slice 1"}, {tiny_png, "slice 2"}});
  std::string html = report.html();
  CHECK_THAT(html, Contains("default-src 'none'") && Contains("data:image/png;base64,iVBORw0KGgo") &&
                       Contains("href=\"#s2\"") && Contains("id=\"s2\""));
  const std::string name_space = "http://www.w3.org/2000/svg";
  html.erase(html.find(name_space), name_space.size());
  CHECK(html.find("http:") == std::string::npos);
  CHECK(html.find("https:") == std::string::npos);
  CHECK(html.find("src=\"data:") != std::string::npos);
}

TEST_CASE("report: columns of numbers stand to the right, chosen cells in bold", "[train][fast]") {
  Report report("r");
  Table table({"method", "Dice", "file"});
  table.add({"full", "0.83 ± 0.02", "3d.nii"});
  table.add({"scratch", "n/a", "4d.nii"});
  table.strong.emplace_back(0, 1);
  report.table(table);
  CHECK_THAT(report.html(),
             Contains("<td>full</td><td class=\"number\"><strong>0.83 ± 0.02</strong></td><td>3d.nii</td>"));
  CHECK_THROWS_WITH(table.add({"one"}), Contains("a row of 1 cells, the header has 3"));
}

TEST_CASE("report: what is no picture and no chart is refused", "[train][fast][errors]") {
  Report report("r");
  CHECK_THROWS_WITH(report.png("GIF89a", "x"), Contains("is not a PNG file"));
  CHECK_THROWS_AS(report.svg("<p>"), ShapeError);
  CHECK_THROWS_AS(report.svg("<svg><script>"), ShapeError);
  CHECK_THROWS_AS(report.svg("<svg><image href=\"x\"/></svg>"), ShapeError);
}

TEST_CASE("report: it is saved whole", "[train][fast]") {
  std::string folder = (std::filesystem::temp_directory_path() / "m3i-report-XXXXXX").string();
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  Report report("r");
  report.save(folder + "/report.html");
  CHECK(std::filesystem::file_size(folder + "/report.html") == report.html().size());
  CHECK_THROWS_AS(report.save(folder + "/no/report.html"), FileError);
  std::filesystem::remove_all(folder);
}

TEST_CASE("report: a colour key with escaped names", "[train][fast]") {
  Report report("t");
  report.key({{"a <b>", {1, 20, 255}}});
  CHECK_THAT(report.html(), Contains("background:rgb(1,20,255)") && Contains("a &lt;b&gt;"));
}
