#pragma once
/// Ranks on one machine without MPI: fork_ranks() forks them, and they meet in shared memory.

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <thread>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "m3i/core/parallel.hpp"
#include "m3i/dist/communicator.hpp"
#include "m3i/dist/output.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Memory that forked processes share: who has arrived where, what went wrong, and two slots a rank for data.
class SharedArea {
 public:
  static constexpr int most = 64;
  static constexpr std::size_t slot = std::size_t(4) << 20;  ///< bytes; only those that are used take memory

  explicit SharedArea(int ranks) : ranks_(ranks), bytes_(sizeof(State) + std::size_t(2 * ranks) * slot) {
    void* const memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require<Error>(memory != MAP_FAILED, "ranks: the system gives no ", bytes_ >> 20, " MiB of shared memory");
    state_ = new (memory) State;
  }
  ~SharedArea() { munmap(state_, bytes_); }
  SharedArea(const SharedArea&) = delete;
  SharedArea& operator=(const SharedArea&) = delete;

  int ranks() const { return ranks_; }
  /// The data slot of a rank; even and odd meetings use different ones, so that one meeting a round is enough.
  std::byte* slot_of(int rank, std::uint64_t meeting) const {
    return reinterpret_cast<std::byte*>(state_ + 1) + (2 * std::size_t(rank) + meeting % 2) * slot;
  }

  /// The first failure stays.
  void fail_rank(int rank, const std::string& why) const {
    int none = 0;
    if (!state_->claimed.compare_exchange_strong(none, rank + 1)) return;
    why.copy(state_->reason, sizeof state_->reason - 1);
    state_->failed.store(rank + 1, std::memory_order_release);
  }
  /// The rank that failed first, or -1.
  int failed() const { return state_->failed.load(std::memory_order_acquire) - 1; }
  const char* reason() const { return state_->reason; }
  void leave(int rank) const { state_->at[std::size_t(rank)].left.store(true, std::memory_order_release); }

  /// Waits until all ranks are here. Throws RankError when one has failed, has ended, or the parent is gone.
  void meet(int rank, std::uint64_t meeting, pid_t parent) const {
    state_->at[std::size_t(rank)].meeting.store(meeting, std::memory_order_release);
    for (int r = 0; r < ranks_; ++r) {
      const At& at = state_->at[std::size_t(r)];
      for (Index turn = 0; at.meeting.load(std::memory_order_acquire) < meeting; ++turn) {
        if (turn < 2000) {
          std::this_thread::yield();
          continue;
        }
        require<RankError>(failed() < 0, "rank ", failed(), " failed: ", reason());
        const bool left = at.left.load(std::memory_order_acquire);
        require<RankError>(!left || at.meeting.load(std::memory_order_acquire) >= meeting, "rank ", r,
                           " has ended, rank ", rank, " still waits for it; every rank must make the same calls");
        require<RankError>(getppid() == parent, "the process that started the ranks is gone");
        std::this_thread::sleep_for(std::chrono::microseconds(turn < 4000 ? 50 : 500));
      }
    }
  }

 private:
  struct alignas(64) At {
    std::atomic<std::uint64_t> meeting{0};
    std::atomic<bool> left{false};
  };
  struct State {
    std::atomic<int> claimed{0}, failed{0};  ///< rank + 1
    char reason[1024] = {};
    std::array<At, most> at;
  };
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

  int ranks_;
  std::size_t bytes_;
  State* state_;
};

class SharedMemoryCommunicator final : public Communicator {
 public:
  SharedMemoryCommunicator(SharedArea& area, int rank, pid_t parent) : area_(area), rank_(rank), parent_(parent) {}
  int rank() const override { return rank_; }
  int size() const override { return area_.ranks(); }
  const char* transport() const override { return "shared memory"; }
  void give_up(const std::string& why) override { area_.fail_rank(rank_, why); }
  void exchange(const std::byte* to, std::byte* from, std::size_t bytes) override {
    const std::size_t most = SharedArea::slot / std::size_t(size());
    in_pieces(bytes, most, [&](std::size_t begin, std::size_t n) {
      for (std::size_t r = 0; r < std::size_t(size()); ++r) std::memcpy(mine() + r * most, to + r * bytes + begin, n);
      meet();
      for (int r = 0; r < size(); ++r)
        std::memcpy(from + std::size_t(r) * bytes + begin, of(r) + std::size_t(rank_) * most, n);
    });
  }
  void collect(const std::byte* own, std::byte* all, std::size_t bytes) override {
    in_pieces(bytes, SharedArea::slot, [&](std::size_t begin, std::size_t n) {
      std::memcpy(mine(), own + begin, n);
      meet();
      for (int r = 0; r < size(); ++r) std::memcpy(all + std::size_t(r) * bytes + begin, of(r), n);
    });
  }
  void share(std::byte* data, std::size_t bytes, int root) override {
    in_pieces(bytes, SharedArea::slot, [&](std::size_t begin, std::size_t n) {
      if (rank_ == root) std::memcpy(mine(), data + begin, n);
      meet();
      if (rank_ != root) std::memcpy(data + begin, of(root), n);
    });
  }

