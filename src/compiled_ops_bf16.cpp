/// m3i::compiled: every operation of ops/instances.hpp, for bf16.

#include "m3i/ops/instances.hpp"

namespace m3i {
inline namespace M3I_ABI {
M3I_OP_INSTANCES(, bf16)
template void detail::gemm_small_float<bf16>(Index, const detail::GemmProblem<bf16>&, Index, Index, Index);
}  // namespace M3I_ABI
}  // namespace m3i
