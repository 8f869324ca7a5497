#pragma once
/// Optimisers and schedules.

#include "m3i/optim/adam.hpp"
#include "m3i/optim/adamw.hpp"
#include "m3i/optim/clip.hpp"
#include "m3i/optim/ema.hpp"
#include "m3i/optim/mixed.hpp"
#include "m3i/optim/optimizer.hpp"
#include "m3i/optim/schedule.hpp"
#include "m3i/optim/sgd.hpp"
