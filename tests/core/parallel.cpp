#include "m3i/core/parallel.hpp"

#include <cmath>
#include <stdexcept>
#include <thread>
#include <vector>

#include "catch.hpp"

using namespace m3i;

namespace {

/// Restores the number of threads at the end of a test.
struct KeepThreads {
  int before = thread_count();
  ~KeepThreads() { set_thread_count(before); }
};

/// Rounding makes this sum depend on its order: equal bits mean equal order.
double chunked_sum(Index n) {
  const Index grain = 1000;
  std::vector<double> parts(std::size_t((n + grain - 1) / grain));
  parallel_chunks(n, grain, [&](Index begin, Index end) {
    double sum = 0;
    for (Index i = begin; i < end; ++i) sum += std::sin(double(i)) / 3;
    parts[std::size_t(begin / grain)] = sum;
  });
  double total = 0;
  for (const double part : parts) total += part;
  return total;
}

}  // namespace

TEST_CASE("parallel: the same bits for any number of threads", "[core]") {
  const KeepThreads keep;
  set_thread_count(1);
  CHECK(thread_count() == 1);
  const double serial = chunked_sum(123457);
  for (const int threads : {2, 3, 8}) {
    set_thread_count(threads);
    CHECK(thread_count() == threads);
    CHECK(chunked_sum(123457) == serial);
  }
  set_thread_count(0);
  CHECK(thread_count() == 1);
}

TEST_CASE("parallel: every index is visited once, chunks cover the range", "[core]") {
  const KeepThreads keep;
  set_thread_count(4);
  for (const Index n : {0, 1, 2, 7, 1000}) {
    std::vector<int> visits(std::size_t(n), 0);
    parallel_for(n, [&](Index i) { ++visits[std::size_t(i)]; });
    CHECK(visits == std::vector<int>(std::size_t(n), 1));
    parallel_chunks(n, 3, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) ++visits[std::size_t(i)];
    });
    CHECK(visits == std::vector<int>(std::size_t(n), 2));
  }
}

TEST_CASE("parallel: an exception reaches the caller and the pool stays usable", "[core][errors]") {
  const KeepThreads keep;
  for (const int threads : {1, 4}) {
    set_thread_count(threads);
    for (int round = 0; round < 20; ++round) {
      CHECK_THROWS_WITH(parallel_for(100,
                                     [](Index i) {
                                       if (i == 57) throw std::runtime_error("index 57");
                                     }),
                        "index 57");
      std::atomic<Index> sum = 0;
      parallel_for(100, [&](Index i) { sum += i; });
      CHECK(sum == 4950);
    }
  }
}

TEST_CASE("parallel: the number of threads may change while other threads of the program use the pool", "[core]") {
  const KeepThreads keep;
  const double expected = chunked_sum(20000);
  std::vector<double> results(2);
  std::vector<std::thread> loaders;
  for (auto& result : results)
    loaders.emplace_back([&result] {
      for (int i = 0; i < 50; ++i) result = chunked_sum(20000);
    });
  for (int i = 0; i < 20; ++i) set_thread_count(1 + i % 3);
  for (auto& loader : loaders) loader.join();
  CHECK(results == std::vector<double>(2, expected));
  set_thread_count(2);
  CHECK_THROWS_WITH(parallel_for(4, [](Index) { set_thread_count(3); }), Catch::Contains("inside parallel work"));
}

TEST_CASE("parallel: calls inside parallel work run in place", "[core]") {
  const KeepThreads keep;
  set_thread_count(4);
  std::vector<Index> table(64 * 64, -1);
  parallel_for(
      64, [&](Index row) { parallel_for(64, [&](Index col) { table[std::size_t(row * 64 + col)] = row * col; }); });
  for (Index row = 0; row < 64; ++row)
    for (Index col = 0; col < 64; ++col) REQUIRE(table[std::size_t(row * 64 + col)] == row * col);
}

TEST_CASE("parallel: several threads of the program may use the pool at once", "[core]") {
  const KeepThreads keep;
  set_thread_count(3);
  const double expected = chunked_sum(20000);
  std::vector<double> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results)
    threads.emplace_back([&result] {
      for (int i = 0; i < 20; ++i) result = chunked_sum(20000);
    });
  for (auto& thread : threads) thread.join();
  CHECK(results == std::vector<double>(4, expected));
}
