#pragma once
/// Reverse-mode differentiation: variables, the tape, checkpoints, gradient checks.

#include "m3i/autodiff/backward.hpp"
#include "m3i/autodiff/checkpoint.hpp"
#include "m3i/autodiff/gradcheck.hpp"
#include "m3i/autodiff/kept.hpp"
#include "m3i/autodiff/leaves.hpp"
#include "m3i/autodiff/observer.hpp"
#include "m3i/autodiff/record.hpp"
#include "m3i/autodiff/variable.hpp"
