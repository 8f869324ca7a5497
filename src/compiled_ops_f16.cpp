/// m3i::compiled: every operation of ops/instances.hpp, for half.

#include "m3i/ops/instances.hpp"

namespace m3i {
inline namespace M3I_ABI {
M3I_OP_INSTANCES(, half)
template void detail::gemm_small_float<half>(Index, const detail::GemmProblem<half>&, Index, Index, Index);
}  // namespace M3I_ABI
}  // namespace m3i
