#pragma once
/// Runs the built programs of examples/ and says what they answered.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "catch.hpp"

namespace programs {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void spit(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// Everything below a folder: name and content of each file.
inline std::vector<std::pair<std::string, std::string>> snapshot(const std::string& folder) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& item : fs::recursive_directory_iterator(folder))
    if (item.is_regular_file()) out.emplace_back(item.path().string(), slurp(item.path().string()));
  std::sort(out.begin(), out.end());
  return out;
}

/// A folder for one test program's files, removed at its end.
class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "m3i-examples-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// What a program answered.
struct Answer {
  int code = -1;  ///< exit code, or 128 + signal
  std::string out, errors;
};

/// A program that is running. Its files are limited to `file_bytes` if that is not 0, like on a disk that fills up.
class Running {
 public:
  Running(const std::string& name, const Arguments& arguments, rlim_t file_bytes = 0) {
    const std::string program = std::string(M3I_PROGRAM_DIR) + "/" + name;
    INFO(program << " is not built; build the programs first (M3I_EXAMPLES=ON)");
    REQUIRE(fs::exists(program));
    std::vector<char*> argv{const_cast<char*>(program.c_str())};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    out_ = std::tmpfile();
    errors_ = std::tmpfile();
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      ::dup2(::fileno(out_), 1);
      ::dup2(::fileno(errors_), 2);
      if (file_bytes > 0) {
        ::signal(SIGXFSZ, SIG_IGN);  // a write then fails with EFBIG
        const rlimit limit{file_bytes, file_bytes};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      }
      ::execv(program.c_str(), argv.data());
      ::_exit(127);
    }
  }
  ~Running() {
    if (child_ > 0) ::kill(child_, SIGKILL), wait();
    std::fclose(out_);
    std::fclose(errors_);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  void send(int signal) const { ::kill(child_, signal); }
  /// The processes that it has started, in that order.
  std::vector<pid_t> children() const {
    std::istringstream list(slurp("/proc/" + std::to_string(child_) + "/task/" + std::to_string(child_) + "/children"));
    return {std::istream_iterator<pid_t>(list), {}};
  }
  Answer wait() {
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    child_ = 0;
    Answer answer;
    answer.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    answer.out = read(out_);
    answer.errors = read(errors_);
    return answer;
  }
  /// Waits until the condition holds; fails the test after a minute or two.
  static void until(const std::function<bool()>& condition) {
    for (int i = 0; i < 20000; ++i) {
      if (condition()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    FAIL("the program did not get so far");
  }

 private:
  static std::string read(std::FILE* file) {
    std::string bytes;
    std::rewind(file);
    char part[4096];
    for (std::size_t n; (n = std::fread(part, 1, sizeof part, file)) > 0;) bytes.append(part, n);
    return bytes;
  }
  pid_t child_ = 0;
  std::FILE *out_ = nullptr, *errors_ = nullptr;
};

inline Answer run(const std::string& name, const Arguments& arguments) { return Running(name, arguments).wait(); }

/// Runs a program that must succeed.
inline Answer done(const std::string& name, const Arguments& arguments) {
  const Answer answer = run(name, arguments);
  INFO(name << ": " << answer.out << answer.errors);
  REQUIRE(answer.code == 0);
  return answer;
}

/// Runs a program that must refuse its input: exit code 2 and one message, "NAME: error: ...", that has all the words.
inline void refuses(const std::string& name, const Arguments& arguments, const std::vector<std::string>& words) {
  const Answer answer = run(name, arguments);
  INFO(name << ": " << answer.out << answer.errors);
  CHECK(answer.code == 2);
  const std::string begin = name + ": error: ";
  const auto at = answer.errors.find(begin);
  REQUIRE(at != std::string::npos);
  CHECK(answer.errors.find(begin, at + 1) == std::string::npos);
  for (const std::string& w : words) CHECK_THAT(answer.errors, Catch::Contains(w));
}

/// Settings of networks so small that a step takes milliseconds.
inline const Arguments& tiny() {
  static const Arguments settings{"--set", "run.threads=1",         "--set", "network.image_size=32",
                                  "--set", "network.embedding=8",   "--set", "network.depths=1,1,1,1",
                                  "--set", "network.heads=1,2,2,4", "--set", "network.windows=4,4,2,1",
                                  "--set", "data.spacing_mm=8",     "--set", "psat.queries=4",
                                  "--set", "psat.width=16",         "--set", "psat.heads=2",
                                  "--set", "psat.bins=8",           "--set", "clip.image_size=16",
                                  "--set", "clip.patch=8",          "--set", "clip.vision_width=16",
                                  "--set", "clip.vision_layers=1",  "--set", "clip.vision_heads=2",
                                  "--set", "clip.text_width=16",    "--set", "clip.text_layers=1",
                                  "--set", "clip.text_heads=2",     "--set", "clip.embedding=16",
                                  "--set", "clip.batch_size=4",     "--set", "clip.max_steps=4",
                                  "--set", "pretrain.batch_size=2", "--set", "pretrain.optimizer.learning_rate=1e-3"};
  return settings;
}

inline Arguments with_tiny(Arguments arguments, const Arguments& more = {}) {
  arguments.insert(arguments.end(), tiny().begin(), tiny().end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// Phantoms, triplets and towers that the tests share; made when first asked for, never changed.
class World {
 public:
  static const World& get() {
    static const World world;
    return world;
  }
  std::string phantoms() const { return folder_ / "phantoms"; }
  std::string triplets() const { return folder_ / "triplets/triplets.jsonl"; }
  std::string towers() const { return folder_ / "clip/towers"; }

 private:
  World() {
    done("make_phantoms", {phantoms(), "--subjects", "10", "--size", "16", "--body", "head"});
    done("make_triplets", {phantoms(), folder_ / "triplets"});
    done("fit_clip", with_tiny({triplets(), folder_ / "clip"}));
  }
  Scratch folder_;
};

}  // namespace programs
