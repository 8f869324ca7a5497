// Counts memory, so that a parser that takes it on the word of a header is found: under libFuzzer by the sanitizer's
// hooks on malloc, else by operator new and the statistics of m3i's pool.
#include <atomic>
#include <cstdlib>
#include <new>

#include <malloc.h>

#include "harness.hpp"

namespace {

std::atomic<std::size_t> live{0}, peak{0}, base{0};

void count(const volatile void* block, std::size_t bytes) {
  if (!block) return;
  const std::size_t now = live += bytes;
  for (std::size_t seen = peak; now > seen && !peak.compare_exchange_weak(seen, now);) {
  }
}

}  // namespace

#if M3I_FUZZING
#include <sanitizer/allocator_interface.h>

namespace {
const int hooks = __sanitizer_install_malloc_and_free_hooks(
    count, [](const volatile void* block) { live -= __sanitizer_get_allocated_size(const_cast<const void*>(block)); });
}  // namespace

std::size_t fuzz::memory_peak() { return peak > base ? peak - base : 0; }
#else
namespace {

void* take(std::size_t bytes) noexcept {
  void* block = std::malloc(bytes ? bytes : 1);
  if (block) count(block, ::malloc_usable_size(block));
  return block;
}
void* take_or_throw(std::size_t bytes) {
  void* block = take(bytes);
  if (!block) throw std::bad_alloc();
  return block;
}
void give(void* block) noexcept {
  if (block) live -= ::malloc_usable_size(block);
  std::free(block);
}

}  // namespace

#if M3I_CUDA
#pragma nv_diag_suppress 20011  // nvcc takes these operators for device code as well; no device code uses them
#endif
void* operator new(std::size_t bytes) { return take_or_throw(bytes); }
void* operator new[](std::size_t bytes) { return take_or_throw(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return take(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return take(bytes); }
void operator delete(void* block) noexcept { give(block); }
void operator delete[](void* block) noexcept { give(block); }
void operator delete(void* block, std::size_t) noexcept { give(block); }
void operator delete[](void* block, std::size_t) noexcept { give(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { give(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { give(block); }

std::size_t fuzz::memory_peak() { return peak - base + std::size_t(m3i::memory_stats().peak); }
#endif

void fuzz::reset_memory_peak() {
  m3i::memory_release_cached();
  m3i::memory_reset_peak();
  base = live.load();
  peak = live.load();
}
