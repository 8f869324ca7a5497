#pragma once
/// BatchShard: the part of each global batch that one of several processes takes.

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// `count` items from `first` of every `batch`; all of them unless said otherwise.
struct BatchShard {
  Index batch = 1, first = 0, count = 1;

  /// The number in the global sequence of the item that is the part's number `own`.
  Index global(Index own) const { return own / count * batch + first + own % count; }
};

}  // namespace M3I_ABI
}  // namespace m3i
