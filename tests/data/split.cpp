#include "m3i/data/split.hpp"

#include "catch.hpp"
#include "folder.hpp"
#include "m3i/data/folds.hpp"

using namespace m3i;

static std::vector<SplitSubject> subjects(Index n, Index classes = 1) {
  std::vector<SplitSubject> out;
  for (Index i = 0; i < n; ++i) out.push_back({text("s", i), i % classes});
  return out;
}
static std::vector<std::string> names(const std::vector<SplitSubject>& list) {
  std::vector<std::string> out;
  for (const auto& s : list) out.push_back(s.name);
  return out;
}

TEST_CASE("split: sizes are 7 : 1 : 2 to within one, and every subject is in one part", "[fast]") {
  for (Index n = 1; n <= 120; ++n)
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      const Split s = make_split(subjects(n, 3), seed);
      CAPTURE(n, seed);
      CHECK_NOTHROW(check_split(s, names(subjects(n)), "split"));
      CHECK(std::abs(double(s.train.size()) - 0.7 * double(n)) <= (n < 10 ? 1.5 : 1));
      CHECK(std::abs(double(s.validation.size()) - 0.1 * double(n)) <= 1);
      CHECK(std::abs(double(s.test.size()) - 0.2 * double(n)) <= 1);
      CHECK_FALSE(s.train.empty());
      if (n >= 3) {
        CHECK_FALSE(s.validation.empty());
        CHECK_FALSE(s.test.empty());
      }
      if (n % 10 == 0) CHECK(Index(s.train.size()) == n / 10 * 7);
    }
}

TEST_CASE("split: classes are spread evenly", "[fast]") {
  const auto all = subjects(60, 2);
  std::map<std::string, Index> label;
  for (const auto& s : all) label[s.name] = s.class_label;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Split split = make_split(all, seed);
    for (const auto* part : split.parts()) {
      Index ones = 0;
      for (const auto& s : *part) ones += label[s];
      CHECK(std::abs(2 * ones - Index(part->size())) <= 3);
    }
  }
}

TEST_CASE("split: depends on the seed and the subjects, not on their order or repetition", "[fast]") {
  auto list = subjects(30, 2);
  const Split a = make_split(list, 1);
  std::reverse(list.begin(), list.end());
  list.push_back(list.front());
  const Split b = make_split(list, 1);
  CHECK(a.train == b.train);
  CHECK(a.validation == b.validation);
  CHECK(a.test == b.test);
  CHECK(make_split(list, 2).train != a.train);
}

TEST_CASE("split: a single subject is for training, whatever the ratios", "[fast]") {
  for (Index n = 1; n <= 4; ++n) CHECK_FALSE(make_split(subjects(n), 0, {1, 1, 8}).train.empty());
}

TEST_CASE("split: a part without share stays empty", "[fast]") {
  const Split s = make_split(subjects(10), 0, {1, 0, 1});
  CHECK(s.validation.empty());
  CHECK(s.train.size() == 5);
}

TEST_CASE("split: written and read back; edits, overlaps and malformed files are refused", "[fast]") {
  TemporaryFolder f;
  const Split s = make_split(subjects(20), 7);
  const auto path = f / "split.json";
  write_split(path, s);
  const Split back = read_split(path);
  CHECK(back.train == s.train);
  CHECK(back.validation == s.validation);
  CHECK(back.test == s.test);
  CHECK(back.seed == 7);
  CHECK(back.method == "ratio 7 : 1 : 2");

  Json json = read_json(path);
  json["seed"] = 8;
  write_json(path, json);
  CHECK_THROWS_WITH(read_split(path), Catch::Contains("does not fit"));
  json["seed"] = 7;
  json["test"][0] = "someone else";
  write_json(path, json);
  CHECK_THROWS_WITH(read_split(path), Catch::Contains("does not fit") && Catch::Contains("remove \"hash\""));
  json.erase("hash");
  write_json(path, json);
  CHECK_NOTHROW(read_split(path));
  CHECK_THROWS_WITH(check_split(read_split(path), names(subjects(20)), path), Catch::Contains("someone else"));
  json["test"][0] = json["train"][0];
  write_json(path, json);
  CHECK_THROWS_WITH(read_split(path), Catch::Contains("is in train and test"));
  json["test"][0] = json["test"][1];
  write_json(path, json);
  CHECK_THROWS_WITH(read_split(path), Catch::Contains("test and there again"));

  const auto refuses = [&](const std::string& bytes, const std::string& why) {
    CAPTURE(bytes);
    CHECK_THROWS_WITH(read_split(f.write("bad.json", bytes)), Catch::Contains("bad.json") && Catch::Contains(why));
  };
  refuses("", "malformed");
  refuses("[]", "JSON object");
  refuses(R"({"train":["a"],"test":[]})", "\"validation\" is missing");
  refuses(R"({"train":[1],"validation":[],"test":[]})", "list of strings");
  refuses(R"({"train":[],"validation":[],"test":["a"]})", "\"train\" is empty");
  refuses(R"({"train":["a"],"validation":[],"test":[],"tset":[]})", "unknown key \"tset\"");
  refuses(R"({"train":["a"],"validation":[],"test":[],"seed":-1})", "seed");
  CHECK_THROWS_AS(read_split(f / "none.json"), FileError);
}

