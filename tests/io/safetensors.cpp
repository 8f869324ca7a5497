#include "m3i/io/safetensors.hpp"

#include <cmath>
#include <limits>

#include "catch.hpp"
#include "scratch.hpp"

using namespace m3i;

namespace {

std::string with_header(const std::string& header, const std::string& data = "") {
  const std::uint64_t n = header.size();
  return std::string(reinterpret_cast<const char*>(&n), 8) + header + data;
}
std::string with_length(std::uint64_t n, const std::string& rest) {
  return std::string(reinterpret_cast<const char*>(&n), 8) + rest;
}

/// The message with which a file is refused; empty if it is accepted.
std::string refusal(const std::string& bytes) {
  static const Scratch scratch;
  const std::string path = scratch / "case.safetensors";
  put_bytes(path, bytes);
  try {
    const SafeTensors file(path);
    return "";
  } catch (const FileError& error) {
    CHECK_THAT(error.what(), Catch::Contains(path));
    CHECK(std::string(error.what()).size() < 1000);
    return error.what();
  }
}

struct Case {
  const char* header;
  std::size_t bytes;
  const char* message;
};

}  // namespace

TEST_CASE("safetensors: every element type is written and read back with its bits", "[io]") {
  const Scratch scratch;
  const std::string path = scratch / "a.safetensors";
  const auto f64 = Tensor<double>::from({0.1, -0.0, 1e-320}, {3});
  const auto f32 = Tensor<float>::from({0.1f, std::numeric_limits<float>::infinity()}, {2, 1});
  const auto f16 = Tensor<half>::from({half(0.1f), half(-2.f), half(65504.f)}, {1, 3});
  const auto b16 = Tensor<bf16>::from({bf16(0.1f)}, Shape{});
  const auto i64 = Tensor<std::int64_t>::from({std::numeric_limits<Index>::min(), 7}, {2});
  const auto i32 = Tensor<std::int32_t>::from({-5}, {1, 1, 1, 1, 1, 1});
  const auto u8 = Tensor<std::uint8_t>::from({0, 255, 1}, {3});
  const Tensor<float> none(Shape{0, 4});
  write_safetensors(
      path,
      {{"u8", u8}, {"f64", f64}, {"f32", f32}, {"f16", f16}, {"b16", b16}, {"i64", i64}, {"i32", i32}, {"none", none}},
      {{"what", "é \"quoted\"\n"}});
  const SafeTensors file(path);
  const auto same = [&](const char* name, const auto& t) {
    using T = typename std::decay_t<decltype(t)>::value_type;
    const auto read = file.tensor<T>(name);
    CHECK(read.shape() == t.shape());
    CHECK(std::memcmp(read.data(), t.data(), t.bytes()) == 0);
  };
  same("f64", f64), same("f32", f32), same("f16", f16), same("b16", b16), same("i64", i64), same("i32", i32);
  same("u8", u8);
  CHECK(file.tensor<float>("none").shape() == Shape{0, 4});
  CHECK(file.metadata() == std::map<std::string, std::string>{{"what", "é \"quoted\"\n"}});
  CHECK(file.names() == std::vector<std::string>{"b16", "f16", "f32", "f64", "i32", "i64", "none", "u8"});
  CHECK(file.entry("f16").dtype == "F16");
  CHECK(file.contains("u8"));
  CHECK_FALSE(file.contains("u9"));
  CHECK_THROWS_WITH(file.tensor<float>("u9"), Catch::Contains("no tensor \"u9\""));
}

