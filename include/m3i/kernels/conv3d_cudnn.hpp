#pragma once
#include "m3i/kernels/conv3d.hpp"
namespace m3i { inline namespace M3I_ABI { namespace detail {
template <class T> bool conv3d_cudnn_forward(Device, const Conv3dGeometry&, const T*, const T*, const T*, T*) { return false; }
template <class T> bool conv3d_cudnn_input_grad(Device, const Conv3dGeometry&, const T*, const T*, T*) { return false; }
template <class T> bool conv3d_cudnn_weight_grad(Device, const Conv3dGeometry&, const T*, const T*, T*) { return false; }
} } }
