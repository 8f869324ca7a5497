#include "m3i/io/checkpoint.hpp"

#include <sys/wait.h>

#include "catch.hpp"
#include "scratch.hpp"

using namespace m3i;

namespace {

TrainingState state_at(Index step) {
  TrainingState s;
  s.step = step;
  s.seed = 18446744073709551615u;
  s.network = "tiny 2";
  s.config = {{"depth", 2}, {"rate", 0.1}};
  s.random.emplace("data", Random(1, 2, 3));
  s.counters = {{"epoch", 4}, {"sample", 17}};
  s.notes = {{"data", "é"}};
  return s;
}
std::vector<NamedArray> arrays(double value) {
  return {{"model/w", Tensor<float>::full({2, 3}, float(value))},
          {"optimizer/w.moment", Tensor<double>::full({2}, value)},
          {"metric/steps", Tensor<Index>::scalar(Index(value))}};
}
double value_of(const Checkpoint& c) {
  const double value = c.file->tensor<double>("optimizer/w.moment").to_vector()[1];
  CHECK(c.file->tensor<float>("model/w").to_vector()[5] == float(value));
  CHECK(c.state.step == Index(value));
  return value;
}

}  // namespace

TEST_CASE("crc32: the check value of the standard, in any pieces", "[io]") {
  CHECK(crc32("123456789") == 0xCBF43926u);
  const std::string s = "The quick brown fox jumps over the lazy dog";
  CHECK(crc32(s) == 0x414FA339u);
  for (std::size_t n = 0; n <= s.size(); ++n) REQUIRE(crc32(s.substr(n), crc32(s.substr(0, n))) == 0x414FA339u);
}

TEST_CASE("checkpoint: everything comes back as it was", "[io]") {
  const Scratch scratch;
  write_checkpoint(scratch / "c", arrays(7), state_at(7));
  const Checkpoint c = read_checkpoint(scratch / "c");
  CHECK(value_of(c) == 7);
  const TrainingState s = state_at(7);
  CHECK(c.state.seed == s.seed);
  CHECK(c.state.network == s.network);
  CHECK(c.state.config == s.config);
  CHECK(c.state.counters == s.counters);
  CHECK(c.state.notes == s.notes);
  const Random r = c.state.random.at("data");
  CHECK((r.seed == 1 && r.stream == 2 && r.next == 3));
  write_checkpoint(scratch / "d", arrays(7), c.state);
  CHECK(file_bytes(scratch / "c") == file_bytes(scratch / "d"));
}

TEST_CASE("checkpoint: cut at any byte or with a bit of any byte turned it is refused", "[io][errors]") {
  const Scratch scratch;
  const std::string path = scratch / "c";
  write_checkpoint(path, arrays(7), state_at(7));
  const std::string whole = file_bytes(path);
  std::size_t accepted = 0;
  const auto attempt = [&](const std::string& bytes) {
    put_bytes(path, bytes);
    try {
      read_checkpoint(path);
      ++accepted;
    } catch (const FileError& error) {
      if (std::string(error.what()).find(path) == std::string::npos) FAIL("does not name the file: " << error.what());
    }
  };
  for (std::size_t n = 0; n < whole.size(); ++n) attempt(whole.substr(0, n));
  CHECK(accepted == 0);
  std::size_t padding = 0;  // the header's trailing spaces carry nothing; tab, CR or LF there is valid JSON
  std::uint64_t length = 0;
  std::memcpy(&length, whole.data(), 8);
  while (whole[8 + length - 1 - padding] == ' ') ++padding;
  for (std::size_t n = 0; n < whole.size(); ++n) {
    if (n >= 8 + length - padding && n < 8 + length) continue;
    std::string damaged = whole;
    damaged[n] = char(damaged[n] ^ (1 << n % 8));
    attempt(damaged);
  }
  CHECK(accepted == 0);
}

TEST_CASE("checkpoint: other safetensors files are told apart", "[io][errors]") {
  const Scratch scratch;
  write_safetensors(scratch / "plain", arrays(1));
  CHECK_THROWS_WITH(read_checkpoint(scratch / "plain"), Catch::Contains("not a training checkpoint"));
  write_safetensors(scratch / "old", arrays(1), {{"format", "m3i-checkpoint-0"}});
  CHECK_THROWS_WITH(read_checkpoint(scratch / "old"), Catch::Contains("m3i-checkpoint-0"));
}

TEST_CASE("checkpoint: a folder keeps the last ones and finds the newest", "[io]") {
  const Scratch scratch;
  const CheckpointFolder folder(scratch / "run/checkpoints", 2);
  CHECK(folder.empty());
  CHECK_THROWS_WITH(folder.latest(), Catch::Contains("holds none"));
  for (const Index step : {5, 10, 100, 1000}) folder.save(arrays(double(step)), state_at(step));
  CHECK(folder.steps() == std::vector<Index>{1000, 100});
  CHECK(value_of(folder.latest()) == 1000);
  CHECK_THROWS_AS(CheckpointFolder("x", 0), ConfigError);
}

