#pragma once
/// Errors, shapes, element types, devices, memory, tensors, random numbers, threads.

#include "m3i/core/arena.hpp"
#include "m3i/core/atomic_file.hpp"
#include "m3i/core/config.hpp"
#include "m3i/core/cuda.hpp"
#include "m3i/core/cuda_graph.hpp"
#include "m3i/core/device.hpp"
#include "m3i/core/dtype.hpp"
#include "m3i/core/error.hpp"
#include "m3i/core/memory.hpp"
#include "m3i/core/parallel.hpp"
#include "m3i/core/random.hpp"
#include "m3i/core/shape.hpp"
#include "m3i/core/shard.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/core/upload.hpp"
#include "m3i/core/words.hpp"
