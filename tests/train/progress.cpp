#include "m3i/train/progress.hpp"

#include <cmath>

#include "catch.hpp"

using namespace m3i;
using Catch::Contains;
using Catch::Matchers::Equals;

namespace {
std::string content(std::FILE* file) {
  std::string out;
  std::rewind(file);
  for (int c; (c = std::fgetc(file)) != EOF;) out += char(c);
  return out;
}
}  // namespace

TEST_CASE("progress: durations are short and exact", "[train][fast]") {
  CHECK(duration_text(0) == "0.0 s");
  CHECK(duration_text(0.0042) == "4.2 ms");
  CHECK(duration_text(0.0312) == "31 ms");
  CHECK(duration_text(0.0997) == "0.1 s");
  CHECK(duration_text(0.42) == "0.4 s");
  CHECK(duration_text(9.97) == "10 s");
  CHECK(duration_text(59.4) == "59 s");
  CHECK(duration_text(59.6) == "1 min 00 s");
  CHECK(duration_text(185) == "3 min 05 s");
  CHECK(duration_text(8040) == "2 h 14 min");
  CHECK(duration_text(273600) == "3 d 04 h");
  CHECK(duration_text(std::nan("")) == "?");
  CHECK(duration_text(-1) == "?");
}

TEST_CASE("progress: the line holds count, note, speed, wait and time left", "[train][fast]") {
  ProgressState state{"pretrain", "loss 0.512", 25, 100, 2, 0.04};
  CHECK_THAT(progress_text(state, 110, false), Equals("pretrain  #######.......................  25 %  25/100  loss "
                                                      "0.512  2.0 s/step  data wait 4 %  2 min 30 s left"));
  CHECK(text_columns(progress_text(state, 90, true)) <= 90);
  CHECK(progress_text(state, 30, true).size() == 30);
  state.done = 0;
  state.seconds_per_step = state.wait_fraction = -1;
  state.note.clear();
  CHECK_THAT(progress_text(state, 40, false), Equals("pretrain  ..................  0 %  0/100"));
  state.total = 0;
  CHECK_THAT(progress_text(state, 40, false), Contains("0 %"));
}

TEST_CASE("progress: without a terminal there are few plain lines, and steps of an earlier run do not count",
          "[train][fast]") {
  std::FILE* out = std::tmpfile();
  double clock = 1000;
  {
    Progress progress("fit", 110,
                      {.done = 10, .out = out, .terminal = 0, .plain_seconds = 20, .now = [&] { return clock; }});
    for (Index step = 11; step <= 110; ++step) {
      clock += 1;
      progress.add_wait(0.5);
      progress.update(step, "loss 1");
    }
    progress.finish();
  }
  const std::string text = content(out);
  std::fclose(out);
  CHECK(std::count(text.begin(), text.end(), '\n') == 7);  // steps 11, 31, 51, 71, 91, 110 and the summary
  CHECK_THAT(text, Contains("28 %  31/110  loss 1  1.0 s/step  data wait 50 %  1 min 19 s left"));
  CHECK_THAT(text, Contains("fit: 100 steps in 1 min 40 s; waited for data 50 % of the time: raise data.workers"));
  CHECK(text.find('\r') == std::string::npos);
  CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("progress: the last step is told once", "[train][fast]") {
  std::FILE* out = std::tmpfile();
  double clock = 0;
  Progress progress("fit", 1, {.out = out, .terminal = 0, .now = [&] { return clock; }});
  clock = 1;
  progress.update(1);
  clock = 2;
  progress.finish();
  CHECK_THAT(content(out),
             Equals("fit  ##############################  100 %  1/1  1.0 s/step\nfit: 1 step in 2.0 s\n"));
  std::fclose(out);
}

TEST_CASE("progress: on a terminal the line is redrawn at most ten times a second", "[train][fast]") {
  std::FILE* out = std::tmpfile();
  double clock = 0;
  {
    Progress progress("fit", 1000, {.out = out, .terminal = 1, .now = [&] { return clock; }});
    for (Index step = 1; step <= 500; ++step) {
      clock += 0.01;
      progress.update(step);
    }
    progress.say("saved");
  }
  const std::string text = content(out);
  std::fclose(out);
  const auto draws = std::count(text.begin(), text.end(), '\r');
  CHECK(draws >= 45);
  CHECK(draws <= 55);
  CHECK_THAT(text, Contains("\r\x1b[Ksaved\n"));
  CHECK(text.back() == '\n');  // unwinding ends the line
}
