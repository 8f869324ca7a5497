#pragma once
/// A caching pool a device: blocks go back to the pool instead of to the system, and every byte is counted.
///
/// Training asks for the same sizes again and again; a new large block costs the host a page fault every 4 KiB and the
/// GPU a synchronisation, a cached one costs a map look-up. Large blocks of the host are cut from an arena, which joins
/// them again; small ones, and those of a GPU, are kept by size in a free list.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/arena.hpp"
#include "m3i/core/cuda.hpp"
#include "m3i/core/device.hpp"
#include "m3i/core/operation.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// All in bytes. `live` is held by tensors now, `peak` its maximum, `reserved` also counts cached blocks.
struct MemoryStats {
  Index live = 0, peak = 0, reserved = 0, limit = 0;
  Index system_allocations = 0;  ///< how often the system was asked; constant once a training loop is warm
};

namespace detail {

#if M3I_CUDA
/// Host memory that a graph which this thread records copies from at every replay; see CudaGraph.
struct RecordedHostMemory {
  std::byte* free = nullptr;
  std::size_t left = 0;

  /// A copy that stays.
  const void* keep(const void* from, std::size_t bytes) {
    const std::size_t rounded = (bytes + 255) / 256 * 256;
    require<DeviceError>(rounded <= left, "CUDA graph: the step copies ", bytes, " bytes from the host, ", left,
                         " are left for what it copies; give it large inputs as tensors on the device");
    std::memcpy(free, from, bytes);
    left -= rounded;
    return std::exchange(free, free + rounded);
  }
};
inline RecordedHostMemory& recorded_host_memory() {
  static thread_local RecordedHostMemory memory;
  return memory;
}
#endif

class Pool;
/// The set of blocks that this thread takes from one pool instead of everybody's; see MemorySet.
struct ChosenSet {
  const Pool* pool = nullptr;
  int number = 0;
};
inline ChosenSet& chosen_set() {
  static thread_local ChosenSet set;
  return set;
}

inline void* system_allocate(std::size_t bytes, [[maybe_unused]] Device device) {
#if M3I_CUDA
  if (!device.on_host()) {
    DeviceGuard guard(device);
    void* block = nullptr;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;  // a CUDA graph may need more than its warm-up did
    check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "memory");
    const cudaError_t status = cudaMalloc(&block, bytes);
    cudaThreadExchangeStreamCaptureMode(&mode);
    if (status != cudaErrorMemoryAllocation) return check_cuda(status, "memory"), block;
    cudaGetLastError();  // clear it: the caller frees its cache and asks again
    return nullptr;
  }
#endif
  return std::aligned_alloc(64, (bytes + 63) / 64 * 64);  // C wants a multiple
}

inline void system_free(void* block, [[maybe_unused]] Device device) {
#if M3I_CUDA
  if (!device.on_host()) {
    cudaFree(block);  // a failure at program end (driver already unloaded) is harmless
    return;
  }
#endif
  std::free(block);
}

class Pool {
 public:
  explicit Pool(Device device) : device_(device), arena_(device.on_host() ? new Arena : nullptr) {}
  ~Pool() { release_cached(); }

  void* take(std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    if (stats_.limit > 0 && stats_.live + Index(bytes) > stats_.limit) out_of_memory(bytes, "the limit that was set");
    void* block = arena_ && bytes >= Arena::smallest ? take_from_arena(bytes) : nullptr;
    if (!block) block = take_from_list(bytes);
    if (stats_.live > stats_.peak) stats_.peak = stats_.live;
    return block;
  }

  void give_back(void* block) noexcept {
    const std::scoped_lock lock(mutex_);
    if (arena_ && arena_->give_back(block)) return count_arena();
    const auto it = taken_.find(block);
    stats_.live -= Index(it->second.bytes);
    free_[it->second.set].emplace(it->second.bytes, block);
    taken_.erase(it);
  }

  /// Blocks of a set, free and taken, belong to everybody from now on.
  void dissolve(int set) {
    const std::scoped_lock lock(mutex_);
    free_[0].merge(free_[set]);
    free_.erase(set);
    for (auto& [block, taken] : taken_)
      if (taken.set == set) taken.set = 0;
  }