TEST_CASE("safetensors: the same content gives the same bytes, aligned", "[io]") {
  const Scratch scratch;
  const auto a = Tensor<std::uint8_t>::from({1, 2, 3}, {3});
  const auto b = Tensor<double>::from({1, 2}, {2});
  const auto c = Tensor<half>::from({half(1.f)}, {1});
  write_safetensors(scratch / "1", {{"a", a}, {"b", b}, {"c", c}}, {{"k", "v"}, {"a", "b"}});
  write_safetensors(scratch / "2", {{"c", c}, {"b", b}, {"a", a}}, {{"a", "b"}, {"k", "v"}});
  CHECK(file_bytes(scratch / "1") == file_bytes(scratch / "2"));
  const SafeTensors file(scratch / "1");
  CHECK(file.entry("b").begin == 0);
  CHECK(file.entry("c").begin == 16);
  CHECK(file.entry("a").begin == 18);
  std::uint64_t length = 0;
  std::memcpy(&length, file_bytes(scratch / "1").data(), 8);
  CHECK(length % 8 == 0);
  write_safetensors(scratch / "empty", {});
  CHECK(SafeTensors(scratch / "empty").names().empty());
}

TEST_CASE("safetensors: floats convert to any float, integers to any integer that holds them", "[io]") {
  const Scratch scratch;
  const std::string path = scratch / "a.safetensors";
  write_safetensors(path, {{"d", Tensor<double>::from({0.1, -3, std::nan(""), HUGE_VAL}, {4})},
                           {"big", Tensor<double>::from({1, 1e300}, {2})},
                           {"h", Tensor<half>::from({half(0.1f)}, {1})},
                           {"f", Tensor<float>::from({70000.f}, {1})},
                           {"i", Tensor<std::int64_t>::from({0, 255, 1}, {3})},
                           {"n", Tensor<std::int64_t>::from({0, -1}, {2})},
                           {"huge", Tensor<std::int64_t>::from({Index(1) << 31}, {1})}});
  const SafeTensors file(path);
  const auto d = file.tensor<float>("d").to_vector();
  CHECK(d[0] == 0.1f);
  CHECK(d[1] == -3);
  CHECK(std::isnan(d[2]));
  CHECK(std::isinf(d[3]));
  CHECK(file.tensor<double>("h").item() == double(float(half(0.1f))));
  CHECK(float(file.tensor<bf16>("f").item()) == float(bf16(70000.f)));
  CHECK(file.tensor<std::uint8_t>("i").to_vector() == std::vector<std::uint8_t>{0, 255, 1});
  CHECK(file.tensor<std::int32_t>("n").to_vector() == std::vector<std::int32_t>{0, -1});
  CHECK_THROWS_WITH(file.tensor<float>("big"), Catch::Contains("element 1") && Catch::Contains("too large for f32"));
  CHECK_THROWS_WITH(file.tensor<half>("f"), Catch::Contains("70000") && Catch::Contains("f16"));
  CHECK_THROWS_WITH(file.tensor<std::uint8_t>("n"), Catch::Contains("element 1 is -1"));
  CHECK_THROWS_WITH(file.tensor<std::int32_t>("huge"), Catch::Contains("2147483648"));
  CHECK_THROWS_WITH(file.tensor<float>("i"), Catch::Contains("is I64") && Catch::Contains("integer type"));
  CHECK_THROWS_WITH(file.tensor<std::int64_t>("d"), Catch::Contains("is F64") && Catch::Contains("floating type"));
}

TEST_CASE("safetensors: types that m3i does not have are read as integers, or named and refused", "[io]") {
  const Scratch scratch;
  const std::string path = scratch / "a.safetensors";
  put_bytes(path, with_header(R"({"b":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},)"
                              R"("s":{"dtype":"I16","shape":[1],"data_offsets":[2,4]},)"
                              R"("u":{"dtype":"U64","shape":[1],"data_offsets":[4,12]},)"
                              R"("x":{"dtype":"BOOL","shape":[1],"data_offsets":[12,13]},)"
                              R"("q":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[13,14]}})",
                              std::string("\x00\x01\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02\x00", 14)));
  const SafeTensors file(path);
  CHECK(file.tensor<std::uint8_t>("b").to_vector() == std::vector<std::uint8_t>{0, 1});
  CHECK(file.tensor<Index>("s").item() == -2);
  CHECK_THROWS_WITH(file.tensor<Index>("u"), Catch::Contains("18446744073709551615"));
  CHECK_THROWS_WITH(file.tensor<Index>("x"), Catch::Contains("BOOL element 0 is 2"));
  CHECK_THROWS_WITH(file.tensor<float>("q"), Catch::Contains("F8_E4M3"));
}

