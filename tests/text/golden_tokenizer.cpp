/// Every *.json with "cases" in the folder clip of M3I_GOLDENS: texts, their ids, and the padded rows.

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "catch.hpp"
#include "m3i/io/json.hpp"
#include "m3i/text/bpe.hpp"

using namespace m3i;

TEST_CASE("bpe: ids are those of the reference CLIP tokenizer", "[golden]") {
  const char* root = std::getenv("M3I_GOLDENS");
  if (!root) {
    WARN("skipped: M3I_GOLDENS is not set");
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(root) / "clip";
  if (!std::filesystem::exists(folder)) {
    WARN("skipped: " << folder << " does not exist");
    return;
  }
#if !M3I_ZLIB
  WARN("skipped: the vocabulary is compressed and this build has no zlib");
#else
  const auto tokenizer = BytePairTokenizer::from_clip((folder / "bpe_simple_vocab_16e6.txt.gz").string());
  REQUIRE(tokenizer.vocab_size() == 49408);
  REQUIRE(tokenizer.start_id() == 49406);
  std::size_t cases = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".json") continue;
    const Json json = read_json(file.path().string());
    if (!json.contains("cases")) continue;
    for (const Json& c : json["cases"]) {
      const std::string caption = c.at("text").get<std::string>();
      CAPTURE(file.path(), caption);
      const auto expected = c.at("ids").get<std::vector<Index>>();
      CHECK(tokenizer.encode(caption) == expected);
      CHECK(tokenizer.count(caption) == Index(expected.size()));
      const auto padded = c.at("padded").get<std::vector<Index>>();
      const TokenRows rows = tokenizer.tokenize(caption, LongText::truncate, Index(padded.size()));
      CHECK(rows.ids.to_vector() == padded);
      CHECK(rows.lost[0] == std::max<Index>(0, Index(expected.size()) - Index(padded.size()) + 2));
      ++cases;
    }
  }
  CHECK(cases > 0);
#endif
}
