#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <unistd.h>

#include "caption/server.hpp"
#include "m3i/data/caption_run.hpp"
#include "m3i/data/http_curl.hpp"

using namespace m3i;
using loopback::chat;
using loopback::reply;

namespace {

/// Time that passes only by sleeping.
struct Virtual {
  std::mutex mutex;
  double seconds = 1000;
  CaptionClock clock() {
    CaptionClock c;
    c.now = [this] {
      const std::lock_guard lock(mutex);
      return seconds;
    };
    c.calendar = [this] {
      const std::lock_guard lock(mutex);
      return 784111777 - 1000 + seconds;  // begins at Sun, 06 Nov 1994 08:49:37 GMT
    };
    c.sleep = [this](double s) {
      const std::lock_guard lock(mutex);
      seconds += s;
    };
    return c;
  }
};

/// A journal of its own, `n` jobs, and what was heard while they ran.
struct World {
  static constexpr const char* key = "sk-secret-2";
  std::string journal_path;
  std::vector<CaptionJob> jobs;
  CaptionParameters ask;
  CaptionRunOptions options;
  CurlOptions http;
  Virtual time;
  std::string heard;
  std::function<bool()> stop = [] { return false; };

  explicit World(int n) {
    static int count = 0;
    journal_path =
        (std::filesystem::temp_directory_path() / text("m3i_caption_", long(::getpid()), "_", count++, ".journal"))
            .string();
    ask.model = "tester";
    options.parallel = 1;
    options.clock = time.clock();
    http.timeout_seconds = 0.3;
    for (int i = 0; i < n; ++i) {
      const auto bytes = png_bytes(Image(2, 2 + i, 1));
      const std::string png(bytes.begin(), bytes.end());
      jobs.push_back({caption_key(png, ask), text("slice", i), [png] { return png; }});
    }
  }
  ~World() { std::filesystem::remove(journal_path); }

