#pragma once
/// Everything, in reading order.

// clang-format off
#include "m3i/core.hpp"
#include "m3i/kernels.hpp"
#include "m3i/autodiff.hpp"
#include "m3i/ops.hpp"
#include "m3i/nn.hpp"
#include "m3i/models.hpp"
#include "m3i/ot.hpp"
#include "m3i/optim.hpp"
#include "m3i/imaging.hpp"
#include "m3i/text.hpp"
#include "m3i/metrics.hpp"
#include "m3i/version.hpp"

#if __has_include(<nlohmann/json.hpp>)
#include "m3i/io.hpp"
#include "m3i/data.hpp"
#include "m3i/train.hpp"
#endif