 private:
  template <class F>
  void in_pieces(std::size_t bytes, std::size_t most, const F& f) {
    for (std::size_t begin = 0; begin < bytes; begin += most) {
      f(begin, std::min(most, bytes - begin));
      ++meeting_;
    }
  }
  std::byte* mine() const { return of(rank_); }
  std::byte* of(int rank) const { return area_.slot_of(rank, meeting_); }
  void meet() const { area_.meet(rank_, meeting_, parent_); }

  SharedArea& area_;
  int rank_;
  pid_t parent_;
  std::uint64_t meeting_ = 1;
};

inline volatile std::sig_atomic_t& signal_to_forward() {
  static volatile std::sig_atomic_t number = 0;
  return number;
}

/// While it lives, SIGINT and SIGTERM are noted, to be handed on to the ranks, which end when they are ready.
class HoldSignals {
 public:
  HoldSignals() {
    struct sigaction action {};
    action.sa_handler = [](int number) { signal_to_forward() = number; };
    for (std::size_t i = 0; i < numbers.size(); ++i) sigaction(numbers[i], &action, &before_[i]);
  }
  ~HoldSignals() {
    for (std::size_t i = 0; i < numbers.size(); ++i) sigaction(numbers[i], &before_[i], nullptr);
  }
  HoldSignals(const HoldSignals&) = delete;
  HoldSignals& operator=(const HoldSignals&) = delete;
  /// For a child: signals as they were.
  void release() const {
    for (std::size_t i = 0; i < numbers.size(); ++i) sigaction(numbers[i], &before_[i], nullptr);
  }

 private:
  static constexpr std::array<int, 2> numbers{SIGINT, SIGTERM};
  std::array<struct sigaction, 2> before_{};
};

}  // namespace detail

/// Calls body(communicator) in `ranks` forked processes and returns rank 0's exit code. Each rank gets its share of the
/// threads. When one throws or dies, the others' next call throws, those that do not end within `patience` seconds are
/// killed, and the first failure is thrown here: "rank 2: ...". Ctrl-C and SIGTERM reach every rank.
///
/// Call it before any GPU is touched and while no other thread runs: a forked process has neither.
inline int fork_ranks(int ranks, const std::function<int(Communicator&)>& body, double patience = 5) {
  require<ConfigError>(ranks >= 1 && ranks <= detail::SharedArea::most, "ranks: ", ranks, ", expected 1 to ",
                       detail::SharedArea::most);
  detail::SharedArea area(ranks);
  const int threads = thread_count();
  set_thread_count(1);  // ends the pool's threads: a forked process would wait for them for ever
  std::fflush(nullptr);
  detail::signal_to_forward() = 0;
  const detail::HoldSignals hold;
  const pid_t parent = getpid();
  std::vector<pid_t> children(std::size_t(ranks), 0);
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = fork();
    if (child < 0) {
      area.fail_rank(rank, "the system gives no more processes");
      break;
    }
    if (child > 0) {
      children[std::size_t(rank)] = child;
      continue;
    }
    int code = 1;  // the rank's own process; it never returns from here
    try {
      hold.release();
      setpgid(0, 0);  // a terminal's Ctrl-C comes once, through the parent
#ifdef __linux__
      prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
      if (rank > 0) silence_output();
      set_thread_count(std::max(1, threads / ranks));
      detail::SharedMemoryCommunicator communicator(area, rank, parent);
      code = body(communicator);
      area.leave(rank);
    } catch (const std::exception& error) {
      area.fail_rank(rank, error.what());
    } catch (...) {
      area.fail_rank(rank, "unknown exception");
    }
    std::fflush(nullptr);
    _exit(code);
  }
  int code = 0;
  using Clock = std::chrono::steady_clock;
  auto deadline = Clock::time_point::max();
  for (std::size_t left = std::size_t(ranks) - std::size_t(std::count(children.begin(), children.end(), 0));
       left > 0;) {
    if (const int number = detail::signal_to_forward(); number != 0) {
      detail::signal_to_forward() = 0;
      for (const pid_t child : children)
        if (child > 0) kill(child, number);
    }
    bool ended = false;
    for (int rank = 0; rank < ranks; ++rank) {
      pid_t& child = children[std::size_t(rank)];
      int status = 0;
      if (child <= 0 || waitpid(child, &status, WNOHANG) != child) continue;
      child = 0, --left, ended = true;
      if (WIFSIGNALED(status))
        area.fail_rank(rank, text("ended by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")"));
      else if (rank == 0) code = WEXITSTATUS(status);
    }
    if (area.failed() >= 0 && deadline == Clock::time_point::max())
      deadline = Clock::now() + std::chrono::milliseconds(Index(patience * 1000));
    if (Clock::now() > deadline)
      for (const pid_t child : children)
        if (child > 0) kill(child, SIGKILL);
    if (!ended) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  set_thread_count(threads);
  if (area.failed() >= 0) fail<RankError>("rank ", area.failed(), ": ", area.reason());
  return code;
}

}  // namespace M3I_ABI
}  // namespace m3i
