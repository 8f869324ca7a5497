#pragma once
/// Ctrl-C without loss: the first SIGINT or SIGTERM asks the loop to save and leave, the second leaves at once.
///
///     Interrupt interrupt;
///     for (...) {
///       step();
///       if (interrupt.requested()) { save(); return interrupt.exit_code(); }
///     }

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstring>

#include <unistd.h>

#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");
inline std::atomic<int> interrupt_signal{0};  // the signal that asked, 0 if none
inline std::atomic<bool> interrupt_active{false};
inline std::atomic<const char*> interrupt_message{nullptr};

inline void on_interrupt(int signal) {
  int none = 0;
  if (!interrupt_signal.compare_exchange_strong(none, signal)) _exit(128 + signal);
  const char* message = interrupt_message;
  [[maybe_unused]] const auto written = write(STDERR_FILENO, message, std::strlen(message));
}
}  // namespace detail

/// Handles SIGINT and SIGTERM while it lives; puts the earlier handlers back. At most one at a time.
class Interrupt {
 public:
  static constexpr const char* usual = "\nstopping after this step and saving; once more to leave at once\n";

  /// `message` is written to the terminal at the first signal.
  explicit Interrupt(const char* message = usual) {
    require<Error>(!detail::interrupt_active.exchange(true),
                   "interrupt: another Interrupt is active; pass that one on");
    detail::interrupt_signal = 0;
    detail::interrupt_message = message;
    struct sigaction action {};
    action.sa_handler = detail::on_interrupt;
    action.sa_flags = SA_RESTART;  // reads and writes go on; only the loop looks at the flag
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &action, &before_[i]);
  }
  ~Interrupt() {
    for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &before_[i], nullptr);
    detail::interrupt_active = false;
  }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// True from the first signal on.
  bool requested() const { return detail::interrupt_signal != 0; }
  /// What a program that was stopped by a signal returns: 130 after Ctrl-C, 143 after SIGTERM, 0 if nothing came.
  int exit_code() const {
    const int signal = detail::interrupt_signal;
    return signal == 0 ? 0 : 128 + signal;
  }

 private:
  static constexpr std::array<int, 2> signals{SIGINT, SIGTERM};
  std::array<struct sigaction, 2> before_{};
};

}  // namespace M3I_ABI
}  // namespace m3i
