#include <cstdio>
#include <string>
#include <vector>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/text/bpe.hpp"

using namespace m3i;
using Ids = std::vector<Index>;

namespace {

const char* merges = "#version: 0.2\nl u\nlu n\nlun g</w>\nh e\na t</w>\nhe a\nc t</w>\na a\n' s</w>\n";
BytePairTokenizer small() { return BytePairTokenizer::from_merges(merges, "small"); }

/// The words that a text is cut into, joined by '|'.
std::string words(const std::string& caption) {
  const std::u32string s = clean_caption(caption);
  std::u32string out;
  for (std::size_t at = 0; at < s.size();) {
    if (unicode::is_space(s[at])) {
      ++at;
      continue;
    }
    const std::size_t n = detail::caption_word(s, at);
    out += (out.empty() ? U"" : U"|") + s.substr(at, n);
    at += n;
  }
  return unicode::encode_utf8(out);
}

std::string joined(const BytePairTokenizer& tokenizer, const std::string& caption) {
  std::string out;
  for (const Index id : tokenizer.encode(caption)) out += (out.empty() ? "" : "|") + tokenizer.token(id);
  return out;
}

/// Byte-pair merging as its definition says, one pass a merge, on token texts.
std::string merged_by_definition(const std::vector<std::pair<std::string, std::string>>& rules,
                                 std::vector<std::string> s) {
  for (bool again = true; again;) {
    again = false;
    for (const auto& [left, right] : rules) {
      for (std::size_t i = 0; i + 1 < s.size(); ++i)
        if (s[i] == left && s[i + 1] == right) {
          s[i] += right;
          s.erase(s.begin() + Index(i) + 1);
          again = true;
        }
      if (again) break;
    }
  }
  std::string out;
  for (const auto& token : s) out += (out.empty() ? "" : "|") + token;
  return out;
}

}  // namespace

TEST_CASE("bpe: text is cut into words as CLIP does", "[text]") {
  CHECK(words("T1-weighted MRI (3.0T): 1.75 mm") == "t|1|-|weighted|mri|(|3|.|0|t|):|1|.|7|5|mm");
  CHECK(words("don't we'll they're I'm it's he'd I've") == "don|'t|we|'ll|they|'re|i|'m|it|'s|he|'d|i|'ve");
  CHECK(words("!'s 's 'x it\u2019s '\u017F") == "!'|s|'s|'|x|it|\u2019|s|'\u017F");
  CHECK(words("HEAD &amp;amp; NECK &lt;b&gt;") == "head|&|neck|<|b|>");
  CHECK(words("naïve ½ 12 日本語テスト Ⅷa") == "naïve|½|1|2|日本語テスト|ⅷ|a");
  CHECK(words("x <|startoftext|>y <|endoftext|>") == "x|<|startoftext|>|y|<|endoftext|>");
  CHECK(words("") == "");
}

TEST_CASE("bpe: merges go by rank and respect the end of a word", "[text]") {
  const auto t = small();
  CHECK(t.vocab_size() == 512 + 9 + 2);
  CHECK(joined(t, "lung Lungs") == "lung</w>|lun|g|s</w>");
  CHECK(joined(t, "heat ct cts it's") == "he|at</w>|ct</w>|c|t|s</w>|i|t</w>|'s</w>");
  CHECK(joined(t, "aaa aaaa aaaaa") == "aa|a</w>|aa|a|a</w>|aa|aa|a</w>");
  CHECK(t.encode("<|endoftext|>") == Ids{t.end_id()});
}

TEST_CASE("bpe: merging agrees with the definition on random words", "[text]") {
  std::vector<std::pair<std::string, std::string>> rules;
  Random random(7);
  std::vector<std::string> known = {"a", "b", "c", "a</w>", "b</w>", "c</w>"};
  std::string list = "#version\n";
  while (rules.size() < 40) {
    const std::string left = known[std::size_t(random.below(Index(known.size())))];
    const std::string right = known[std::size_t(random.below(Index(known.size())))];
    if (left.back() == '>' || left.size() + right.size() > 10) continue;
    if (std::find(known.begin(), known.end(), left + right) != known.end()) continue;
    known.push_back(left + right);
    rules.emplace_back(left, right);
    list += left + " " + right + "\n";
  }
  const auto t = BytePairTokenizer::from_merges(list, "random");
  for (int trial = 0; trial < 500; ++trial) {
    std::string word;
    std::vector<std::string> symbols;
    for (Index n = 1 + random.below(24); n > 0; --n) {
      word += char('a' + random.below(3));
      symbols.emplace_back(1, word.back());
    }
    symbols.back() += "</w>";
    CAPTURE(word);
    REQUIRE(joined(t, word) == merged_by_definition(rules, symbols));
  }
}

TEST_CASE("bpe: decoding gives the cleaned words back", "[text]") {
  const auto t = small();
  CHECK(t.decode(t.encode("  Lung   Heat\n日本 \u00e9")) == "lung heat 日本 \u00e9");
  CHECK(t.decode(t.tokenize("ct lung").ids.to_vector()) == "ct lung");
  CHECK(t.decode({t.encode("é")[0]}) == "\uFFFD");
  CHECK_THROWS_WITH(t.decode({-1}), Catch::Contains("id -1"));
  CHECK_THROWS_WITH(t.decode({t.vocab_size()}), Catch::Contains("vocabulary"));
}

TEST_CASE("bpe: rows begin with start, finish with end, and are padded with zeros", "[text]") {
  const auto t = small();
  const auto rows = t.tokenize(std::vector<std::string>{"ct", ""}, LongText::error, 5);
  CHECK(rows.ids.shape() == Shape{2, 5});
  const Index ct = t.encode("ct")[0];
  CHECK(rows.ids.to_vector() == Ids{t.start_id(), ct, t.end_id(), 0, 0, t.start_id(), t.end_id(), 0, 0, 0});
  CHECK(rows.ends == Ids{2, 1});
  CHECK(rows.tokens == Ids{1, 0});
  CHECK(t.tokenize(std::vector<std::string>{}).ids.shape() == Shape{0, 77});
}

