#include "m3i/train/guard.hpp"

#include <cstdlib>
#include <stdexcept>

#include "catch.hpp"
#include "m3i/core/tensor.hpp"

using namespace m3i;
using Catch::Matchers::Equals;

namespace {

/// What a CLI11 app looks like from here.
struct FakeParseError : std::runtime_error {
  int code;
  FakeParseError(const std::string& what, int exit_code) : std::runtime_error(what), code(exit_code) {}
  int get_exit_code() const { return code; }
};
struct FakeApp {
  int code;
  bool helped = false;
  std::string version{};
  void set_version_flag(const std::string&, const std::string& text, const std::string&) { version = text; }
  void parse(int, char**) {
    if (code >= 0) throw FakeParseError("--epochs: Value many could not be converted", code);
  }
  int exit(const FakeParseError& error) {
    helped = true;
    return error.get_exit_code();
  }
};

struct Outcome {
  int code;
  std::string text;
};

template <class Function>
Outcome run(Function function) {
  std::string name = "/usr/bin/pretrain";
  char* argv[] = {name.data(), nullptr};
  std::FILE* out = std::tmpfile();
  const int code = run_program(1, argv, function, out);
  std::rewind(out);
  char buffer[1024];
  const std::size_t n = std::fread(buffer, 1, sizeof buffer, out);
  std::fclose(out);
  return {code, std::string(buffer, n)};
}

}  // namespace

TEST_CASE("guard: a message ends its line once, and outputs are no inputs", "[train][fast]") {
  CHECK_THAT(run([] { fail<FileError>("a.nii: cut short\n\n"); }).text, Equals("pretrain: error: a.nii: cut short\n"));
  CHECK_NOTHROW(require_no_input("", {"/tmp"}));
  CHECK_NOTHROW(require_no_input("/no/such/file", {"/tmp", "/no/such/file"}));
  CHECK_THROWS_WITH(require_no_input("/tmp/../tmp", {"/", "/tmp"}),
                    Equals("/tmp/../tmp: is an input; name another output"));
}

TEST_CASE("guard: results pass through", "[train][fast]") {
  CHECK(run([] { return 0; }).code == 0);
  CHECK(run([] { return 130; }).code == 130);
  const auto quiet = run([] {});
  CHECK(quiet.code == 0);
  CHECK(quiet.text.empty());
}

TEST_CASE("guard: wrong input is one message and code 2", "[train][fast]") {
  const auto outcome = run([] { fail<FileError>("x.nii: no such file"); });
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.text, Equals("pretrain: error: x.nii: no such file\n"));
  CHECK(run([] { fail<NumericError>("loss is nan"); }).code == 2);
}

TEST_CASE("guard: failures that are nobody's input are code 1", "[train][fast]") {
  CHECK(run([] { throw std::bad_alloc(); }).code == 1);
  const auto bug = run([] { throw std::logic_error("oops"); });
  CHECK(bug.code == 1);
  CHECK_THAT(bug.text, Equals("pretrain: error: oops\n"));
  CHECK(run([] { throw 3; }).code == 1);
}

TEST_CASE("guard: a wrong command line hints at --help, and help itself leaves with 0", "[train][fast]") {
  FakeApp wrong{104}, help{0}, fine{-1};
  const auto outcome = run([&] { parse_command_line<FakeParseError>(wrong, 0, nullptr); });
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.text, Equals("pretrain: error: --epochs: Value many could not be converted\n"
                                  "Run \"pretrain --help\" for the options.\n"));
  const auto helped = run([&] {
    parse_command_line<FakeParseError>(help, 0, nullptr);
    return 7;
  });
  CHECK(helped.code == 0);
  CHECK(helped.text.empty());
  CHECK(help.helped);
  CHECK_THAT(help.version, Catch::Contains("m3i ") && Catch::Contains(instruction_set()));
  CHECK(run([&] { parse_command_line<FakeParseError>(fine, 0, nullptr); }).code == 0);
}

TEST_CASE("guard: a program without a name is called program", "[train][fast]") {
  CHECK(program_name(0, nullptr) == "program");
  std::string name = "embed";
  char* argv[] = {name.data(), nullptr};
  CHECK(program_name(1, argv) == "embed");
}

TEST_CASE("guard: programs ask for no more memory than there is", "[train][fast]") {
  REQUIRE(host_memory() > 0);
  const Outcome o = run([] { const Tensor<float> x({host_memory() / 4, 2}); });
  CHECK(o.code == 2);
  CHECK(o.text.find("exceed the limit") != std::string::npos);
  CHECK(memory_stats().limit == host_memory());
  memory_set_limit(0);
}
