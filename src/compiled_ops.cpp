/// m3i::compiled: every operation of ops/instances.hpp, for float and double.

#include "m3i/ops/instances.hpp"

namespace m3i {
inline namespace M3I_ABI {
M3I_OP_INSTANCES(, float)
M3I_OP_INSTANCES(, double)
}  // namespace M3I_ABI
}  // namespace m3i
