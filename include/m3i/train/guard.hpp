#pragma once
/// The last line of a program: every exception becomes one message and an exit code.
///
///     int main(int argc, char** argv) {
///       return m3i::run_program(argc, argv, [&] {
///         CLI::App app("Pretrains a volume network on triplets.");
///         ...
///         m3i::parse_command_line<CLI::ParseError>(app, argc, argv);
///         ...
///         return 0;
///       });
///     }
///
/// Exit codes: 0 done; 1 something that is not the user's fault (out of memory, a bug); 2 wrong input or a wrong
/// setting; 128 + signal after an interruption (`interrupt.hpp`).

#include <algorithm>
#include <concepts>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <unistd.h>

#include "m3i/core/error.hpp"
#include "m3i/core/memory.hpp"
#include "m3i/kernels/instruction_set.hpp"
#include "m3i/version.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The command line is wrong: the message is followed by a hint to --help.
struct UsageError : ConfigError {
  using ConfigError::ConfigError;
};

/// Leaves the program early and quietly, as --help and --version do.
struct LeaveProgram {
  int code = 0;
};

/// Refuses to write over what was read: throws ConfigError if `out` is one of the inputs, by whatever name.
inline void require_no_input(const std::string& out, const std::vector<std::string>& inputs) {
  std::error_code error;
  for (const std::string& input : inputs)
    require<ConfigError>(!std::filesystem::equivalent(out, input, error), out, ": is an input; name another output");
}

/// "pretrain" of "/usr/bin/pretrain".
inline std::string program_name(int argc, char** argv) {
  if (argc < 1 || argv == nullptr || argv[0] == nullptr || argv[0][0] == '\0') return "program";
  const std::string_view path = argv[0];
  return std::string(path.substr(path.rfind('/') + 1));  // npos + 1 is 0
}

/// What --version prints: "m3i 0.1.0, compiled for x86-64-v4".
inline std::string version_text() {
  return text("m3i ", M3I_VERSION_MAJOR, ".", M3I_VERSION_MINOR, ".", M3I_VERSION_PATCH, ", compiled for ",
              instruction_set());
}

/// Parses with a CLI11 app (ParseError is CLI::ParseError). Help and version are printed by the app and leave with 0;
/// anything wrong is a UsageError.
template <class ParseError, class App>
void parse_command_line(App& app, int argc, char** argv) {
  app.set_version_flag("--version", version_text(), "Print the version and the instruction set");
  try {
    app.parse(argc, argv);
  } catch (const ParseError& error) {
    if (error.get_exit_code() == 0) throw LeaveProgram{app.exit(error)};
    fail<UsageError>(std::string_view(error.what()));
  }
}

/// Bytes of memory that this process can have: the machine's, or its container's (cgroup v2). 0 if that is unknown.
inline Index host_memory() {
  const Index machine = Index(::sysconf(_SC_PHYS_PAGES)) * Index(::sysconf(_SC_PAGE_SIZE));
  std::ifstream file("/sys/fs/cgroup/memory.max");  // a number, or "max"
  Index container = 0;
  return std::max<Index>(0, file >> container ? std::min(machine, container) : machine);
}

/// Runs `function()`, which returns an exit code or nothing, and returns the program's exit code. An error is one
/// message on `out`: "pretrain: error: triplets.jsonl: no such file".
/// Tensors may hold the memory that is there: beyond it the system would end the program without a word.
template <class Function>
int run_program(int argc, char** argv, Function&& function, std::FILE* out = stderr) {
  const std::string name = program_name(argc, argv);
  const auto report = [&](std::string_view what, const std::string& hint = "") {
    std::fflush(stdout);  // keep the order when both go to one place
    while (what.ends_with('\n')) what.remove_suffix(1);
    std::fprintf(out, "%s: error: %.*s\n%s", name.c_str(), int(what.size()), what.data(), hint.c_str());
    std::fflush(out);
  };
  try {
    if (memory_stats().limit == 0) memory_set_limit(host_memory());
    if constexpr (std::is_void_v<std::invoke_result_t<Function>>) {
      function();
      return 0;
    } else {
      return function();
    }
  } catch (const LeaveProgram& leave) {
    return leave.code;
  } catch (const UsageError& error) {
    report(error.what(), "Run \"" + name + " --help\" for the options.\n");
    return 2;
  } catch (const Error& error) {
    report(error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    report("out of memory; use a smaller image_size, batch_size or network, or checkpointing");
  } catch (const std::exception& error) {
    report(error.what());
  } catch (...) {
    report("unknown exception");
  }
  return 1;
}

}  // namespace M3I_ABI
}  // namespace m3i
