#pragma once
/// Which instructions the arithmetic uses.

#include "m3i/core/config.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
template <class T>  // like the operations: of m3i::compiled where that is linked, else of the program
const char* instruction_set_of() {
  return M3I_INSTRUCTION_SET;
}
#if M3I_COMPILED
extern template const char* instruction_set_of<float>();
#endif
}  // namespace detail

/// "x86-64-v4" (AVX-512), "x86-64-v3" (AVX2), "x86-64-v2" or "x86-64" (SSE), "aarch64", or "generic": what products,
/// convolutions and the other operations were compiled for, or what the loader chose (M3I_PORTABLE).
inline const char* instruction_set() { return detail::instruction_set_of<float>(); }

}  // namespace M3I_ABI
}  // namespace m3i
