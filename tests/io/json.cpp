#include "m3i/io/json.hpp"

#include "catch.hpp"
#include "scratch.hpp"

using namespace m3i;

TEST_CASE("json: values come as they are written", "[io]") {
  const Json j = parse_json(R"({"a":[1,-2,3.5,true,null,"\u00e9"],"b":{"c":18446744073709551615}} )", "t");
  CHECK(j["a"][0] == 1);
  CHECK(j["a"][5] == "é");
  CHECK(j["b"]["c"].get<std::uint64_t>() == 18446744073709551615u);
  CHECK(parse_json("[[],[{}],[1,[2]]]", "t").dump() == "[[],[{}],[1,[2]]]");
}

TEST_CASE("json: what is not strict JSON is refused and the file is named", "[io][errors]") {
  for (const char* bad :
       {"",         " ",     "{",           "}",        "[1,]",     "{\"a\":1,}",   "{a:1}",       "nul",
        "1 2",      "{} x",  "{}{}",        "// c\n{}", "[1e400]",  "[-1e400]",     "[NaN]",       "[Infinity]",
        "[01]",     "[+1]",  "[.5]",        "[1.]",     "\"\xFF\"", "\"\xC0\xAF\"", "\"\\ud800\"", "\"\\x\"",
        "\"a\nb\"", "['a']", "\xEF\xBB\xBF"}) {
    CAPTURE(bad);
    CHECK_THROWS_WITH(parse_json(bad, "file.json"), Catch::Contains("file.json"));
  }
  CHECK_THROWS_WITH(parse_json(std::string_view("{}\0{}", 5), "t"), Catch::Contains("NUL"));
}

TEST_CASE("json: a key that occurs twice is an error at any depth", "[io][errors]") {
  CHECK_THROWS_WITH(parse_json(R"({"a":1,"b":2,"a":3})", "t"), Catch::Contains("\"a\" appears twice"));
  CHECK_THROWS_WITH(parse_json(R"({"x":[{"b":{"c":1,"\u0063":2}}]})", "t"), Catch::Contains("\"c\" appears twice"));
  CHECK_NOTHROW(parse_json(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]})", "t"));
}

TEST_CASE("json: deep nesting is an error, not a crash", "[io][errors]") {
  CHECK_THROWS_WITH(parse_json(std::string(1000000, '['), "t"), Catch::Contains("deeper than 64"));
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += "{\"a\":";
  CHECK_THROWS_WITH(parse_json(objects, "t"), Catch::Contains("deeper"));
  CHECK_NOTHROW(parse_json(std::string(64, '[') + std::string(64, ']'), "t"));
}

TEST_CASE("json: messages about huge input stay short", "[io][errors]") {
  for (const std::string& bad : {"{\"" + std::string(100000, 'k') + "\":1,\"" + std::string(100000, 'k') + "\":1}",
                                 "\"" + std::string(100000, 'x')}) {
    try {
      parse_json(bad, "t");
      FAIL("accepted");
    } catch (const FileError& error) {
      CHECK(std::string(error.what()).size() < 600);
    }
  }
  CHECK(excerpt("aé", 2) == "a...");
}

TEST_CASE("json: files are written atomically and read back", "[io]") {
  const Scratch scratch;
  const Json j = {{"name", "é"}, {"values", {1, 2.5, 0.1}}};
  write_json(scratch / "a.json", j);
  CHECK(read_json(scratch / "a.json") == j);
  CHECK_THROWS_WITH(read_json(scratch / "b.json"), Catch::Contains("b.json") && Catch::Contains("No such file"));
  CHECK_THROWS_WITH(read_json(scratch.folder.string()), Catch::Contains("not a regular file"));
  CHECK_THROWS_WITH(write_json(scratch / "a.json", "\xFF"), Catch::Contains("a.json"));
  CHECK(read_json(scratch / "a.json") == j);
}

TEST_CASE("json: differences name their place and both values", "[io]") {
  const Json a = {{"net", {{"depth", 2}, {"width", 8}}}, {"only_here", 1}};
  const Json b = {{"net", {{"depth", 4}, {"width", 8}}}, {"only_there", "x"}};
  CHECK(json_differences(a, a).empty());
  CHECK(json_differences(a, b) == std::vector<std::string>{"net.depth: 2 here, 4 there",
                                                           "only_here: 1 here, absent there",
                                                           "only_there: absent here, \"x\" there"});
}
