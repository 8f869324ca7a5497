#include "m3i/core/arena.hpp"

#include <cstddef>
#include <map>
#include <vector>

#include "catch.hpp"
#include "m3i/core/memory.hpp"
#include "m3i/core/random.hpp"

using namespace m3i;
using detail::Arena;

#if M3I_ARENA
namespace {
constexpr std::size_t page = Arena::page, grain = Arena::grain;
}

TEST_CASE("arena: a block is cut from the smallest free one that fits, and joins its neighbours again", "[core]") {
  Arena arena(64 * page);
  char* const a = static_cast<char*>(arena.take(3 * page));
  char* const b = static_cast<char*>(arena.take(page));
  char* const c = static_cast<char*>(arena.take(5 * page));
  char* const d = static_cast<char*>(arena.take(page));
  CHECK((b == a + 3 * page && c == b + page && d == c + 5 * page));
  CHECK(arena.live() == 10 * page);
  CHECK(arena.free_blocks() == 1);
  CHECK(arena.give_back(a));
  CHECK(arena.give_back(c));
  CHECK(arena.free_blocks() == 3);
  CHECK(arena.take(2 * page) == a);  // the hole of 3, not that of 5
  CHECK(arena.take(page) == a + 2 * page);
  CHECK(arena.free_blocks() == 2);
  CHECK(arena.give_back(b));  // joins c
  CHECK(arena.free_blocks() == 2);
  CHECK(arena.take(6 * page) == b);
  CHECK(arena.give_back(a));
  CHECK(arena.give_back(a + 2 * page));
  CHECK(arena.give_back(b));
  CHECK(arena.give_back(d));
  CHECK(arena.free_blocks() == 1);
  CHECK(arena.live() == 0);
  CHECK_FALSE(arena.give_back(&arena));
}

TEST_CASE("arena: null when nothing is left, and all of it again afterwards", "[core]") {
  Arena arena(8 * page);
  void* const all = arena.take(8 * page);
  CHECK(all != nullptr);
  CHECK(arena.take(grain) == nullptr);
  CHECK(arena.give_back(all));
  CHECK(arena.take(8 * page - 1) == all);
}

TEST_CASE("arena: what is resident stays within the most that was ever held, whatever the sizes", "[core]") {
  Arena arena(2048 * page);
  std::vector<void*> held;
  for (int i = 0; i < 400; ++i) held.push_back(arena.take(2 * page));
  for (int i = 0; i < 400; i += 2) arena.give_back(held[std::size_t(i)]);
  for (int i = 0; i < 80; ++i) arena.take(5 * page);  // fits no hole: the pages of holes go to the system
  CHECK(arena.live() == 800 * page);
  CHECK(arena.resident() <= 800 * page + arena.slack());
  arena.release();
  CHECK(arena.resident() == arena.live());
  CHECK(arena.take(10 * page, 815 * page) != nullptr);
}

TEST_CASE("arena: random blocks keep their contents and never overlap", "[core]") {
  Arena arena(256 * page);
  Random random(3);
  std::map<char*, std::pair<std::size_t, unsigned char>> held;
  std::size_t live = 0, peak = 0, most = 0;
  for (int i = 0; i < 2000; ++i) {
    if (held.empty() || random.uniform() < 0.52) {
      const auto want = std::size_t(1 + random.uniform() * 3e6);
      auto* const block = static_cast<char*>(arena.take(want));
      if (!block) continue;
      const std::size_t size = Arena::rounded(want, grain);
      const auto next = held.lower_bound(block);
      REQUIRE((next == held.end() || block + size <= next->first));
      REQUIRE((next == held.begin() || std::prev(next)->first + std::prev(next)->second.first <= block));
      const auto mark = static_cast<unsigned char>(i);
      block[0] = block[size - 1] = char(mark);
      held[block] = {size, mark};
      live += size;
    } else {
      auto it = held.begin();
      std::advance(it, long(random.uniform() * double(held.size())));
      const auto [size, mark] = it->second;
      REQUIRE(static_cast<unsigned char>(it->first[0]) == mark);
      REQUIRE(static_cast<unsigned char>(it->first[size - 1]) == mark);
      REQUIRE(arena.give_back(it->first));
      held.erase(it);
      live -= size;
    }
    peak = std::max(peak, live), most = std::max(most, held.size());
    REQUIRE(arena.live() == live);
    REQUIRE(arena.resident() <= peak + arena.slack() + 2 * page * (most + 1));  // both ends of a block share pages
  }
  for (const auto& [block, what] : held) arena.give_back(block);
  CHECK(arena.free_blocks() == 1);
  arena.release();
  CHECK(arena.resident() == 0);
}
#endif
