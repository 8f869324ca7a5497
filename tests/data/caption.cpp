#include "m3i/data/caption.hpp"

#include <cstdlib>
#include <string>

#include "catch.hpp"
#include "data/folder.hpp"
#include "m3i/data/caption_cost.hpp"
#include "m3i/data/caption_run.hpp"
#include "m3i/data/triplets.hpp"

using namespace m3i;

namespace {

std::string picture(Index width, Index height) {
  const auto bytes = png_bytes(Image(height, width, 1));
  return {bytes.begin(), bytes.end()};
}

CaptionParameters model(const std::string& name = "m") {
  CaptionParameters p;
  p.model = name;
  return p;
}

/// A chunk of a PNG; its checksum is not looked at.
std::string chunk(const std::string& type, const std::string& data) {
  std::string out{'\0', '\0', '\0', char(data.size())};
  return out + type + data + "\1\2\3\4";
}

}  // namespace

TEST_CASE("sha256: the standard's examples, in any pieces", "[data]") {
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  for (const std::size_t n : {55, 56, 63, 64, 65, 119, 120}) {
    const std::string s(n, 'x');
    for (std::size_t cut = 0; cut <= n; cut += 11)
      CHECK(Sha256().add(s.substr(0, cut)).add(s.substr(cut)).hex() == sha256(s));
  }
}

TEST_CASE("endpoint: addresses are read in one way or refused", "[data][caption]") {
  const Endpoint e = parse_endpoint("HTTPS://API.Example.com:8443/v1/");
  CHECK(e.url == "https://API.Example.com:8443/v1");
  CHECK(e.host == "api.example.com");
  CHECK((e.encrypted && !e.loopback));
  for (const char* here : {"http://localhost:1234/v1", "http://127.0.0.1", "http://127.1.2.3:80/", "http://[::1]:8/v1"})
    CHECK(parse_endpoint(here).loopback);
  for (const char* there :
       {"http://127.0.0.1.evil.com", "http://127.evil", "http://127.1", "http://0177.0.0.1", "http://127.0.0.01",
        "http://127.0.0.256", "http://localhost.evil.com", "http://[::2]", "http://127.0.0.1.", "http://127..0.1"}) {
    CHECK_THROWS_WITH(parse_endpoint(there), Catch::Contains("unencrypted"));
    CHECK_FALSE(parse_endpoint(there, true).loopback);
  }
  for (const char* bad : {"", "localhost", "ftp://a/b", "https://", "https:///v1", "https://a:0/", "https://a:70000",
                          "https://a:8x", "https://[::1", "https://[]", "https://a b", "https://a\\b",
                          "https://a/v1?key=x", "https://a#b", "https://a%41/", "https://:80/", "https://a\n/"})
    CHECK_THROWS_AS(parse_endpoint(bad), ConfigError);
  CHECK_THROWS_WITH(parse_endpoint("https://user:pass@host/"),
                    Catch::Contains("environment") && !Catch::Contains("pass@"));
}

TEST_CASE("key: comes from the environment, is never shown", "[data][caption]") {
  ::setenv("M3I_TEST_KEY", " sk-abc \n", 1);
  const ApiKey key = ApiKey::from_environment("M3I_TEST_KEY");
  CHECK(key.authorization() == "Authorization: Bearer sk-abc");
  CHECK(key.redact("a sk-abcsk-abc b") == "a [key][key] b");
  ::setenv("M3I_TEST_KEY", "sk-abc\r\nX-Evil: 1", 1);
  CHECK_THROWS_WITH(ApiKey::from_environment("M3I_TEST_KEY"),
                    Catch::Contains("M3I_TEST_KEY") && !Catch::Contains("sk-abc"));
  ::unsetenv("M3I_TEST_KEY");
  CHECK(ApiKey::from_environment("M3I_TEST_KEY").empty());
  CHECK_THROWS_AS(ApiKey::from_environment("A=B"), ConfigError);
}

