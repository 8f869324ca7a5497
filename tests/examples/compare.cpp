/// compare on tables as evaluate writes them.

#include "m3i/io/json.hpp"
#include "programs.hpp"

using namespace programs;

namespace {

void write(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

}  // namespace

TEST_CASE("compare: two tables are compared in pairs, and the result is written", "[examples]") {
  const Scratch folder;
  const std::string head = "subject,image,structure,dice\n";
  std::string a = head, b = head;
  for (const char* s : {"s1", "s2", "s3", "s4", "s5", "s6"}) {
    a += std::string(s) + ",x.nii,liver,0.8\n";
    b += std::string(s) + ",y/x.nii,liver,0.7\n";
  }
  write(folder / "a.csv", a);
  write(folder / "b.csv", b + "s7,x.nii,liver,0.1\n");
  const Answer answer = done("compare", {folder / "a.csv", folder / "b.csv", "--json", folder / "c.json"});
  CHECK_THAT(answer.out, Catch::Contains("6 pairs"));
  CHECK_THAT(answer.out, Catch::Contains("only one side has"));
  const auto json = m3i::read_json(folder / "c.json");
  CHECK(json.at("mean_difference").get<double>() == Approx(0.1));
  CHECK(json.at("wilcoxon").at("p").get<double>() == Approx(2.0 / 64));

  refuses("compare", {folder / "a.csv", folder / "none.csv"}, {"none.csv"});
  refuses("compare", {folder / "a.csv", folder / "b.csv", "--metric", "hd95"}, {"no column", "dice"});
  write(folder / "cut.csv", "subject,dice\ns1\n");
  refuses("compare", {folder / "cut.csv", folder / "b.csv"}, {"cut.csv: line 2"});
}
