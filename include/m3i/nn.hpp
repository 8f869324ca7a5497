#pragma once
/// Layers as plain structs.

#include "m3i/nn/attention.hpp"
#include "m3i/nn/conv.hpp"
#include "m3i/nn/fields.hpp"
#include "m3i/nn/init.hpp"
#include "m3i/nn/linear.hpp"
#include "m3i/nn/mlp.hpp"
#include "m3i/nn/norm.hpp"
#include "m3i/nn/window_attention.hpp"