TEST_CASE("retry-after: seconds and dates, by the server's clock if it tells it", "[data][caption]") {
  CHECK(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").value() == 784111777);
  CHECK(parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT").value() == 0);
  CHECK(parse_http_date("Thu, 29 Feb 2024 23:59:60 GMT").value() == 1709251200);
  for (const char* bad : {"", "Sun, 06 Nov 1994", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 2024 08:49:37 GMT",
                          "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 06 Nov 1994 28:49:37 GMT",
                          "Sun, -6 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GM"})
    CHECK_FALSE(parse_http_date(bad));
  const auto wait = [](const char* value, const char* date = "") {
    HttpReply r;
    r.retry_after = value;
    r.date = date;
    return retry_after_seconds(r, 784111777);
  };
  CHECK(wait("120").value() == 120);
  CHECK(wait(" 1.5 ").value() == 1.5);
  CHECK(wait("Sun, 06 Nov 1994 08:50:00 GMT").value() == 23);
  CHECK(wait("Sun, 06 Nov 1994 08:50:00 GMT", "Sun, 06 Nov 1994 08:49:59 GMT").value() == 1);
  CHECK(wait("Sun, 06 Nov 1994 08:00:00 GMT").value() == 0);  // past
  for (const char* bad : {"", "soon", "-5", "1.2.3", "."}) CHECK_FALSE(wait(bad));
  CHECK_FALSE(wait(std::string(400, '9').c_str()));
}

TEST_CASE("caption request: says model, prompt, picture and limits, and nothing else", "[data][caption]") {
  CaptionParameters p = model();
  const Json body = parse_json(caption_request("PNG", p), "request");
  CHECK(body == parse_json(R"({"model":"m","max_tokens":300,"messages":[{"role":"user","content":[
      {"type":"text","text":"Describe the image in fewer than 100 words"},
      {"type":"image_url","image_url":{"url":"data:image/png;base64,UE5H","detail":"low"}}]}]})",
                           "expected"));
  p.temperature = 0.5;
  p.completion_limit = true;
  const Json other = parse_json(caption_request("PNG", p), "request");
  CHECK(other["temperature"] == 0.5);
  CHECK(other["max_completion_tokens"] == 300);
  CHECK_FALSE(other.contains("max_tokens"));
}

TEST_CASE("caption key: changes with picture, prompt, model and parameters", "[data][caption]") {
  const std::string first = caption_key("a", model());
  CHECK(first.size() == 64);
  CHECK(first == caption_key("a", model()));
  CHECK(first != caption_key("b", model()));
  CHECK(first != caption_key("a", model("n")));
  const auto with = [](auto change) {
    CaptionParameters p = model();
    change(p);
    return caption_key("a", p);
  };
  CHECK(first != with([](auto& p) { p.prompt += "."; }));
  CHECK(first != with([](auto& p) { p.temperature = 0; }));
  CHECK(first != with([](auto& p) { p.max_tokens = 301; }));
  CHECK(first != with([](auto& p) { p.detail = "high"; }));
  CHECK(first == with([](auto& p) { p.completion_limit = true; }));  // another name for the same limit
}

TEST_CASE("caption reply: text in its usual forms, and every wrong type", "[data][caption]") {
  const auto parsed = [](const std::string& message, const std::string& rest = "") {
    return parse_caption_reply(R"({"choices":[{"message":)" + message + R"(,"finish_reason":"stop"}])" + rest + "}");
  };
  CHECK(parsed(R"({"content":"A scan."})").caption == "A scan.");
  CHECK(parsed(R"({"content":[{"type":"text","text":"A "},{"type":"text","text":"scan."}]})").caption == "A scan.");
  CHECK(parsed(R"({"content":null,"refusal":"No."})").status == CaptionStatus::refusal);
  CHECK(parsed(R"({"content":null})").status == CaptionStatus::empty);
  const auto odd =
      parsed(R"({"content":"A."})", R"(,"model":7,"usage":{"prompt_tokens":"many","completion_tokens":-9})");
  CHECK(odd.caption == "A.");
  CHECK(odd.model_version.empty());
  CHECK(odd.prompt_tokens == -1);
  CHECK(odd.completion_tokens == -1);
  CHECK(parsed(R"({"content":"A."})", R"(,"usage":null)").caption == "A.");
  CHECK(parsed(R"({"content":"A."})", R"(,"usage":{"prompt_tokens":18446744073709551615})").prompt_tokens == -1);
  for (const char* message : {"null", "3", "[]", "\"A\"", R"({"content":3})", R"({"content":["A"]})"})
    CHECK(parsed(message).status == CaptionStatus::malformed);
  for (const char* body : {"", " \n", "null", "[]", "{}", R"({"choices":[]})", R"({"choices":[[]]})",
                           R"({"choices":{}})", "{\"choices\":[{\"message\":{\"content\":\"\xff\"}}]}", "{\"a\":1}{"}) {
    const CaptionAnswer a = parse_caption_reply(body);
    CHECK(a.status == CaptionStatus::malformed);
    CHECK_FALSE(a.error.empty());
  }
  CHECK(parse_caption_reply(std::string(1000, '[')).status == CaptionStatus::malformed);
}

