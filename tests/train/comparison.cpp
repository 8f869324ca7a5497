#include "m3i/train/comparison.hpp"
#include "../catch.hpp"

using namespace m3i;

namespace {

CsvTable table(const std::string& path, const std::string& rows) {
  return parse_csv(path, "subject,image,structure,dice,hd95_mm\n" + rows);
}

}  // namespace

TEST_CASE("csv: quotes, commas and line breaks in fields; a row of another length is named", "[train]") {
  const auto t = parse_csv("x.csv",
                           "\xef\xbb\xbf"
                           "a,b\r\n\"one, \"\"two\"\"\",\"3\n4\"\n,5\n");
  REQUIRE(t.rows.size() == 2);
  CHECK(t.columns == std::vector<std::string>{"a", "b"});
  CHECK(t.rows[0] == std::vector<std::string>{"one, \"two\"", "3\n4"});
  CHECK(t.rows[1] == std::vector<std::string>{"", "5"});
  CHECK_THROWS_WITH(parse_csv("x.csv", "a,b\n1\n"), Catch::Contains("x.csv: line 2 has 1 fields, expected 2"));
  CHECK_THROWS_WITH(parse_csv("x.csv", "a,b\n\"1,2\n"), Catch::Contains("within a quoted field"));
  CHECK_THROWS_WITH(parse_csv("x.csv", ""), Catch::Contains("x.csv: is empty"));
}

TEST_CASE("compare: structures are averaged within a subject, missing values leave both sides", "[train]") {
  const auto a =
      table("a.csv", "s1,x/1.nii,liver,0.5,2\ns1,x/1.nii,spleen,0.7,\ns2,x/2.nii,liver,0.6,4\ns3,x/3.nii,liver,1,1\n");
  const auto b = table("b.csv", "s1,y/1.nii,liver,0.6,3\ns1,y/1.nii,spleen,0.9,9\ns2,y/2.nii,liver,0.5,5\n");
  ComparisonRequest request;
  const auto dice = pair_rows({a}, {b}, request);
  CHECK(dice.names == std::vector<std::string>{"s1", "s2"});
  CHECK(dice.a[0] == Approx(0.6));
  CHECK(dice.b[0] == Approx(0.75));
  CHECK(dice.unmatched == 1);
  CHECK(dice.undefined == 0);

  request.metric = "hd95";
  const auto distance = pair_rows({a}, {b}, request);
  CHECK(distance.column == "hd95_mm");
  CHECK(distance.undefined == 1);
  CHECK(distance.a == std::vector<double>{2, 4});
  CHECK(distance.b == std::vector<double>{3, 5});
  const OrderedJson json = comparison_json(distance, request);
  CHECK(json.at("mean_difference").get<double>() == Approx(-1));
  CHECK_THAT(comparison_text(json), Catch::Contains("too few pairs") && Catch::Contains("without a value on one side"));

  request.metric = "dice", request.structure = "spleen";
  CHECK(pair_rows({a}, {b}, request).names == std::vector<std::string>{"s1"});
  request.structure = "kidney";
  CHECK_THROWS_WITH(pair_rows({a}, {b}, request), Catch::Contains("has no row of structure \"kidney\""));
  request.structure = "", request.metric = "recall";
  CHECK_THROWS_WITH(pair_rows({a}, {b}, request),
                    Catch::Contains("no column \"recall\"") && Catch::Contains("hd95_mm"));
  CHECK_THROWS_WITH(pair_rows({a, a}, {b}, {}), Catch::Contains("same number"));
}

TEST_CASE("compare: by run each file is one pair", "[train]") {
  std::vector<CsvTable> a, b;
  for (int seed = 0; seed < 6; ++seed) {
    a.push_back(table(text("a", seed), text("s1,1.nii,liver,0.", 60 + seed, ",\ns2,2.nii,liver,0.7,\n")));
    b.push_back(table(text("b", seed), text("s1,1.nii,liver,0.", 50 + 2 * seed, ",\ns2,2.nii,liver,0.6,\n")));
  }
  ComparisonRequest request;
  request.by_run = true;
  const auto pairs = pair_rows(a, b, request);
  CHECK(pairs.names.size() == 6);
  CHECK(pairs.a[0] - pairs.b[0] == Approx(0.1));
  const OrderedJson json = comparison_json(pairs, request);
  CHECK(json.at("wilcoxon").at("p").get<double>() == Approx(2.0 / 64));  // all six differences of one sign
  CHECK(json.at("unit") == "run");
}
