#include "m3i/train/log.hpp"

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "../io/scratch.hpp"
#include "catch.hpp"
#include "m3i/core/atomic_file.hpp"

using namespace m3i;
using Catch::Contains;

TEST_CASE("log: what is written is read, also while the log is open", "[train][fast]") {
  const Scratch folder;
  RunLog log = RunLog::create(folder / "log.jsonl");
  log.write({{"event", "start"}});
  log.write({{"step", 1}, {"loss", 0.5}, {"ot", {{"mass", 0.9}}}});
  log.write({{"step", 2}, {"loss", std::nan("")}});
  const auto records = read_log(log.path());
  REQUIRE(records.records.size() == 3);
  const auto loss = records.column("loss");
  CHECK(loss.x == std::vector<double>{1, 2});
  CHECK(loss.y[0] == 0.5);
  CHECK(std::isnan(loss.y[1]));
  CHECK(records.column("ot.mass").y == std::vector<double>{0.9});
  CHECK(records.column("ot.none").y.empty());
}

TEST_CASE("log: a resumed log holds no step twice and no unfinished line", "[train][fast]") {
  const Scratch folder;
  const std::string path = folder / "log.jsonl";
  {
    RunLog log = RunLog::create(path);
    log.write({{"event", "start"}});
    for (int step = 1; step <= 40; ++step) log.write({{"step", step}, {"loss", 1.0 / step}});
  }
  std::FILE* file = std::fopen(path.c_str(), "ab");  // what a kill in the middle of a write leaves
  std::fputs("{\"step\": 41, \"lo", file);
  std::fclose(file);
  CHECK(read_log(path).records.size() == 41);
  {
    RunLog log = RunLog::resume(path, 37);
    log.write({{"step", 38}, {"loss", 7}});
  }
  const auto loss = read_log(path).column("loss");
  REQUIRE(loss.x.size() == 38);
  for (std::size_t i = 0; i < 38; ++i) CHECK(loss.x[i] == double(i + 1));
  CHECK(loss.y[37] == 7);
}

TEST_CASE("log: resuming at 0, with no file, or only an unfinished line", "[train][fast]") {
  const Scratch folder;
  { RunLog::resume(folder / "new.jsonl", 5).write({{"step", 6}}); }
  CHECK(read_log(folder / "new.jsonl").records.size() == 1);
  { RunLog::resume(folder / "new.jsonl", 0); }
  CHECK(std::filesystem::file_size(folder / "new.jsonl") == 0);
  write_file(folder / "torn.jsonl", "{\"step\": 1");
  { RunLog::resume(folder / "torn.jsonl", 5).write({{"step", 2}}); }
  CHECK(read_log(folder / "torn.jsonl").records.size() == 1);
}

TEST_CASE("log: while a run writes it, no other run may", "[train][fast]") {
  const Scratch folder;
  const std::string path = folder / "log.jsonl";
  {
    RunLog log = RunLog::create(path);
    log.write({{"step", 1}});
    CHECK_THROWS_WITH(RunLog::create(path), Contains(path) && Contains("is being written"));
    CHECK_THROWS_WITH(RunLog::resume(path, 0), Contains(path) && Contains("is being written"));
    CHECK(read_log(path).records.size() == 1);
  }
  { RunLog::resume(path, 1).write({{"step", 2}}); }
  CHECK(read_log(path).records.size() == 2);
}

TEST_CASE("log: errors name the file and what to do", "[train][fast][errors]") {
  const Scratch folder;
  const std::string path = folder / "log.jsonl";
  { RunLog::create(path).write({{"step", 1}}); }
  CHECK_THROWS_WITH(RunLog::create(path), Contains(path) && Contains("resume"));
  CHECK_THROWS_WITH(RunLog::create(folder / "no/log.jsonl"), Contains("cannot be opened for writing"));
  CHECK_THROWS_WITH(read_log(folder / "none.jsonl"), Contains("none.jsonl"));
  write_file(path, "{\"step\": 1}\nnot json\n");
  CHECK_THROWS_WITH(read_log(path), Contains("line 2 is not a JSON record"));
  CHECK_THROWS_WITH(RunLog::resume(path, 3), Contains("line 2 is not a JSON record"));
  CHECK(std::filesystem::file_size(path) == 21);  // and the file is as it was
  if (std::filesystem::exists("/dev/full"))
    CHECK_THROWS_WITH(RunLog::create("/dev/full").write({{"step", 1}}), Contains("/dev/full") && Contains("disk full"));
}
