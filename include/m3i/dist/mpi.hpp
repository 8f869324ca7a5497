#pragma once
/// Ranks that mpirun starts, on one machine or many. Empty unless M3I_MPI, which the CMake target m3i::mpi sets.

#ifndef M3I_MPI
#define M3I_MPI 0
#endif

#if M3I_MPI
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1  // the C++ bindings of old, which nobody uses
#endif
#include <mpi.h>

#include "m3i/core/parallel.hpp"
#include "m3i/dist/communicator.hpp"
#include "m3i/dist/output.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// All processes of MPI_COMM_WORLD. Starts MPI unless it runs already; what was started here ends with the process, as
/// MPI cannot be started twice.
class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator() {
    int running = 0, level = 0;
    MPI_Initialized(&running);
    if (!running) {
      check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread");
      std::atexit([] {
        if (!aborting()) MPI_Finalize();
      });
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* transport() const override { return "MPI"; }
  /// Whether MPI_Abort ends the process: then nobody waits for the others in MPI_Finalize.
  static bool& aborting() {
    static bool value = false;
    return value;
  }
  /// Enters the comparison of calls with the reason; waits five seconds for whoever does not come.
  void give_up(const std::string& why) override {
    aborting() = true;
    if (size_ == 1) return;
    const RankCall call = RankCall::because("failed", why);
    std::vector<RankCall> calls(static_cast<std::size_t>(size_));
    MPI_Request request;
    if (MPI_Iallgather(&call, int(sizeof call), MPI_BYTE, calls.data(), int(sizeof call), MPI_BYTE, MPI_COMM_WORLD,
                       &request) != MPI_SUCCESS)
      return;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    int done = 0;
    while (!done && std::chrono::steady_clock::now() < deadline) {
      if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
      if (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (int r = 0; done && r < rank_; ++r) first_to_fail_ &= !calls[std::size_t(r)].is("failed");
  }
  /// Whether no rank before this one has failed as well.
  bool first_to_fail() const { return first_to_fail_; }
  void exchange(const std::byte* to, std::byte* from, std::size_t bytes) override {
    check(MPI_Alltoall(to, count(bytes), MPI_BYTE, from, count(bytes), MPI_BYTE, MPI_COMM_WORLD), "MPI_Alltoall");
  }
  void collect(const std::byte* mine, std::byte* all, std::size_t bytes) override {
    // Non-blocking, so that it also meets give_up() of another rank.
    for (std::size_t begin = 0; begin < bytes; begin += piece) {
      const std::size_t now = std::min(piece, bytes - begin);
      std::vector<std::byte> part(begin == 0 && now == bytes ? 0 : now * std::size_t(size_));
      std::byte* const into = part.empty() ? all : part.data();
      MPI_Request request;
      check(MPI_Iallgather(mine + begin, count(now), MPI_BYTE, into, count(now), MPI_BYTE, MPI_COMM_WORLD, &request),
            "MPI_Iallgather");
      check(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
      for (std::size_t r = 0; !part.empty() && r < std::size_t(size_); ++r)
        std::memcpy(all + r * bytes + begin, part.data() + r * now, now);
    }
  }
  void share(std::byte* data, std::size_t bytes, int root) override {
    for (std::size_t begin = 0; begin < bytes; begin += piece)
      check(MPI_Bcast(data + begin, count(std::min(piece, bytes - begin)), MPI_BYTE, root, MPI_COMM_WORLD),
            "MPI_Bcast");
  }

 private:
  static constexpr std::size_t piece = std::size_t(1) << 24;  ///< MPI counts in int, and copies what is in flight
  static int count(std::size_t bytes) {
    require<Error>(bytes <= std::size_t(1) << 30, "MPI: a message of ", bytes, " bytes");
    return int(bytes);
  }
  static void check(int status, const char* call) {
    if (status == MPI_SUCCESS) [[likely]]
      return;
    char words[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(status, words, &length);
    fail<RankError>(call, ": MPI says \"", std::string_view(words, std::size_t(length)), "\"");
  }

  int rank_ = 0, size_ = 1;
  bool first_to_fail_ = true;
};

/// Calls body(communicator) as one rank of mpirun's and returns its exit code. When it throws, the others are told, the
/// reason is printed once, and mpirun ends them all with exit code 2.
inline int mpi_ranks(const std::function<int(Communicator&)>& body) {
  MpiCommunicator communicator;
  if (!communicator.first()) silence_output();
  const auto abort = [&](const char* why, bool speaks) {
    std::fflush(stdout);
    if (speaks) std::fprintf(stderr, "rank %d: error: %s\n", communicator.rank(), why);
    std::fflush(stderr);
    std::this_thread::sleep_for(std::chrono::milliseconds(speaks ? 200 : 400));  // who knows the reason ends first
    MpiCommunicator::aborting() = true;
    MPI_Abort(MPI_COMM_WORLD, 2);
    return 2;
  };
  const auto give_up = [&](const char* why) {
    communicator.give_up(why);
    return abort(why, communicator.first_to_fail());
  };
  try {
    return body(communicator);
  } catch (const RankFailed& error) {
    return abort(error.what(), false);
  } catch (const RankError& error) {
    return abort(error.what(), communicator.first());  // all have it, or nobody can be reached
  } catch (const std::exception& error) {
    return give_up(error.what());
  } catch (...) {
    return give_up("unknown exception");
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
#endif