  CaptionRunResult run(const loopback::Server& server) {
    CaptionJournal journal(journal_path);
    std::vector<CaptionJob> open;
    for (const CaptionJob& job : jobs)
      if (const auto* a = journal.find(job.key); !a || !is_final(a->status)) open.push_back(job);
    const ApiKey secret{key};
    CaptionEvents events;
    events.stop = stop;
    events.redact = [&](std::string s) { return secret.redact(std::move(s)); };
    events.answer = [&](const CaptionJob&, const CaptionAnswer& a) {
      heard += a.caption + a.response + a.error + "\n";
    };
    events.waiting = [&](const CaptionJob&, const std::string& why, double s) {
      heard += text(why, " wait ", s, "\n");
    };
    const Endpoint endpoint = parse_endpoint(server.url());
    const auto connect = [&]() -> HttpPost {
      const auto client = std::make_shared<CurlClient>(endpoint.url + "/chat/completions", endpoint, secret, http);
      return [client](const std::string& body) { return client->post(body); };
    };
    return run_captions(open, ask, options, journal, connect, events);
  }
  std::string journal_text() const {
    std::ifstream in(journal_path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

/// One slice, and a server that says these things one after the other; the last one for ever.
struct Dialogue {
  World world{1};
  CaptionRunResult result;
  int asked = 0;
  double waited = 0;
  CaptionAnswer answer;

  explicit Dialogue(std::vector<loopback::Reply> replies, int retries = 5) {
    world.options.retries = retries;
    loopback::Server server(
        [&](const loopback::Request& r) { return replies[std::min(std::size_t(r.number), replies.size() - 1)]; });
    result = world.run(server);
    asked = server.count();
    waited = world.time.seconds - 1000;
    const auto answers = read_caption_journal(world.journal_path);
    if (!answers.empty()) answer = answers.begin()->second;
  }
};

}  // namespace

TEST_CASE("captions: a good answer is kept with all that the service said of it", "[caption]") {
  const Dialogue d({reply(200, chat("**Caption:** A coronal\\n CT scan."))});
  CHECK(d.result.answered == 1);
  CHECK(d.asked == 1);
  CHECK(d.waited == 0);
  CHECK(d.answer.status == CaptionStatus::ok);
  CHECK(d.answer.caption == "A coronal CT scan.");
  CHECK(d.answer.response == "**Caption:** A coronal\n CT scan.");
  CHECK(d.answer.model_version == "tester-2026-01-01");
  CHECK(d.answer.prompt_tokens == 100);
  CHECK(d.answer.completion_tokens == 20);
}

TEST_CASE("captions: the service's Retry-After is waited for, in seconds and as a date", "[caption]") {
  const Dialogue seconds(
      {reply(429, R"({"error":{"message":"slow down"}})", "Retry-After: 7\r\n"), reply(200, chat("A."))});
  CHECK(seconds.answer.caption == "A.");
  CHECK(seconds.asked == 2);
  CHECK(seconds.waited >= 7);
  CHECK(seconds.waited < 8.1);
  CHECK_THAT(seconds.world.heard, Catch::Contains("HTTP 429: slow down"));

  const std::string date = "Retry-After: Sun, 06 Nov 1994 08:49:57 GMT\r\n";
  const Dialogue local({reply(429, "", date), reply(200, chat("A."))});
  CHECK(local.waited >= 20);  // by our clock
  CHECK(local.waited < 21.1);
  const Dialogue theirs({reply(503, "", date + "Date: Sun, 06 Nov 1994 08:49:47 GMT\r\n"), reply(200, chat("A."))});
  CHECK(theirs.waited >= 10);  // by theirs, which is 10 s ahead
  CHECK(theirs.waited < 11.1);
}

TEST_CASE("captions: server errors are retried with growing waits, up to the limit", "[caption]") {
  const Dialogue d({reply(500, "oops"), reply(502, ""), reply(408, ""), reply(409, ""), reply(200, chat("A."))});
  CHECK(d.answer.caption == "A.");
  CHECK(d.asked == 5);
  CHECK(d.waited >= 0.5 * (1 + 2 + 4 + 8));
  CHECK(d.waited <= 1 + 2 + 4 + 8 + 1e-6);

  const Dialogue never({reply(500, "oops")}, 2);
  CHECK(never.asked == 3);
  CHECK(never.answer.status == CaptionStatus::unreachable);
  CHECK_THAT(never.answer.error, Catch::Contains("3 attempts") && Catch::Contains("HTTP 500: oops"));
  CHECK(never.result.failed == 1);
}

TEST_CASE("captions: time-outs and connections that break are retried", "[caption]") {
  const Dialogue d(
      {{"", 0, true}, {""}, {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"ch"}, reply(200, chat("A."))});
  CHECK(d.asked == 4);
  CHECK(d.answer.caption == "A.");
}

TEST_CASE("captions: answers that say nothing are recorded with their reason, not asked again at once", "[caption]") {
  const std::string usage = R"(,"usage":{"prompt_tokens":1,"completion_tokens":2}})";
  const auto status = [](const std::string& body, int code = 200) {
    const Dialogue d({reply(code, body)});
    CHECK(d.asked == 1);
    CHECK_FALSE(d.answer.error.empty());
    return d.answer.status;
  };
  CHECK(status("") == CaptionStatus::malformed);
  CHECK(status(R"({"choices":[{"message":{"content":"A cor)") == CaptionStatus::malformed);
  CHECK(status(R"({"choices":"many"})") == CaptionStatus::malformed);
  CHECK(status("<html>Welcome</html>") == CaptionStatus::malformed);
  CHECK(status(R"({"error":{"message":"overloaded"}})") == CaptionStatus::malformed);
  CHECK(status(chat("")) == CaptionStatus::empty);
  CHECK(status(chat("<think>hm, an image", "length")) == CaptionStatus::empty);
  CHECK(status(chat("I'm sorry, but I can't help with medical images.")) == CaptionStatus::refusal);
  CHECK(status(chat("A scan", "content_filter")) == CaptionStatus::content_filter);
  CHECK(status(R"({"error":{"message":"no","code":"content_filter"}})", 400) == CaptionStatus::content_filter);
  CHECK(status(R"({"error":{"message":"picture too small"}})", 400) == CaptionStatus::rejected);
  CHECK(status("{\"error\":\"\xff\xfe\"}", 400) == CaptionStatus::rejected);  // no UTF-8: the journal takes it
  CHECK(status("\xff\xfe Bilder", 418) == CaptionStatus::rejected);
  CHECK(status("\xff\xfe Bilder") == CaptionStatus::malformed);
  CHECK(status(chat("A scan of the", "length")) == CaptionStatus::length);
  CHECK(status(std::string(5 << 20, ' ')) == CaptionStatus::oversize);
}

TEST_CASE("captions: what would meet every slice ends the run after the first", "[caption]") {
  for (const int code : {401, 402, 403, 404, 301}) {
    World world(3);
    loopback::Server server([&](const auto&) {
      return reply(code, R"({"error":{"message":"no: sk-secret-2 s\u006b-secret-2","code":"x"}})",
                   "Location: http://127.0.0.1:9/\r\n");
    });
    const auto result = world.run(server);
    CHECK(server.count() == 1);
    CHECK_THAT(result.stopped, Catch::Contains(text("HTTP ", code)) && !Catch::Contains(World::key));
    CHECK_THAT(world.heard + world.journal_text(), !Catch::Contains(World::key));
    CHECK(world.journal_text().empty());  // all of them are asked again
  }
  World broke(2);
  loopback::Server quota([](const auto&) {
    return reply(429, R"({"error":{"message":"pay","code":"insufficient_quota"}})", "Retry-After: 1\r\n");
  });
  CHECK_THAT(broke.run(quota).stopped, Catch::Contains("used up"));
  CHECK(quota.count() == 1);
  World patient(2);
  loopback::Server slow([](const auto&) { return reply(429, "", "Retry-After: 86400\r\n"); });
  CHECK_THAT(patient.run(slow).stopped, Catch::Contains("86400 s"));
  CHECK(patient.time.seconds == 1000);
}

TEST_CASE("captions: five slices in a row without a usable answer end the run", "[caption]") {
  World world(9);
  loopback::Server server([](const loopback::Request& r) {
    return r.number == 2 ? reply(200, chat("A scan.")) : reply(400, R"({"error":"unknown parameter"})");
  });
  const auto result = world.run(server);
  CHECK(server.count() == 8);  // 2 bad, 1 good, 5 bad
  CHECK(result.answered == 1);
  CHECK(result.failed == 7);
  CHECK_THAT(result.stopped, Catch::Contains("5 slices") && Catch::Contains("unknown parameter"));
}

TEST_CASE("captions: a key that a service writes with escapes reaches no journal", "[caption]") {
  const Dialogue d({reply(200, chat("A scan by s\\u006b-secret-2."))});
  CHECK(d.answer.caption == "A scan by [key].");
  CHECK_THAT(d.world.journal_text() + d.world.heard, !Catch::Contains(World::key));
}

TEST_CASE("captions: parallel requests ask for each slice once and keep every answer", "[caption]") {
  World world(40);
  world.options.parallel = 8;
  loopback::Server server([](const loopback::Request& r) {
    return r.number % 7 == 3 ? reply(503, "") : reply(200, chat("Scan " + std::to_string(r.number) + "."));
  });
  const auto result = world.run(server);
  CHECK(result.answered == 40);
  std::set<std::string> captions;
  for (const auto& [key, a] : read_caption_journal(world.journal_path)) captions.insert(a.caption);
  CHECK(captions.size() == 40);
  CHECK(world.run(server).answered == 0);  // nothing is left to ask
}

TEST_CASE("captions: after a kill in the middle of a line only that slice is asked again", "[caption]") {
  World world(4);
  loopback::Server server([](const auto&) { return reply(200, chat("A scan with words.")); });
  world.run(server);
  const std::string whole = world.journal_text();
  const auto last = whole.rfind('\n', whole.size() - 2) + 1;
  for (std::size_t cut = last; cut < whole.size(); cut += 9) {
    std::ofstream(world.journal_path, std::ios::binary) << whole.substr(0, cut);
    const int before = server.count();
    CHECK(world.run(server).answered == 1);
    CHECK(server.count() == before + 1);
    CHECK(world.journal_text() == whole);
  }
}

TEST_CASE("captions: a journal is used by one run at a time, and damage in its middle is named", "[caption]") {
  World world(2);
  loopback::Server server([](const auto&) { return reply(200, chat("A scan.")); });
  world.run(server);
  {
    CaptionJournal first(world.journal_path);
    CHECK_THROWS_WITH(CaptionJournal(world.journal_path), Catch::Contains("another run"));
  }
  std::ofstream(world.journal_path, std::ios::binary) << "{\"key\":\"a\",\n" << world.journal_text();
  CHECK_THROWS_WITH(CaptionJournal(world.journal_path), Catch::Contains(world.journal_path + ":1"));
}

TEST_CASE("captions: the caller can stop; what was asked is kept", "[caption]") {
  World world(5);
  loopback::Server server([](const auto&) { return reply(200, chat("A scan.")); });
  world.stop = [&] { return server.count() >= 2; };
  CHECK(world.run(server).answered == 2);
  world.stop = [] { return false; };
  CHECK(world.run(server).answered == 3);
  CHECK(server.count() == 5);
}

TEST_CASE("captions: limits of requests and tokens space the requests out", "[caption]") {
  World requests(5);
  requests.options.requests_per_minute = 30;
  loopback::Server server([](const auto&) { return reply(200, chat("A scan.")); });
  requests.run(server);
  CHECK(requests.time.seconds == Approx(1008));  // four gaps of 2 s
  World tokens(5);
  tokens.options.tokens_per_minute = 1200;  // the service counts 120 for each: 6 s
  tokens.run(server);
  CHECK(tokens.time.seconds == Approx(1024).margin(0.2));
}
