#pragma once
/// Differentiable partial optimal transport.

#include "m3i/ot/block_solver.hpp"
#include "m3i/ot/block_system.hpp"
#include "m3i/ot/cost.hpp"
#include "m3i/ot/cost_kernels.hpp"
#include "m3i/ot/dual_system.hpp"
#include "m3i/ot/implicit.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/ot/newton.hpp"
#include "m3i/ot/partial_ot.hpp"
#include "m3i/ot/problem.hpp"
#include "m3i/ot/psd.hpp"
#include "m3i/ot/sweeps.hpp"
#include "m3i/ot/unrolled.hpp"