  void release_cached() {
    const std::scoped_lock lock(mutex_);
    release_locked();
  }
  MemoryStats stats() const {
    const std::scoped_lock lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    const std::scoped_lock lock(mutex_);
    stats_.peak = stats_.live;
  }
  void set_limit(Index bytes) {
    const std::scoped_lock lock(mutex_);
    stats_.limit = bytes;
  }

 private:
  void release_locked() {
#if M3I_CUDA
    if (!device_.on_host() && stream_is_capturing()) return;  // CUDA then takes nothing back
#endif
    for (const auto& [bytes, block] : free_[0]) {  // not those of sets, whose addresses others have noted
      system_free(block, device_);
      stats_.reserved -= Index(bytes);
    }
    free_[0].clear();
    if (arena_) arena_->release(), count_arena();
  }
  void* take_from_arena(std::size_t bytes) {
    std::size_t allowed = ~std::size_t(0);
    if (stats_.limit > 0) allowed = std::size_t(std::max<Index>(0, stats_.limit - (stats_.reserved - arena_reserved_)));
    void* const block = arena_->take(bytes, allowed, Holder::now());
    count_arena();
    return block;
  }
  /// The arena's part of the statistics.
  void count_arena() {
    stats_.live += Index(arena_->live()) - std::exchange(arena_live_, Index(arena_->live()));
    stats_.reserved += Index(arena_->resident()) - std::exchange(arena_reserved_, Index(arena_->resident()));
    stats_.system_allocations += Index(arena_->growths()) - std::exchange(arena_growths_, Index(arena_->growths()));
  }
  /// A block of this size or a little more, from those that were given back or from the system.
  void* take_from_list(std::size_t bytes) {
    void* block = nullptr;
    const int set = chosen_set().pool == this ? chosen_set().number : 0;
    FreeList& free = free_[set];
    if (const auto it = free.lower_bound(bytes);
        it != free.end() && it->first <= bytes + bytes / 4 &&
        (stats_.limit <= 0 || stats_.live + Index(it->first) <= stats_.limit)) {
      block = it->second;
      bytes = it->first;
      free.erase(it);
    } else {
      if (stats_.limit > 0 && stats_.reserved + Index(bytes) > stats_.limit) release_locked();
      block = system_allocate(bytes, device_);
      if (!block) {
        release_locked();
        block = system_allocate(bytes, device_);
      }
      if (!block) out_of_memory(bytes, "what the device has");
      stats_.reserved += Index(bytes);
      ++stats_.system_allocations;
    }
    taken_[block] = {bytes, set, Holder::now()};
    stats_.live += Index(bytes);
    return block;
  }
  [[noreturn, gnu::cold]] void out_of_memory(std::size_t bytes, const char* bound) {
    fail<DeviceError>(running_operation(), "memory: ", bytes >> 20, " MiB more on ", device_, " exceed ", bound, " (",
                      stats_.live >> 20, " MiB in use, ", (stats_.reserved - stats_.live) >> 20,
                      " MiB kept free, peak ", stats_.peak >> 20, " MiB, limit ", stats_.limit >> 20, " MiB, 0 = none)",
                      largest_holders(), "; use a smaller batch or volume, or checkpoint() the large modules");
  }
  /// "; most is held by conv3d (3 blocks, 1536 MiB), gradient of linear (1 block, 12 MiB)": five at most.
  [[gnu::cold]] std::string largest_holders() const {
    std::map<std::string, std::pair<std::size_t, Index>> held;  // bytes and blocks
    const auto count = [&](std::size_t bytes, Holder holder) {
      auto& [total, blocks] = held[holder.text()];
      total += bytes, ++blocks;
    };
    for (const auto& [block, taken] : taken_) count(taken.bytes, taken.holder);
    if (arena_) arena_->each_taken(count);
    std::string out;
    for (int shown = 0; shown < 5 && !held.empty(); ++shown) {
      const auto most = std::max_element(held.begin(), held.end(),
                                         [](const auto& x, const auto& y) { return x.second.first < y.second.first; });
      const auto [bytes, blocks] = most->second;
      const bool small = bytes < (std::size_t(10) << 20);
      out += text(shown == 0 ? "; most is held by " : ", ", most->first, " (", blocks,
                  blocks == 1 ? " block, " : " blocks, ", bytes >> (small ? 10 : 20), small ? " KiB)" : " MiB)");
      held.erase(most);
    }
    return out;
  }

  struct Taken {
    std::size_t bytes;
    int set;
    Holder holder;
  };
  using FreeList = std::multimap<std::size_t, void*>;

