// The program that asks a vision-language model, against a server on loopback.

#ifndef M3I_CURL
#define M3I_CURL 0
#endif
#if M3I_CURL

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "caption/server.hpp"
#include "programs.hpp"

using namespace programs;
using loopback::chat;
using loopback::reply;

namespace {

constexpr const char* secret = "sk-test-0123456789";

Arguments arguments(const std::string& out, const std::string& url, const Arguments& more = {}) {
  ::setenv("M3I_TEST_KEY", secret, 1);
  Arguments all{World::get().triplets(), out, "--model", "tester", "--base-url", url, "--key-env", "M3I_TEST_KEY"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

long lines(const std::string& path) {
  const std::string bytes = slurp(path);
  return std::count(bytes.begin(), bytes.end(), '\n');
}

loopback::Reply good(const loopback::Request& r) {
  return reply(200, chat("A scan with the number " + std::to_string(r.number) + "."));
}

}  // namespace

TEST_CASE("caption: --help names every argument and an example", "[examples]") {
  const Answer answer = done("caption", {"--help"});
  for (const char* word : {"triplets", "out", "--base-url", "--model", "--key-env", "--i-understand", "--dry-run",
                           "--price-in", "--parallel", "--requests-per-minute", "--retries", "Example"})
    CHECK_THAT(answer.out, Catch::Contains(word));
  refuses("caption", {}, {"--help"});
  refuses("caption", {"--no-such-option"}, {"--help"});
}

TEST_CASE("caption: captions every slice once, and a second run asks nothing", "[examples]") {
  const Scratch scratch;
  loopback::Server server(
      [](const loopback::Request& r) { return r.number == 1 ? reply(429, "", "Retry-After: 0\r\n") : good(r); });
  const std::string out = scratch / "captioned.jsonl";
  const Arguments all = arguments(out, server.url(), {"--backoff", "0.001"});
  const Answer first = done("caption", all);
  const long n = lines(World::get().triplets());
  CHECK(lines(out) == n);
  CHECK(server.count() == n + 1);
  for (const char* word : {"\"describer\":\"tester\"", "\"origin\":", "\"model_version\":\"tester-2026-01-01\"",
                           "\"temperature\":null", "\"completion_tokens\":20", "\"status\":\"ok\"", "number"})
    CHECK_THAT(slurp(out), Catch::Contains(word));
  CHECK_THAT(first.out, Catch::Contains("tokens in") && Catch::Contains("longer than the 75 tokens"));
  for (const auto& r : server.requests()) CHECK_THAT(r.body, !Catch::Contains("phantom") && !Catch::Contains(".nii"));
  CHECK_THAT(first.out + first.errors + slurp(out) + slurp(out + ".journal"), !Catch::Contains(secret));

  const std::string before = slurp(out);
  done("caption", all);
  CHECK(server.count() == n + 1);
  CHECK(slurp(out) == before);
  done("fit_clip", with_tiny({out, scratch / "clip"}));  // the result is triplets like any others
}

TEST_CASE("caption: --dry-run counts, prices, and touches neither network nor disk", "[examples]") {
  const Scratch scratch;
  loopback::Server server(good);
  const Answer answer = done(
      "caption", arguments(scratch / "c.jsonl", server.url(), {"--dry-run", "--price-in", "2.5", "--price-out", "10"}));
  for (const char* word : {"10 slices", "10 to send to 127.0.0.1", "tokens in", "estimate", "costs about"})
    CHECK_THAT(answer.out, Catch::Contains(word));
  CHECK(server.count() == 0);
  CHECK_FALSE(fs::exists(scratch / "c.jsonl.journal"));
}

TEST_CASE("caption: pictures leave this machine only with consent, and only encrypted", "[examples]") {
  const Scratch scratch;
  const std::string out = scratch / "c.jsonl";
  refuses("caption", arguments(out, "https://caption.invalid/v1"),
          {"10 pictures", "caption.invalid", "burnt into the pixels", "--i-understand"});
  refuses("caption", arguments(out, "http://caption.invalid/v1", {"--i-understand"}), {"unencrypted", "--allow-http"});
  const Arguments keyless = arguments(out, "https://caption.invalid/v1", {"--i-understand"});
  ::unsetenv("M3I_TEST_KEY");
  refuses("caption", keyless, {"M3I_TEST_KEY", "not set"});
  CHECK_FALSE(fs::exists(out + ".journal"));
}

TEST_CASE("caption: a refused key ends the run at once and is not shown", "[examples]") {
  const Scratch scratch;
  loopback::Server server([](const auto&) {
    return reply(401, std::string(R"({"error":{"message":"Incorrect API key provided: )") + secret + "\"}}");
  });
  const Arguments all = arguments(scratch / "c.jsonl", server.url(), {"--parallel", "1"});
  refuses("caption", all, {"HTTP 401", "Incorrect API key provided: [key]", "--key-env"});
  CHECK(server.count() == 1);
  const Answer answer = run("caption", all);
  CHECK_THAT(answer.out + answer.errors, !Catch::Contains(secret));
  CHECK_FALSE(fs::exists(scratch / "c.jsonl"));
}

TEST_CASE("caption: after kill -9 and after Ctrl-C the same command goes on and pays nothing twice", "[examples]") {
  const Scratch scratch;
  const std::string out = scratch / "c.jsonl";
  loopback::Server server([](const loopback::Request& r) {
    loopback::Reply answer = good(r);
    answer.seconds = 0.02;
    return answer;
  });
  const Arguments all = arguments(out, server.url(), {"--parallel", "1"});
  {
    Running killed("caption", all);
    Running::until([&] { return fs::exists(out + ".journal") && lines(out + ".journal") >= 3; });
    killed.send(SIGKILL);
    killed.wait();
  }
  CHECK_FALSE(fs::exists(out));
  const long kept = lines(out + ".journal");
  const int lost = server.count() - int(kept);
  CHECK(lost <= 1);
  {
    Running stopped("caption", all);
    Running::until([&] { return lines(out + ".journal") >= kept + 2; });
    stopped.send(SIGINT);
    const Answer answer = stopped.wait();
    if (answer.code != 0) {  // else it was done before the signal
      CHECK(answer.code == 130);
      CHECK_THAT(answer.out, Catch::Contains("run the same command to go on"));
    }
  }
  done("caption", all);
  CHECK(server.count() == 10 + lost);
  CHECK(lines(out) == 10);
}

TEST_CASE("caption: slices that the model declines are left out and counted", "[examples]") {
  const Scratch scratch;
  loopback::Server server([](const loopback::Request& r) {
    return r.number < 3 ? reply(200, chat("I'm sorry, but I can't help with that.")) : good(r);
  });
  const std::string out = scratch / "c.jsonl";
  const Arguments all = arguments(out, server.url());
  CHECK_THAT(done("caption", all).out, Catch::Contains("refusal        3") && Catch::Contains("7 triplets"));
  CHECK(lines(out) == 7);
  Arguments again = all;
  again.push_back("--retry-failed");
  done("caption", again);
  CHECK(lines(out) == 10);
  CHECK(server.count() == 13);
}

TEST_CASE("caption: what cannot be is refused before anything is sent", "[examples]") {
  const Scratch scratch;
  loopback::Server server(good);
  const std::string url = server.url(), out = scratch / "c.jsonl";
  const Arguments good_ones = arguments(out, url);
  const auto with = [&](std::size_t at, const std::string& value) {
    Arguments all = good_ones;
    all[at] = value;
    return all;
  };
  refuses("caption", with(0, scratch / "none.jsonl"), {"none.jsonl"});
  refuses("caption", with(1, World::get().triplets()), {"is the input"});
  refuses("caption", with(1, fs::path(out).parent_path().string()), {"is a folder"});
  refuses("caption", with(1, scratch / "no/folder/c.jsonl"), {"no/folder"});
  spit(scratch / "mine.jsonl", "precious");
  refuses("caption", with(1, scratch / "mine.jsonl"), {"--overwrite"});
  refuses("caption", with(5, "https://me:pw@host/v1"), {"environment"});
  refuses("caption", with(7, secret), {"NAME of an environment variable"});
  CHECK_THAT(run("caption", with(7, secret)).errors, !Catch::Contains(secret));
  refuses("caption", arguments(out, url, {"--vocabulary", scratch / "none.txt"}), {"none.txt"});
  refuses("caption", arguments(out, url, {"--price-in", "3"}), {"--price-out"});
  refuses("caption", arguments(out, url, {"--prompt", " "}), {"prompt is empty"});
  CHECK(server.count() == 0);
  CHECK(slurp(scratch / "mine.jsonl") == "precious");
}

#endif