TEST_CASE("safetensors: arrays at odd addresses are read", "[io]") {
  const Scratch scratch;
  const std::string path = scratch / "a.safetensors";
  const float value = 2.5f;
  put_bytes(path, with_header(R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
                              R"("f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}} )",
                              "x" + std::string(reinterpret_cast<const char*>(&value), 4)));
  CHECK(SafeTensors(path).tensor<double>("f").item() == 2.5);
}

TEST_CASE("safetensors: a file cut at any byte, or with one byte more, is refused", "[io][errors]") {
  const Scratch scratch;
  write_safetensors(scratch / "a", {{"w", Tensor<float>::from({1, 2, 3}, {3})}, {"b", Tensor<half>(Shape{2})}},
                    {{"k", "v"}});
  const std::string whole = file_bytes(scratch / "a");
  CHECK(refusal(whole).empty());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    CHECK_FALSE(refusal(whole.substr(0, n)).empty());
  }
  CHECK_THAT(refusal(whole + "x"), Catch::Contains("1 bytes after the last tensor"));
}

TEST_CASE("safetensors: any single changed byte of the length or header is refused or harmless", "[io][errors]") {
  const Scratch scratch;
  write_safetensors(scratch / "a", {{"w", Tensor<float>::zeros({3})}}, {{"k", "v"}});
  const std::string whole = file_bytes(scratch / "a");
  for (std::size_t n = 0; n + 12 < whole.size(); ++n)
    for (const int change : {1, 2, 32, 128}) {
      std::string damaged = whole;
      damaged[n] = char(damaged[n] ^ change);
      refusal(damaged);  // a FileError or a valid file with another name; anything else fails the test
    }
}

TEST_CASE("safetensors: lengths that the file cannot have are refused before anything is allocated", "[io][errors]") {
  CHECK_THAT(refusal(""), Catch::Contains("0 bytes"));
  CHECK_THAT(refusal(with_length(0, "")), Catch::Contains("does not begin with '{'"));
  CHECK_THAT(refusal(with_length(3, "{}")), Catch::Contains("cut off"));
  CHECK_THAT(refusal(with_length(100'000'001, "{}")), Catch::Contains("at most 100000000"));
  CHECK_THAT(refusal(with_length(100'000'000, "{}")), Catch::Contains("cut off"));
  CHECK_THAT(refusal(with_length(std::uint64_t(-1), "{}")), Catch::Contains("at most"));
  CHECK_THAT(refusal(with_length(1, "{}")), Catch::Contains("malformed JSON"));
  CHECK_THROWS_WITH(SafeTensors("/nonexistent/a"), Catch::Contains("/nonexistent/a: No such file"));
}

