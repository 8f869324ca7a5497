#pragma once
/// Watching the tape: which operations run, on which shapes, and for how long. bench/macro/roofline.cpp is built on it.

#include <vector>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Told of every operation on this thread while a WatchTape lives. `node` names an operation from its forward pass to
/// its gradient; without a gradient only forward is called. An operation that recomputes others (checkpoint) reports
/// those inside its own gradient.
struct TapeObserver {
  virtual ~TapeObserver() = default;
  /// An operation has finished. Inputs that are not there have an empty shape.
  virtual void forward(const char* name, const std::vector<Shape>& inputs, const Shape& output, const void* node) = 0;
  virtual void before_backward(const void* node) = 0;
  virtual void after_backward(const void* node) = 0;
};

inline TapeObserver*& tape_observer() {
  static thread_local TapeObserver* current = nullptr;
  return current;
}

/// While it lives, the tape of this thread reports to an observer.
class WatchTape {
 public:
  explicit WatchTape(TapeObserver& observer) : before_(tape_observer()) { tape_observer() = &observer; }
  ~WatchTape() { tape_observer() = before_; }
  WatchTape(const WatchTape&) = delete;
  WatchTape& operator=(const WatchTape&) = delete;

 private:
  TapeObserver* before_;
};

}  // namespace M3I_ABI
}  // namespace m3i