TEST_CASE("bpe: a long text is refused, cut with a count of what is lost, or spread over rows", "[text]") {
  const auto t = small();
  const std::string seven = "1 2 3 4 5 6 7";
  CHECK_THROWS_WITH(t.tokenize(seven, LongText::error, 5), Catch::Contains("7 tokens") && Catch::Contains("holds 3"));
  CHECK(t.tokenize(seven, LongText::error, 9).lost == Ids{0});

  const auto cut = t.tokenize(seven, LongText::truncate, 5);
  CHECK(cut.lost == Ids{4});
  CHECK(cut.tokens == Ids{7});
  CHECK(cut.ids.to_vector() == Ids{t.start_id(), t.encode("1")[0], t.encode("2")[0], t.encode("3")[0], t.end_id()});

  const auto all = t.tokenize(std::vector<std::string>{seven, "8"}, LongText::mean_of_chunks, 5);
  CHECK(all.ids.shape() == Shape{4, 5});
  CHECK(all.lost == Ids{0, 0});
  CHECK(all.text == Ids{0, 0, 0, 1});
  CHECK(all.ends == Ids{4, 4, 2, 2});
  CHECK(all.ids[2].to_vector() == Ids{t.start_id(), t.encode("7")[0], t.end_id(), 0, 0});
  CHECK(t.tokenize("1 2 3", LongText::mean_of_chunks, 5).ids.shape() == Shape{1, 5});
  CHECK_THROWS_AS(t.tokenize("1", LongText::truncate, 2), ShapeError);
}

TEST_CASE("bpe: captions that are not UTF-8 are refused", "[text][errors]") {
  CHECK_THROWS_WITH(small().encode("caf\xE9"), Catch::Contains("not UTF-8 at byte 3"));
}

TEST_CASE("bpe: a very long word does not take forever", "[text]") {
  std::string word;
  Random random(3);
  for (int i = 0; i < 200000; ++i) word += "aluhengct"[random.below(9)];
  CHECK(small().count(word) > 100000);
}

TEST_CASE("bpe: malformed merge lists are refused with their line", "[text][errors]") {
  const auto load = [](const char* text) { return BytePairTokenizer::from_merges(text, "m.txt"); };
  CHECK_THROWS_WITH(load(""), Catch::Contains("m.txt") && Catch::Contains("empty"));
  CHECK_THROWS_WITH(load("l u\n"), Catch::Contains("#version"));
  CHECK_THROWS_WITH(load("#version\nl u\nlu\n"), Catch::Contains("line 3"));
  CHECK_THROWS_WITH(load("#version\nl u n\n"), Catch::Contains("line 2"));
  CHECK_THROWS_WITH(load("#version\n\nl u\n"), Catch::Contains("line 2"));
  CHECK_THROWS_WITH(load("#version\nl u\nl u\n"), Catch::Contains("twice"));
  CHECK_THROWS_WITH(load("#version\nlu n\n"), Catch::Contains("no token \"lu\""));
  CHECK(load("#version\r\nl u\r\n").vocab_size() == 515);
}

TEST_CASE("bpe: vocab.json and merges.txt give the same ids as CLIP's own file", "[text]") {
  const auto t = small();
  std::string json = "{";
  for (Index id = t.vocab_size(); id-- > 0;) {
    std::string name = t.token(id);
    if (name == "\"" || name == "\\" || name == "\"</w>" || name == "\\</w>") name.insert(0, "\\");
    json += "\"" + name + "\": " + std::to_string(id) + (id ? ", " : "}\n");
  }
  const std::string vocab = "bpe_test_vocab.json", list = "bpe_test_merges.txt";
  write_file(vocab, json);
  write_file(list, merges);
  const auto h = BytePairTokenizer::from_hugging_face(vocab, list);
  for (const char* s : {"lung heat ct", "\"quoted\\\"", "é½日"}) CHECK(h.encode(s) == t.encode(s));
  CHECK(h.start_id() == t.start_id());
  std::remove(vocab.c_str());
  std::remove(list.c_str());
  CHECK_THROWS_WITH(BytePairTokenizer::from_hugging_face("absent.json", "absent.txt"), Catch::Contains("absent.txt"));
}

TEST_CASE("bpe: malformed vocab.json is refused", "[text][errors]") {
  const std::vector<std::string> tokens = {"a", "bé🧠\n"};
  CHECK(parse_vocab_json(R"( {"b\u00e9\ud83e\udde0\n": 1, "a" : 0} )", "v") == tokens);
  CHECK(parse_vocab_json("{}", "v").empty());
  for (const char* bad : {"",
                          "[]",
                          "{",
                          R"({"a")",
                          R"({"a":})",
                          R"({"a":0)",
                          R"({"a":0,})",
                          R"({"a":0} x)",
                          R"({"a":-1})",
                          R"({"a":1e400})",
                          R"({"a":0.5})",
                          R"({"a":00})",
                          R"({"a":99999999999999999999})",
                          R"({"a":"0"})",
                          R"({"a":1})",
                          R"({"a":0,"b":0})",
                          R"({"a\x":0})",
                          R"({"\ud800":0})",
                          R"({"\ud800\u0041":0})",
                          R"({"\u12G4":0})",
                          "{\"a\xFF\":0}",
                          "{\"a\n\":0}",
                          R"({"a\)",
                          R"({"\u12)"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse_vocab_json(bad, "v"), FileError);
  }
}
