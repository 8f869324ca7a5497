/// m3i::compiled: the templates that take longest to compile, once for float and double. Programs that link it define
/// M3I_COMPILED=1 and find only declarations in the headers.

#if defined(M3I_COMPILED) && M3I_COMPILED
#error "m3i: src/compiled.cpp holds the bodies; compile it without M3I_COMPILED"
#endif
#include "m3i/kernels/gemm.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

template void gemm_serial<float>(const GemmProblem<float>&);
template void gemm_serial<double>(const GemmProblem<double>&);
template void gemm_host<float>(Index, const GemmProblem<float>&, Index, Index, Index);
template void gemm_host<double>(Index, const GemmProblem<double>&, Index, Index, Index);

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
