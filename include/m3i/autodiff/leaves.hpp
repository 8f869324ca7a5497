#pragma once
/// Which gradients are complete while backward() goes on: dist/data_parallel.hpp sends them off at once.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "m3i/autodiff/variable.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Told by backward(), while a WatchLeaves lives, of each leaf whose gradient nothing will be added to any more. `node`
/// is Var::node().get().
struct LeafObserver {
  virtual ~LeafObserver() = default;
  virtual void leaf_ready(const void* node) = 0;
};

inline LeafObserver*& leaf_observer() {
  static thread_local LeafObserver* current = nullptr;
  return current;
}

/// While it lives, backward() on this thread reports leaves to an observer; a null one stops that.
class WatchLeaves {
 public:
  explicit WatchLeaves(LeafObserver* observer) : before_(leaf_observer()) { leaf_observer() = observer; }
  explicit WatchLeaves(LeafObserver& observer) : WatchLeaves(&observer) {}
  ~WatchLeaves() { leaf_observer() = before_; }
  WatchLeaves(const WatchLeaves&) = delete;
  WatchLeaves& operator=(const WatchLeaves&) = delete;

 private:
  LeafObserver* before_;
};

namespace detail {

/// The leaves that are complete after each node of a tape: those that no later node adds to. Parameters inside a
/// checkpoint are seen only when it runs, so no leaf is complete before the last checkpoint.
inline std::vector<std::vector<const void*>> leaves_after(const std::vector<std::shared_ptr<TapeNode>>& tape) {
  std::unordered_map<const TapeNode*, std::size_t> last;
  std::size_t checkpoint = 0;
  for (std::size_t i = 0; i < tape.size(); ++i) {
    if (std::string_view(tape[i]->name) == "checkpoint") checkpoint = i;
    for (const auto& input : tape[i]->inputs)
      if (!input->propagate && input->needs_grad) last[input.get()] = i;
  }
  std::vector<std::pair<std::uint64_t, const TapeNode*>> newest_first;  // a fixed order, not that of the map
  for (const auto& item : last) newest_first.emplace_back(item.first->order, item.first);
  std::sort(newest_first.rbegin(), newest_first.rend());
  std::vector<std::vector<const void*>> after(tape.size());
  for (const auto& item : newest_first) after[std::max(last[item.second], checkpoint)].push_back(item.second);
  return after;
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