TEST_CASE("caption text: one plain line; the words stay", "[data][caption]") {
  CHECK(clean_model_caption("  A  scan\r\n\n of\tthe head. ") == "A scan of the head.");
  CHECK(clean_model_caption("\"A scan.\"") == "A scan.");
  CHECK(clean_model_caption("\"Cat\" and \"dog\"") == "\"Cat\" and \"dog\"");
  CHECK(clean_model_caption("### Description\n- **Lungs**: dark\n* heart\n> spine `T5`") ==
        "Description Lungs: dark heart spine T5");
  CHECK(clean_model_caption("Description: A scan.") == "A scan.");
  CHECK(clean_model_caption("<think>what is it?</think>A <think>sure</think>scan.") == "A scan.");
  CHECK(clean_model_caption("```text\nA scan.\n```") == "A scan.");
  CHECK(clean_model_caption(std::string("A\0B\x7f.", 5)) == "A B .");
  CHECK(clean_model_caption("2 \xc3\x97 3 mm\xc2\xa0wide, < 5 mm, #2, -3") == "2 \xc3\x97 3 mm wide, < 5 mm, #2, -3");
  CHECK(clean_model_caption(" \n ").empty());
}

TEST_CASE("caption refusals: only answers that decline, at their beginning", "[data][caption]") {
  for (const char* no : {"I'm sorry, but I can\xe2\x80\x99t assist with that.", "I cannot interpret medical images.",
                         "Sorry, I can't help.", "As an AI model, I", "I'm unable to provide a diagnosis."})
    CHECK(is_refusal(no));
  for (const char* yes : {"The image shows a mass that cannot be excluded.", "A scan. I cannot see the liver.",
                          "I see a coronal CT.", ""})
    CHECK_FALSE(is_refusal(yes));
}

TEST_CASE("png: only what pixels need is sent", "[data][caption]") {
  const std::string plain = picture(20, 10);
  CHECK(bare_png(plain, "p") == plain);
  CHECK(png_size(plain) == std::pair<Index, Index>(20, 10));
  const std::size_t after_header = 8 + 25;
  std::string told = plain;
  told.insert(after_header, chunk("tEXt", "Patient\0Doe") + chunk("eXIf", "GPS") + chunk("tIME", "1234567"));
  CHECK(bare_png(told, "p") == plain);
  CHECK(bare_png(plain + "Patient: Doe", "p") == plain);  // after the end
  for (std::size_t n = 0; n < plain.size(); ++n) CHECK_THROWS_AS(bare_png(plain.substr(0, n), "p.png"), FileError);
  CHECK_THROWS_WITH(bare_png("GIF89a", "p.png"), Catch::Contains("p.png"));
  std::string headless = plain;
  headless.erase(8, 25);
  CHECK_THROWS_AS(bare_png(headless, "p"), FileError);
  std::string huge = plain;
  huge[8] = '\xff';
  CHECK_THROWS_AS(bare_png(huge, "p"), FileError);
}