TEST_CASE("safetensors: every rule of the header is checked", "[io][errors]") {
  const Case cases[] = {
      {R"([])", 0, "does not begin with '{'"},
      {R"( {})", 0, "does not begin with '{'"},
      {R"({}x)", 0, "malformed JSON"},
      {R"({"a":1})", 0, "expected an object"},
      {R"({"a":{}})", 0, "has no dtype"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", 1, "has no data_offsets"},
      {R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "has no shape"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}})", 1, "unknown key \"x\""},
      {R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype is not a string"},
      {R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype \"F4\""},
      {R"({"a":{"dtype":"u8","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype \"u8\""},
      {R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "shape is not an array"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "integers of at least 0"},
      {R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "integers of at least 0"},
      {R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", 1, "integers of at least 0"},
      {R"({"a":{"dtype":"U8","shape":[null],"data_offsets":[0,1]}})", 1, "integers of at least 0"},
      {R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "nested deeper"},
      {R"({"a":{"dtype":"U8","shape":[1e400],"data_offsets":[0,1]}})", 1, "malformed JSON"},
      {R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1, "too large"},
      {R"({"a":{"dtype":"U8","shape":[18446744073709551617],"data_offsets":[0,1]}})", 1, "integers"},
      {R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "too many elements"},
      {R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0, "too many elements"},
      {R"({"a":{"dtype":"F64","shape":[3,9223372036854775807],"data_offsets":[0,0]}})", 0, "too many elements"},
      {R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1, "7 axes"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "array of two"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 1, "array of two"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":{"0":0}}})", 1, "array of two"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}})", 1, "integers of at least 0"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "not within"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,2]}})", 1, "not within the 1 bytes"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775807,9223372036854775807]}})", 1, "not within"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", 1, "U8 [2] needs 2 bytes, data_offsets hold 1"},
      {R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,1]}})", 1, "F32 [] needs 4 bytes"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "bytes 0 to 1 of the data belong to no tensor"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 2, "1 bytes after the last tensor"},
      {R"({})", 1, "1 bytes after the last tensor"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, "overlap"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
       R"("b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
       3, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, "bytes 1 to 2"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, "\"a\" appears twice"},
      {R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "\"dtype\" appears twice"},
      {R"({"__metadata__":{"k":"v","k":"w"}})", 0, "\"k\" appears twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "appears twice"},
      {R"({"__metadata__":{"k":1}})", 0, "expected a string"},
      {R"({"__metadata__":{"k":null}})", 0, "expected a string"},
      {R"({"__metadata__":{"k":{"x":"y"}}})", 0, "expected a string"},
      {R"({"__metadata__":null})", 0, "not an object of strings"},
      {R"({"__metadata__":[]})", 0, "not an object of strings"},
      {"{\"__metadata__\":{\"k\":\"\xC0\xAF\"}}", 0, "malformed JSON"},
      {"{\"\xFF\":{}}", 0, "malformed JSON"},
      {R"({"__metadata__":{"k":"\ud800"}})", 0, "malformed JSON"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.header, c.bytes);
    CHECK_THAT(refusal(with_header(c.header, std::string(c.bytes, '\0'))), Catch::Contains(c.message));
  }
  CHECK_THAT(refusal(with_header(std::string("{}\0", 3))), Catch::Contains("NUL"));
  std::string bomb;
  for (int i = 0; i < 100000; ++i) bomb += "{\"a\":";
  CHECK_THAT(refusal(with_header(bomb)), Catch::Contains("nested deeper"));
  CHECK_THAT(refusal(with_header("{\"a\":" + std::string(1000000, '['))), Catch::Contains("nested deeper"));
}

TEST_CASE("safetensors: what is allowed is accepted", "[io]") {
  CHECK(refusal(with_header("{}")).empty());
  CHECK(refusal(with_header("{}      ")).empty());
  CHECK(refusal(with_header(R"({"__metadata__":{}})")).empty());
  CHECK(refusal(with_header(R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                            R"("b":{"dtype":"F64","shape":[3,0],"data_offsets":[0,0]},)"
                            R"("c":{"dtype":"C64","shape":[],"data_offsets":[0,8]},)"
                            R"("d":{"dtype":"U8","shape":[0],"data_offsets":[8,8]}})",
                            std::string(8, '\0')))
            .empty());
}

TEST_CASE("safetensors: what cannot be written is refused and the old file stays", "[io][errors]") {
  const Scratch scratch;
  const std::string path = scratch / "a";
  const auto t = Tensor<float>::zeros({2});
  write_safetensors(path, {{"t", t}});
  const std::string before = file_bytes(path);
  CHECK_THROWS_WITH(write_safetensors(path, {{"t", t}, {"t", t}}), Catch::Contains("two tensors are named \"t\""));
  CHECK_THROWS_AS(write_safetensors(path, {{"__metadata__", t}}), FileError);
  CHECK_THROWS_AS(write_safetensors(path, {{"\xFF", t}}), FileError);
  CHECK_THROWS_AS(write_safetensors(path, {{"t", t}}, {{"k", "\xC0\xAF"}}), FileError);
  CHECK_THROWS_AS(NamedArray("t", Tensor<float>()), ShapeError);
  CHECK(file_bytes(path) == before);
  CHECK(scratch.files() == 1);
}