TEST_CASE("checkpoint: files of other names are left alone, leftovers of killed runs are removed", "[io]") {
  const Scratch scratch;
  const CheckpointFolder folder(scratch.folder.string(), 1);
  for (const char* name : {"step-7.safetensors", "step-x.safetensors", "best.safetensors", "step-.safetensors"})
    put_bytes(scratch / name, "mine");
  put_bytes(folder.path(3) + ".tmp.123.0", "half");
  folder.save(arrays(4), state_at(4));
  CHECK(folder.steps() == std::vector<Index>{4});
  CHECK(scratch.files() == 5);
}

TEST_CASE("checkpoint: a damaged newest one is an error, or is passed over when allowed", "[io][errors]") {
  const Scratch scratch;
  const CheckpointFolder folder(scratch.folder.string());
  for (const Index step : {1, 2, 3}) folder.save(arrays(double(step)), state_at(step));
  const std::string newest = file_bytes(folder.path(3));
  put_bytes(folder.path(3), newest.substr(0, newest.size() / 2));
  CHECK_THROWS_WITH(folder.latest(), Catch::Contains(folder.path(3)) && Catch::Contains("falling back"));
  std::vector<std::string> skipped;
  CHECK(value_of(folder.latest(true, &skipped)) == 2);
  REQUIRE(skipped.size() == 1);
  CHECK_THAT(skipped[0], Catch::Contains(folder.path(3)));
  for (const Index step : {1, 2}) put_bytes(folder.path(step), "");
  CHECK_THROWS_WITH(folder.latest(true), Catch::Contains("none") && Catch::Contains(folder.path(1)));
}

TEST_CASE("checkpoint: a failure at any system call leaves a checkpoint that loads", "[io][errors]") {
  for (int n = 1, calls = 100; n <= calls; ++n) {
    const Scratch scratch;
    const CheckpointFolder folder(scratch.folder.string());
    folder.save(arrays(1), state_at(1));
    bool failed = false;
    {
      const FailingCall fail_here(n, EIO);
      try {
        folder.save(arrays(2), state_at(2));
      } catch (const FileError& error) {
        failed = true;
        CHECK_THAT(error.what(), Catch::Contains("Input/output error"));
      }
      if (!failed) calls = FailingCall::calls;
    }
    CAPTURE(n, FailingCall::name);
    const bool in_place = !failed || FailingCall::name == "fsync_folder";
    CHECK(value_of(folder.latest()) == (in_place ? 2 : 1));
    CHECK(scratch.files() == (in_place ? 2 : 1));
    if (!failed) CHECK(n > 8);  // open, 2 + 3 writes, fsync, rename, fsync_folder were all tried
  }
}

TEST_CASE("checkpoint: a process killed at any system call leaves a checkpoint that loads", "[io]") {
  for (int n = 1; n <= 9; ++n) {
    const Scratch scratch;
    const CheckpointFolder folder(scratch.folder.string());
    folder.save(arrays(1), state_at(1));
    FailingCall::countdown = n;
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      file_fault() = [](const char*) {
        if (--FailingCall::countdown == 0) _exit(1);
        return 0;
      };
      folder.save(arrays(2), state_at(2));
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CAPTURE(n);
    CHECK(WEXITSTATUS(status) == 1);
    const double value = value_of(folder.latest());
    CHECK((value == 1 || value == 2));
    folder.save(arrays(3), state_at(3));  // also removes what the killed process left
    CHECK(value_of(folder.latest()) == 3);
    CHECK(scratch.files() == folder.steps().size());
  }
}

TEST_CASE("checkpoint: one of another network is refused with what differs", "[io][errors]") {
  const Scratch scratch;
  write_checkpoint(scratch / "c", arrays(1), state_at(1));
  const Checkpoint c = read_checkpoint(scratch / "c");
  const auto slots = [](const Shape& shape) {
    return std::vector<StateSlot<float>>{{"w", shape, Layout::same, [](const Tensor<float>&) {}}};
  };
  CHECK_NOTHROW(require_same_network(c, "model/", slots({2, 3}), state_at(0)));
  TrainingState other = state_at(0);
  other.config["depth"] = 4;
  CHECK_NOTHROW(require_same_network(c, "model/", slots({2, 3}), other));
  CHECK_THROWS_WITH(require_same_network(c, "model/", slots({2, 4}), other),
                    Catch::Contains("another network") && Catch::Contains("w is [2, 3] in the file") &&
                        Catch::Contains("config depth: 4 here, 2 there"));
  other.network = "large 9";
  CHECK_THROWS_WITH(require_same_network(c, "model/", slots({2, 3}), other),
                    Catch::Contains("\"tiny 2\"") && Catch::Contains("\"large 9\""));
}
