#include "m3i/train/interrupt.hpp"

#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

#include "catch.hpp"

using namespace m3i;

namespace {
volatile std::sig_atomic_t outer_calls = 0;
void outer(int) { outer_calls = outer_calls + 1; }

/// Runs `function` in a child process without its stderr and returns how it left.
template <class Function>
int child(Function function) {
  const pid_t id = fork();
  if (id == 0) {
    close(STDERR_FILENO);
    function();
    _exit(0);
  }
  int status = 0;
  waitpid(id, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
}  // namespace

TEST_CASE("interrupt: nothing is requested before a signal", "[train][fast]") {
  const Interrupt interrupt;
  CHECK(!interrupt.requested());
  CHECK(interrupt.exit_code() == 0);
  CHECK_THROWS_AS(Interrupt(), Error);
}

TEST_CASE("interrupt: the first signal asks, the second leaves at once", "[train][fast]") {
  CHECK(child([] {
          const Interrupt interrupt;
          raise(SIGINT);
          _exit(interrupt.requested() ? interrupt.exit_code() : 1);
        }) == 130);
  CHECK(child([] {
          const Interrupt interrupt;
          raise(SIGTERM);
          _exit(interrupt.requested() ? interrupt.exit_code() : 1);
        }) == 143);
  CHECK(child([] {
          const Interrupt interrupt;
          raise(SIGINT);
          raise(SIGINT);
          _exit(1);  // not reached
        }) == 130);
}

TEST_CASE("interrupt: the earlier handler is back afterwards, and a new one starts clean", "[train][fast]") {
  CHECK(child([] {
          std::signal(SIGINT, outer);
          {
            const Interrupt interrupt;
            raise(SIGINT);
          }
          if (outer_calls != 0) _exit(1);
          raise(SIGINT);
          if (outer_calls != 1) _exit(2);
          const Interrupt again;
          _exit(again.requested() ? 3 : 0);
        }) == 0);
}
