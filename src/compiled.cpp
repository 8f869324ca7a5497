/// m3i::compiled: the templates that take longest to compile, once for float and double. Programs that link it define
/// M3I_COMPILED=1 and find only declarations in the headers.

#if defined(M3I_COMPILED) && M3I_COMPILED
#error "m3i: src/compiled.cpp holds the bodies; compile it without M3I_COMPILED"
#endif
#include "m3i/kernels/conv3d.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/kernels/instruction_set.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

template const char* instruction_set_of<float>();

template void gemm_host<float>(Index, const GemmProblem<float>&, Index, Index, Index);
template void gemm_host<double>(Index, const GemmProblem<double>&, Index, Index, Index);

template void conv3d_host_forward<float>(const Conv3dGeometry&, const float*, const float*, const float*, float*);
template void conv3d_host_forward<double>(const Conv3dGeometry&, const double*, const double*, const double*, double*);
template void conv3d_host_input_grad<float>(const Conv3dGeometry&, const float*, const float*, float*);
template void conv3d_host_input_grad<double>(const Conv3dGeometry&, const double*, const double*, double*);
template void conv3d_host_weight_grad<float>(const Conv3dGeometry&, const float*, const float*, float*);
template void conv3d_host_weight_grad<double>(const Conv3dGeometry&, const double*, const double*, double*);

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