  mutable std::mutex mutex_;
  Device device_;
  MemoryStats stats_;
  std::map<int, FreeList> free_;  ///< by set; 0 is everybody's
  std::map<void*, Taken> taken_;
  std::unique_ptr<Arena> arena_;  ///< the host's
  Index arena_live_ = 0, arena_reserved_ = 0, arena_growths_ = 0;
};

/// One pool for the host, one a GPU. Never destroyed: tensors in static variables may outlive everything else.
inline Pool& pool(Device device) {
  static std::mutex mutex;
  static auto& pools = *new std::map<int, std::unique_ptr<Pool>>;
  const int key = device.on_host() ? -1 : device.number;
  const std::scoped_lock lock(mutex);
  auto& slot = pools[key];
  if (!slot) slot = std::make_unique<Pool>(device.on_host() ? Device::cpu() : device);
  return *slot;
}

/// Sizes are rounded up to 1/8 of their power of two, so that nearly equal requests share blocks of the free list; the
/// arena cuts to size.
inline std::size_t size_class(std::size_t bytes, [[maybe_unused]] Device device = Device::cpu()) {
  if (M3I_ARENA && device.on_host() && bytes >= Arena::smallest) return Arena::rounded(bytes, Arena::grain);
  std::size_t step = 64;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace detail

/// A block of memory on a device; tensors share it.
class Buffer {
 public:
  Buffer(std::size_t bytes, Device device) : device_(device), pool_(&detail::pool(device)) {
    require<DeviceError>(M3I_CUDA || device.on_host(), "memory: ", device, " needs a build with M3I_CUDA=ON");
    if (bytes) data_ = pool_->take(detail::size_class(bytes, device));
  }
  ~Buffer() {
    if (data_) pool_->give_back(data_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  Device device() const { return device_; }

 private:
  Device device_;
  detail::Pool* pool_;
  void* data_ = nullptr;
};

inline MemoryStats memory_stats(Device device = Device::cpu()) { return detail::pool(device).stats(); }
inline void memory_reset_peak(Device device = Device::cpu()) { detail::pool(device).reset_peak(); }
/// Bytes that tensors may hold on the device; 0 removes the limit. Over it, allocation throws DeviceError.
inline void memory_set_limit(Index bytes, Device device = Device::cpu()) { detail::pool(device).set_limit(bytes); }
/// Gives cached blocks back to the system.
inline void memory_release_cached(Device device = Device::cpu()) { detail::pool(device).release_cached(); }

/// Blocks of a device that are nobody else's, so that who has noted their addresses may write to them again: a CUDA
/// graph. What a thread asks for while it holds a Use comes from the set and goes back to it. When the set ends, its
/// blocks are everybody's. Large blocks of the host, which come from the arena, are not kept apart.
class MemorySet {
 public:
  explicit MemorySet(Device device) : pool_(&detail::pool(device)) {
    static std::atomic<int> count{0};
    number_ = ++count;
  }
  ~MemorySet() { pool_->dissolve(number_); }
  MemorySet(const MemorySet&) = delete;
  MemorySet& operator=(const MemorySet&) = delete;

  class Use {
   public:
    explicit Use(const MemorySet& set) : before_(std::exchange(detail::chosen_set(), {set.pool_, set.number_})) {}
    ~Use() { detail::chosen_set() = before_; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    detail::ChosenSet before_;
  };

 private:
  detail::Pool* pool_;
  int number_ = 0;
};

/// Copies bytes between any two devices; returns when host memory may be reused.
inline void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) {
  if (bytes == 0) return;
  if (to_device.on_host() && from_device.on_host()) {
    std::memcpy(to, from, bytes);
    return;
  }
#if M3I_CUDA
  DeviceGuard guard(to_device.on_host() ? from_device : to_device);
  const bool recorded = from_device.on_host() && stream_is_capturing();
  if (recorded) from = detail::recorded_host_memory().keep(from, bytes);  // tables, constants: the same at every replay
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, current_stream()), "copy");
  if (!recorded && (to_device.on_host() || from_device.on_host()))
    check_cuda(cudaStreamSynchronize(current_stream()), "copy");
#else
  fail<DeviceError>("copy: from ", from_device, " to ", to_device, " needs a build with M3I_CUDA=ON");
#endif
}

}  // namespace M3I_ABI
}  // namespace m3i
