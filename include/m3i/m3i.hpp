#pragma once
/// What a network is made of and trained with, in reading order. What surrounds it is included by name:
/// m3i/<folder>.hpp for imaging, text, metrics, io, data, dist, train.

// clang-format off
#include "m3i/core.hpp"
#include "m3i/kernels.hpp"
#include "m3i/autodiff.hpp"
#include "m3i/ops.hpp"
#include "m3i/nn.hpp"
#include "m3i/models.hpp"
#include "m3i/ot.hpp"
#include "m3i/optim.hpp"
#include "m3i/version.hpp"
