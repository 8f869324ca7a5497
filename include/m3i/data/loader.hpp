#pragma once
/// Loads items ahead of their use, on threads of its own that wait passively.
///
/// Order, content and errors do not depend on the number of threads: epoch e visits the items in a random order that is
/// a function of (seed, e), item by item, and an error is thrown when the consumer reaches the item that caused it.

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "m3i/core/random.hpp"
#include "m3i/core/shard.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Where in the endless sequence of epochs an item is.
struct LoaderPlace {
  Index epoch = 0, position = 0;  ///< position within the epoch
  Index item = 0;                 ///< number of the item in the data set
};

struct LoaderOptions {
  int threads = 2;  ///< 0: load in the consumer's thread
  Index ahead = 4;  ///< items that may be ready or in work
  std::uint64_t seed = 0;
  bool shuffle = true;
  Index epoch = 0, position = 0;  ///< where to start: next_place() of the loader that is being resumed
  BatchShard shard = {};          ///< of several processes: the part of each batch to load; start between two batches
};

/// The order of one epoch: a function of (seed, epoch) alone.
inline std::vector<Index> epoch_order(Index count, std::uint64_t seed, Index epoch, bool shuffle = true) {
  require<ConfigError>(count > 0, "loader: the data set is empty");
  if (shuffle) return Random(seed, 0x6f726465).split(std::uint64_t(epoch)).permutation(count);
  std::vector<Index> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), Index(0));
  return order;
}

/// Calls `load(place)` for one item after the other and hands the results out in order.
///
///   load      LoaderPlace -> T; called from several threads at once
///   name      item number -> text for error messages (the case's file); an error that does not mention it is prefixed
template <class T>
class Loader {
 public:
  struct Loaded {
    T value;
    LoaderPlace place;
  };

  Loader(Index count,
         std::function<T(const LoaderPlace&)> load,
         const LoaderOptions& options = {},
         std::function<std::string(Index)> name = {})
      : count_(count), load_(std::move(load)), name_(std::move(name)), options_(options) {
    require<ConfigError>(count > 0, "loader: the data set is empty");
    require<ConfigError>(options.threads >= 0 && options.threads <= 256 && options.ahead > 0,
                         "loader: ", options.threads, " threads and ", options.ahead,
                         " items ahead, expected 0 to 256 and at least 1");
    require<ConfigError>(options.epoch >= 0 && options.position >= 0 && options.position < count,
                         "loader: cannot start at epoch ", options.epoch, ", position ", options.position, " of ",
                         count);
    const BatchShard& part = options.shard;
    const Index start = options.epoch * count + options.position;
    require<ConfigError>(
        part.first >= 0 && part.count > 0 && part.first + part.count <= part.batch && start % part.batch == 0,
        "loader: items ", part.first, " to ", part.first + part.count, " of each ", part.batch, ", from item ", start,
        "; expected a part of a batch, and a start between two batches");
    consumed_ = taken_ = start / part.batch * part.count;
    slots_.resize(std::size_t(options.ahead));
    try {
      for (int t = 0; t < options.threads; ++t) threads_.emplace_back([this] { work(); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Loader() { stop(); }
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  Index count() const { return count_; }
  /// The place of the item that next() will give: save it, and start another loader there.
  LoaderPlace next_place() const {
    const std::scoped_lock lock(mutex_);
    const Index number = options_.shard.global(consumed_);
    return {number / count_, number % count_, 0};
  }

  /// The next item; waits for it. Rethrows the item's error, and so does every later call: the sequence ends there.
  Loaded next() {
    if (threads_.empty()) {
      const LoaderPlace here = place_of(consumed_);
      Loaded out{call(here), here};
      ++consumed_;
      return out;
    }
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[std::size_t(consumed_ % options_.ahead)];
    ready_.wait(lock, [&] { return slot.value || slot.error; });
    if (slot.error) std::rethrow_exception(slot.error);
    Loaded out = std::move(*slot.value);
    slot.value.reset();
    ++consumed_;
    lock.unlock();
    free_.notify_one();
    return out;
  }

 private:
  struct Slot {
    std::optional<Loaded> value;
    std::exception_ptr error;
  };

  /// Caller holds the mutex, or is the only thread.
  LoaderPlace place_of(Index own) {
    const Index number = options_.shard.global(own);
    LoaderPlace place{number / count_, number % count_, 0};
    if (place.epoch != order_epoch_) {  // at most two epochs are in work; a permutation is cheap beside an item
      order_ = epoch_order(count_, options_.seed, place.epoch, options_.shuffle);
      order_epoch_ = place.epoch;
    }
    place.item = order_[std::size_t(place.position)];
    return place;
  }

  T call(const LoaderPlace& place) {
    try {
      return load_(place);
    } catch (const std::exception& error) {
      const std::string name = name_ ? name_(place.item) : text("item ", place.item);
      const std::string what = error.what();
      if (what.find(name) != std::string::npos) throw;
      const std::string named = text(name, ": ", what);
      if (dynamic_cast<const NumericError*>(&error)) throw NumericError(named);
      if (dynamic_cast<const ShapeError*>(&error)) throw ShapeError(named);
      if (dynamic_cast<const ConfigError*>(&error)) throw ConfigError(named);
      if (dynamic_cast<const DeviceError*>(&error)) throw DeviceError(named);
      throw FileError(named);
    }
  }

  void work() {
    for (;;) {
      LoaderPlace place;
      Slot* slot;
      {
        std::unique_lock lock(mutex_);
        free_.wait(lock, [this] { return stopping_ || taken_ < consumed_ + options_.ahead; });
        if (stopping_) return;
        place = place_of(taken_);
        slot = &slots_[std::size_t(taken_ % options_.ahead)];
        ++taken_;
      }
      std::optional<Loaded> value;
      std::exception_ptr error;
      try {
        value.emplace(Loaded{call(place), place});
      } catch (...) {
        error = std::current_exception();
      }
      {
        const std::scoped_lock lock(mutex_);
        slot->value = std::move(value);
        slot->error = error;
      }
      ready_.notify_all();
    }
  }

  void stop() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    free_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  Index count_;
  std::function<T(const LoaderPlace&)> load_;
  std::function<std::string(Index)> name_;
  LoaderOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable ready_, free_;
  std::vector<std::thread> threads_;
  std::vector<Slot> slots_;  // item n waits in slot n % ahead
  Index consumed_ = 0, taken_ = 0;
  std::vector<Index> order_;
  Index order_epoch_ = -1;
  bool stopping_ = false;
};

}  // namespace M3I_ABI
}  // namespace m3i
