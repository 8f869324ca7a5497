#pragma once
/// A progress line with the time that is left. On a terminal it is redrawn in place; in a file or a pipe it is a plain
/// line now and then.
///
///     Progress progress("pretrain", total_steps, {.done = first_step});
///     ...
///     progress.add_wait(seconds_spent_waiting_for_data);
///     progress.update(step + 1, "loss 0.512");
///     ...
///     progress.finish();

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <sys/ioctl.h>
#include <unistd.h>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// "31 ms", "0.4 s", "42 s", "3 min 05 s", "2 h 14 min", "3 d 04 h": two units at most, for people.
inline std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 3e9) return "?";
  char out[32];
  const long s = std::lround(seconds);
  if (seconds > 0 && seconds < 0.0995) std::snprintf(out, sizeof out, "%.*f ms", seconds < 0.00995, 1e3 * seconds);
  else if (seconds < 9.95) std::snprintf(out, sizeof out, "%.1f s", seconds);
  else if (s < 60) std::snprintf(out, sizeof out, "%ld s", s);
  else if (s < 3600) std::snprintf(out, sizeof out, "%ld min %02ld s", s / 60, s % 60);
  else if (s < 86400) std::snprintf(out, sizeof out, "%ld h %02ld min", s / 3600, s / 60 % 60);
  else std::snprintf(out, sizeof out, "%ld d %02ld h", s / 86400, s / 3600 % 24);
  return out;
}

/// Columns that UTF-8 text takes, one for each code point.
inline Index text_columns(std::string_view text) {
  return static_cast<Index>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; }));
}

/// What a progress line shows.
struct ProgressState {
  std::string label{}, note{};  ///< "pretrain", "loss 0.512"
  Index done = 0, total = 0;
  double seconds_per_step = -1;  ///< below 0: not known yet
  double wait_fraction = -1;     ///< of the time, spent waiting for data; below 0: not measured
};

/// The line, at most `columns` wide (the bar takes what the words leave; without room it goes).
inline std::string progress_text(const ProgressState& state, Index columns, bool unicode) {
  const double part = state.total > 0 ? std::clamp(double(state.done) / double(state.total), 0.0, 1.0) : 0;
  std::string right = text(static_cast<int>(part * 100), " %  ", state.done, "/", state.total);
  if (!state.note.empty()) right += "  " + state.note;
  if (state.seconds_per_step >= 0) right += "  " + duration_text(state.seconds_per_step) + "/step";
  if (state.wait_fraction >= 0) right += text("  data wait ", std::lround(state.wait_fraction * 100), " %");
  if (state.seconds_per_step >= 0 && state.done < state.total)
    right += "  " + duration_text(state.seconds_per_step * double(state.total - state.done)) + " left";
  const Index room = columns - text_columns(state.label) - text_columns(right) - 4;
  std::string bar;
  if (room >= 8) {
    const Index width = std::min<Index>(room, 30);
    const Index full = static_cast<Index>(part * double(width));
    for (Index i = 0; i < width; ++i) bar += i < full ? (unicode ? "━" : "#") : (unicode ? "┄" : ".");
    bar += "  ";
  }
  std::string line = state.label + "  " + bar + right;
  while (text_columns(line) > columns && !line.empty()) {  // a terminal too narrow for the words: cut whole characters
    while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0xC0u) == 0x80u) line.pop_back();
    if (!line.empty()) line.pop_back();
  }
  return line;
}

/// Settings of a Progress.
struct ProgressOptions {
  Index done = 0;  ///< steps that were done before this run; they do not count for the speed
  std::FILE* out = stderr;
  int terminal = -1;              ///< 1: redraw in place, 0: plain lines, -1: ask the system
  double plain_seconds = 20;      ///< between two plain lines
  std::function<double()> now{};  ///< seconds from any origin; empty for the steady clock
};