TEST_CASE("cost: the published rule for pictures, and prices for a million tokens", "[data][caption]") {
  CHECK(image_tokens(4096, 8192, "low") == 85);
  CHECK(image_tokens(1024, 1024, "high") == 765);  // the examples of the published rule
  CHECK(image_tokens(2048, 4096, "high") == 1105);
  CHECK(image_tokens(256, 256, "auto") == 255);
  CHECK(image_tokens(512, 512, "high") == 255);
  CaptionCost cost;
  CaptionParameters p = model();
  p.max_tokens = 200;
  for (int i = 0; i < 1000; ++i) cost.add(picture(8, 8), p);
  CHECK(cost.pictures == 1000);
  CHECK(cost.tokens_in == 1000 * (85 + prompt_tokens_about(p.prompt)));
  CHECK(cost.price(2, 10) == Approx(double(cost.tokens_in) * 2e-6 + 130000 * 1e-5));
  CHECK(cost.price_most(0, 10) == Approx(2));
  CHECK(double(cost.bytes) / 1000 == Approx(double(caption_request(picture(8, 8), p).size())).epsilon(0.05));
}

TEST_CASE("rate limit: places in time, corrected and paused", "[data][caption]") {
  RateLimit none(0, 0);
  CHECK(none.reserve(5, 1000000) == 5);
  CHECK(none.reserve(5, 1) == 5);
  RateLimit both(60, 600);  // one request and ten tokens a second
  CHECK(both.reserve(100, 50) == 100);
  CHECK(both.reserve(100, 0) == 105);
  both.correct(20);
  CHECK(both.reserve(100, 0) == 107);
  both.pause_until(200);
  both.pause_until(150);
  CHECK(both.reserve(100, 0) == 200);
  CHECK(both.reserve(100, 0) == 201);
}

TEST_CASE("back-off: doubles, is bounded, and is the same for the same seed", "[data][caption]") {
  const Random random(7);
  double total = 0;
  for (int attempt = 1; attempt <= 12; ++attempt) {
    const double wait = backoff_seconds(attempt, 1, 60, random);
    const double full = std::min(60.0, std::exp2(attempt - 1));
    CHECK(wait >= full / 2);
    CHECK(wait <= full);
    CHECK(wait == backoff_seconds(attempt, 1, 60, random));
    total += wait / full;
  }
  CHECK(total / 12 != Approx(1));
  const double asked = backoff_seconds(1, 1, 60, random, 90);
  CHECK(asked >= 90);  // never earlier than asked, even beyond the bound
  CHECK(asked <= 91);
}

TEST_CASE("triplets: where a caption came from survives a file", "[data][caption]") {
  const TemporaryFolder folder;
  Triplet t;
  t.id = "a";
  t.subject = "s";
  t.volume = "v.nii";
  t.caption = "A scan.";
  t.origin = CaptionOrigin{"Describe", "gpt", "gpt-1", 0.25, "**A scan.**\n", 100, 20, "ok"};
  Triplet u = t;
  u.id = "b";
  u.origin->temperature.reset();
  u.origin->prompt_tokens = u.origin->completion_tokens = -1;
  write_triplets(folder / "t.jsonl", {t, u});
  const auto read = read_triplets(folder / "t.jsonl");
  REQUIRE(read.size() == 2);
  REQUIRE(read[0].origin.has_value());
  CHECK(read[0].origin->temperature == 0.25);
  CHECK(read[0].origin->response == "**A scan.**\n");
  CHECK(read[0].origin->model_version == "gpt-1");
  CHECK(read[0].origin->prompt_tokens == 100);
  CHECK_FALSE(read[1].origin->temperature.has_value());
  CHECK(read[1].origin->completion_tokens == -1);
  const std::string line =
      R"({"id":"a","subject":"s","volume":"v","plane":"axial","slice":0,"slices":1,"caption":"c","origin":)";
  for (const char* bad : {"3}", "{}}", R"({"prompt":"p","model":"m","status":"ok","extra":1}})",
                          R"({"prompt":"p","model":"m","status":"ok","prompt_tokens":-5}})",
                          R"({"prompt":"p","model":"m","status":"ok","temperature":"hot"}})"})
    CHECK_THROWS_WITH(read_triplets(folder.write("bad.jsonl", line + bad)), Catch::Contains("origin"));
}
