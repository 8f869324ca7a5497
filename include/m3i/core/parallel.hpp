#pragma once
/// Threads that wait passively. OpenMP's workers spin after each region and cannot be told otherwise from inside a
/// library (its environment is read before main), so m3i keeps a small pool of its own.
///
/// Work is cut into chunks that depend on its size alone, never on the number of threads: which thread runs a chunk
/// changes, what is computed does not.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

class ThreadPool {
 public:
  static ThreadPool& instance() {
    static ThreadPool pool;
    return pool;
  }

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  void resize(int threads) {
    require<Error>(!inside(), "set_thread_count: called from inside parallel work, which it would wait for");
    const std::scoped_lock owner(owner_);
    stop();
    start(std::max(threads, 1) - 1);
  }

  /// Calls job(context, i) for i in [0, count), on all threads. Runs serially when called from inside a job or while
  /// another thread uses the pool.
  void run(Index count, void (*job)(void*, Index), void* context) {
    std::unique_lock owner(owner_, std::defer_lock);
    if (count <= 1 || threads() == 1 || inside() || !owner.try_lock()) {
      for (Index i = 0; i < count; ++i) job(context, i);
      return;
    }
    {
      const std::scoped_lock lock(mutex_);
      job_ = job;
      context_ = context;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      busy_ = int(workers_.size());
      error_ = nullptr;
      ++generation_;
    }
    wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  ThreadPool() { start(int(std::max(1u, std::thread::hardware_concurrency())) - 1); }
  ~ThreadPool() { stop(); }

  static bool& inside() {
    static thread_local bool flag = false;
    return flag;
  }

  void start(int workers) {
    stopping_ = false;
    try {
      for (int i = 0; i < workers; ++i) workers_.emplace_back([this, seen = generation_] { loop(seen); });
    } catch (const std::system_error&) {
      // The system gives no more threads: go on with those that it gave.
    }
    threads_.store(int(workers_.size()) + 1, std::memory_order_relaxed);
  }
  void stop() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }
  void loop(long seen) {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
      }
      work();
      const std::scoped_lock lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }
  void work() {
    inside() = true;
    try {
      for (Index i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) job_(context_, i);
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_.store(count_, std::memory_order_relaxed);
    }
    inside() = false;
  }

  std::mutex owner_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  std::atomic<int> threads_{1};  ///< workers and the caller; read without the lock
  long generation_ = 0;
  int busy_ = 0;
  bool stopping_ = false;
  std::atomic<Index> next_{0};
  Index count_ = 0;
  void (*job_)(void*, Index) = nullptr;
  void* context_ = nullptr;
  std::exception_ptr error_;
};

}  // namespace detail

inline int thread_count() { return detail::ThreadPool::instance().threads(); }
/// Threads for all host work from now on; results do not depend on it. Throws Error inside parallel work.
inline void set_thread_count(int threads) { detail::ThreadPool::instance().resize(threads); }

/// f(i) for i in [0, count), each once, on any thread.
template <class F>
void parallel_for(Index count, const F& f) {
  detail::ThreadPool::instance().run(
      count, [](void* context, Index i) { (*static_cast<const F*>(context))(i); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

/// f(begin, end) over chunks of `grain` indices (the last may be shorter).
template <class F>
void parallel_chunks(Index n, Index grain, const F& f) {
  parallel_for((n + grain - 1) / grain, [&](Index chunk) { f(chunk * grain, std::min(n, (chunk + 1) * grain)); });
}

}  // namespace M3I_ABI
}  // namespace m3i