/// Draws the progress of one loop. Not for several threads.
class Progress {
 public:
  Progress(std::string label, Index total, ProgressOptions options = {})
      : options_(std::move(options)), first_(options_.done) {
    state_.label = std::move(label);
    state_.done = first_;
    state_.total = total;
    std::fflush(stdout);  // what was said before comes before, when both go to one place
    terminal_ = options_.terminal < 0 ? isatty(fileno(options_.out)) == 1 : options_.terminal == 1;
    unicode_ = terminal_ && utf8_locale();
    start_ = now();
    drawn_ = -1;
  }
  /// An error that unwinds the stack leaves the last line standing, so that the message gets a line of its own.
  ~Progress() { end_line(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` steps of all are done; `note` is shown beside the count.
  void update(Index done, std::string note = "") {
    state_.done = done;
    state_.note = std::move(note);
    const double t = now();
    if (drawn_ >= 0 && t - drawn_ < (terminal_ ? 0.1 : options_.plain_seconds) && done < state_.total) return;
    draw(t);
  }

  /// Seconds that the loop stood still because the next batch was not ready.
  void add_wait(double seconds) { waited_ = std::max(waited_, 0.0) + seconds; }

  /// A line of text of its own: the bar makes room for it.
  void say(const std::string& line) {
    if (open_line_) std::fputs("\r\x1b[K", options_.out);
    open_line_ = false;
    std::fprintf(options_.out, "%s\n", line.c_str());
    if (terminal_ && drawn_ >= 0) draw(now());
    std::fflush(options_.out);
  }

  /// The last state, the whole time, and advice if the loop mostly waited for data.
  void finish() {
    const double t = now();
    if (terminal_ || drawn_done_ != state_.done) draw(t);
    end_line();
    const Index steps = state_.done - first_;
    std::string line =
        text(state_.label, ": ", steps, steps == 1 ? " step in " : " steps in ", duration_text(t - start_));
    if (wait_fraction(t) > 0.3)
      line += text("; waited for data ", std::lround(wait_fraction(t) * 100), " % of the time: raise data.workers");
    std::fprintf(options_.out, "%s\n", line.c_str());
    std::fflush(options_.out);
  }

  /// Seconds a step since the start of this run, -1 before the first one.
  double seconds_per_step() const {
    return state_.done > first_ ? (now() - start_) / double(state_.done - first_) : -1;
  }

 private:
  double now() const {
    if (options_.now) return options_.now();
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  double wait_fraction(double t) const {
    return waited_ < 0 || t <= start_ ? -1 : std::min(waited_ / (t - start_), 1.0);
  }

  void draw(double t) {
    state_.seconds_per_step = seconds_per_step();
    state_.wait_fraction = wait_fraction(t);
    const std::string line = progress_text(state_, terminal_ ? terminal_columns() - 1 : 200, unicode_);
    if (terminal_) std::fprintf(options_.out, "\r%s\x1b[K", line.c_str());
    else if (line != last_) std::fprintf(options_.out, "%s\n", line.c_str());
    open_line_ = terminal_;
    last_ = line;
    drawn_done_ = state_.done;
    drawn_ = t;
    std::fflush(options_.out);
  }
  void end_line() {
    if (open_line_) std::fputs("\n", options_.out);
    open_line_ = false;
  }
  Index terminal_columns() const {
    winsize size{};
    if (ioctl(fileno(options_.out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
  }
  static bool utf8_locale() {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
      if (const char* value = std::getenv(name); value && *value)
        return std::string_view(value).find("UTF-8") != std::string_view::npos ||
               std::string_view(value).find("utf8") != std::string_view::npos;
    return false;
  }

  ProgressOptions options_;
  ProgressState state_;
  Index first_ = 0, drawn_done_ = -1;
  bool terminal_ = false, unicode_ = false, open_line_ = false;
  double start_ = 0, drawn_ = -1, waited_ = -1;
  std::string last_;
};

}  // namespace M3I_ABI
}  // namespace m3i
