#pragma once
/// What runs on a device: skeletons, scalar math, matrix products and convolutions.

#include "m3i/kernels/attention.hpp"
#include "m3i/kernels/attention_gradient.hpp"
#include "m3i/kernels/block.hpp"
#include "m3i/kernels/conv3d.hpp"
#include "m3i/kernels/conv3d_direct.hpp"
#include "m3i/kernels/conv3d_unfold.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/kernels/math.hpp"
#include "m3i/kernels/reduce.hpp"
#include "m3i/kernels/register_block.hpp"
#include "m3i/kernels/solvers.hpp"
#include "m3i/kernels/team.hpp"
