#pragma once
/// What a program computes with, in reading order. Files, data sets and the training of the method are included by
/// name: m3i/io.hpp, m3i/data.hpp, m3i/train.hpp.

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
