#pragma once
/// Differentiable operations, forward and gradient side by side.

#include "m3i/ops/pointwise.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/dropout.hpp"
#include "m3i/ops/embedding.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/ops/shape.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/ops/norm_channels.hpp"
#include "m3i/ops/softmax.hpp"
#include "m3i/ops/attention.hpp"
