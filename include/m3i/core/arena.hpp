#pragma once
/// Large blocks of host memory, cut from one stretch of addresses so that the process takes what its tensors take.
///
/// Addresses cost nothing and are reserved once; memory comes with the first touch of a page. A request gets the
/// smallest free block that fits, the rest of it stays free, and a block that comes back joins its free neighbours:
/// sizes that differ share memory. Where holes are left that fit nothing, their pages go back to the system as soon as
/// more would be resident than the tensors have ever held at once.
///
/// Best fit with coalescing is Knuth's, The Art of Computer Programming, vol. 1, section 2.5.

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <utility>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "m3i/core/config.hpp"
#include "m3i/core/operation.hpp"

/// 0 where there is no mmap, and under AddressSanitizer, which finds an overrun only in blocks of their own.
#ifndef M3I_ARENA
#if !defined(__linux__) || defined(__SANITIZE_ADDRESS__)
#define M3I_ARENA 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define M3I_ARENA 0
#endif
#endif
#endif
#ifndef M3I_ARENA
#define M3I_ARENA 1
#endif

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// Not safe for threads: the pool that owns it holds a lock. All sizes in bytes.
class Arena {
 public:
  static constexpr std::size_t page = std::size_t(2) << 20;  ///< a huge page: what becomes resident at once
  static constexpr std::size_t grain = 4096;                 ///< blocks are multiples of this
  static constexpr std::size_t smallest = 256 << 10;         ///< below, a block is not worth a place here

  /// Reserves addresses for `capacity` bytes, or what the system allows of it; 0: twice the memory of the machine.
  explicit Arena([[maybe_unused]] std::size_t capacity = 0) {
#if M3I_ARENA
    if (capacity == 0) capacity = 2 * std::size_t(sysconf(_SC_PHYS_PAGES)) * std::size_t(sysconf(_SC_PAGESIZE));
    for (capacity = rounded(capacity, page); capacity >= page && !base_; capacity = rounded(capacity / 2, page)) {
      void* const start =
          mmap(nullptr, capacity + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (start == MAP_FAILED) {  // a limit on addresses (ulimit -v): half of it, until nothing is left
        if (capacity == page) break;
        continue;
      }
      mapped_ = start, mapped_size_ = capacity + page;
      base_ = reinterpret_cast<char*>(rounded(reinterpret_cast<std::size_t>(start), page));
#ifdef MADV_HUGEPAGE
      madvise(base_, capacity, MADV_HUGEPAGE);
#endif
      resident_.assign(capacity / page, 0);
      add_free(base_, capacity);
    }
#endif
  }
  ~Arena() {
#if M3I_ARENA
    if (mapped_) munmap(mapped_, mapped_size_);
#endif
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// A block of rounded(bytes, grain), aligned to `grain`; null if none is left. Its pages and all others stay within
  /// `allowed` bytes if giving back free ones can achieve that.
  void* take(std::size_t bytes, std::size_t allowed = ~std::size_t(0), Holder holder = {}) {
    bytes = rounded(bytes, grain);
    const auto fit = free_.lower_bound({bytes, nullptr});
    if (fit == free_.end()) return nullptr;
    const auto [size, block] = *fit;
    free_.erase(fit);
    blocks_[block] = {bytes, false, holder};
    if (size > bytes) add_free(block + bytes, size - bytes);
    live_ += bytes;
    peak_ = std::max(peak_, live_);

    std::size_t fresh = 0;
    for (std::size_t i = first_page(block); i < end_page(block + bytes); ++i) fresh += !resident_[i];
    const std::size_t bound = std::min(allowed, peak_ + slack());
    if (resident() + fresh * page > bound) release(resident() + fresh * page - bound);
    for (std::size_t i = first_page(block); i < end_page(block + bytes); ++i) resident_[i] = 1;
    pages_ += fresh;
    touched_ = std::max(touched_, end_page(block + bytes));
    growths_ += fresh > 0;
    return block;
  }

  /// False if the block is not from here.
  bool give_back(void* pointer) {
    auto it = blocks_.find(static_cast<char*>(pointer));
    if (it == blocks_.end()) return false;
    live_ -= it->second.size;
    char* begin = it->first;
    std::size_t size = it->second.size;
    if (const auto next = std::next(it); next != blocks_.end() && next->second.free) {
      size += next->second.size;
      remove_free(next);
    }
    if (it != blocks_.begin()) {
      if (const auto before = std::prev(it); before->second.free) {
        begin = before->first, size += before->second.size;
        remove_free(before);
      }
    }
    blocks_.erase(it);
    add_free(begin, size);
    return true;
  }

  /// Gives pages inside free blocks back to the system, of the largest blocks first, until at least `enough` bytes.
  void release(std::size_t enough = ~std::size_t(0)) {
    std::size_t given = 0;
    for (auto block = free_.rbegin(); block != free_.rend() && given < enough; ++block) {
      const auto [size, begin] = *block;
      if (size < page) break;
      const std::size_t first = first_page(begin + page - 1), last = std::min(first_page(begin + size), touched_);
      for (std::size_t i = first; i < last && given < enough; ++i) {
        if (!resident_[i]) continue;
#if M3I_ARENA
        madvise(base_ + i * page, page, MADV_DONTNEED);
#endif
        resident_[i] = 0, --pages_, given += page;
      }
    }
  }

  std::size_t resident() const { return pages_ * page; }  ///< pages that were touched and not given back
  std::size_t live() const { return live_; }
  /// Resident bytes beyond the peak that are let be: pages that go and come in every step cost more than they are
  /// worth.
  std::size_t slack() const { return peak_ / 16 + 8 * page; }
  std::size_t growths() const { return growths_; }  ///< how often a block needed pages that were not resident
  std::size_t free_blocks() const { return free_.size(); }
  /// f(bytes, holder) for every block that is taken.
  template <class F>
  void each_taken(const F& f) const {
    for (const auto& [at, block] : blocks_)
      if (!block.free) f(block.size, block.holder);
  }

  static std::size_t rounded(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

 private:
  struct Block {
    std::size_t size;
    bool free;
    Holder holder;
  };
  std::size_t first_page(const char* at) const { return std::size_t(at - base_) / page; }
  std::size_t end_page(const char* end) const { return (std::size_t(end - base_) + page - 1) / page; }
  void add_free(char* begin, std::size_t size) {
    blocks_[begin] = {size, true, {}};
    free_.insert({size, begin});
  }
  void remove_free(std::map<char*, Block>::iterator it) {
    free_.erase({it->second.size, it->first});
    blocks_.erase(it);
  }

  void* mapped_ = nullptr;
  char* base_ = nullptr;
  std::size_t mapped_size_ = 0, live_ = 0, peak_ = 0, growths_ = 0;
  std::vector<char> resident_;                    ///< for each page, whether it is
  std::size_t pages_ = 0, touched_ = 0;           ///< how many are, and the end of those that ever were
  std::map<char*, Block> blocks_;                 ///< by address, without gaps: neighbours are found here
  std::set<std::pair<std::size_t, char*>> free_;  ///< by size, then address: the best fit is found here
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