TEST_CASE("split: a subject of the data set that is in no part is named", "[fast]") {
  const Split s = make_split(subjects(5), 0);
  CHECK_THROWS_WITH(check_split(s, names(subjects(6)), "split"), Catch::Contains("in no part: \"s5\""));
  CHECK_THROWS_WITH(check_split(s, names(subjects(4)), "split"), Catch::Contains("not in the data set: \"s4\""));
  CHECK_THROWS_WITH(check_split(s, names(subjects(30)), "split"), Catch::Contains("and 15 more"));
}

TEST_CASE("split: bad arguments are refused", "[fast]") {
  CHECK_THROWS_AS(make_split({}, 0), ConfigError);
  CHECK_THROWS_WITH(make_split({{"a", 0}, {"a", 1}}, 0), Catch::Contains("\"a\" has classes 0 and 1"));
  CHECK_THROWS_AS(make_split(subjects(3), 0, {0, 1, 1}), ConfigError);
  CHECK_THROWS_AS(make_split(subjects(3), 0, {7, -1, 2}), ConfigError);
  CHECK_THROWS_AS(make_split(subjects(3), 0, {7, std::nan(""), 2}), ConfigError);
}

TEST_CASE("share: smaller shares are contained in larger ones", "[fast]") {
  const auto all = names(subjects(50));
  std::vector<std::string> before;
  for (const double share : {0.1, 0.2, 0.5, 1.0}) {
    const auto now = take_share(all, share, 3);
    CHECK(Index(now.size()) == Index(share * 50 + 0.5));
    CHECK(std::includes(now.begin(), now.end(), before.begin(), before.end()));
    before = now;
  }
  CHECK(take_share(names(subjects(2)), 0.1, 0).size() == 1);
  CHECK_THROWS_AS(take_share(all, 0, 0), ConfigError);
  CHECK_THROWS_AS(take_share(all, 1.1, 0), ConfigError);
  CHECK_THROWS_AS(take_share({}, 0.5, 0), ConfigError);
}

TEST_CASE("folds: every subject is tested once and validates once, and classes are spread evenly", "[fast]") {
  for (const Index n : {5, 7, 23})
    for (const Index folds : {2, 3, 5}) {
      std::map<std::string, Index> tested, validated;
      for (Index fold = 0; fold < folds; ++fold) {
        const Split s = make_fold(subjects(n, 2), 4, folds, fold);
        CAPTURE(n, folds, fold);
        CHECK_NOTHROW(check_split(s, names(subjects(n)), "split"));
        CHECK_FALSE(s.train.empty());
        CHECK(std::abs(Index(s.test.size()) * folds - n) < folds);
        for (const auto& name : s.test) ++tested[name];
        for (const auto& name : s.validation) ++validated[name];
        Index ones = 0;
        for (const auto& name : s.test) ones += std::stoi(name.substr(1)) % 2;
        CHECK(std::abs(2 * ones - Index(s.test.size())) <= 2);
      }
      CHECK(Index(tested.size()) == n);
      CHECK(Index(validated.size()) == (folds > 2 ? n : 0));
      for (const auto& [name, times] : tested) CHECK(times == 1);
    }
  CHECK(make_fold(subjects(9), 0, 3, 1).test != make_fold(subjects(9), 1, 3, 1).test);
  CHECK_THROWS_WITH(make_fold(subjects(3), 0, 4, 0), Catch::Contains("4 folds of 3"));
  CHECK_THROWS_AS(make_fold(subjects(3), 0, 1, 0), ConfigError);
  CHECK_THROWS_WITH(make_fold(subjects(3), 0, 3, 3), Catch::Contains("fold 3 of 3"));
}

TEST_CASE("folds: the split that a data set brings is taken, unless a subject crosses", "[fast]") {
  SubjectList list;
  list.folder = "set";
  const auto add = [&](const std::string& subject, const std::string& part, std::optional<Index> fold = {}) {
    list.entries.emplace_back();
    list.entries.back().subject = subject, list.entries.back().part = part, list.entries.back().fold = fold;
  };
  add("a", "training", 0), add("b", "training", 1), add("c", "training", 1), add("d", "test"), add("c", "training", 1);
  const Split s = given_split(list, 1);
  CHECK(s.train == std::vector<std::string>{"a"});
  CHECK(s.validation == std::vector<std::string>{"b", "c"});
  CHECK(s.test == std::vector<std::string>{"d"});
  add("a", "validation");
  CHECK_THROWS_WITH(given_split(list, 1), Catch::Contains("\"a\" is on two sides, train"));
  list.entries.resize(1);
  CHECK_THROWS_WITH(given_split(list, 3), Catch::Contains("none for validation"));
}
