#pragma once
/// Tensor files and checkpoints. Needs nlohmann/json.

#include "m3i/io/checkpoint.hpp"
#include "m3i/io/crc32.hpp"
#include "m3i/io/json.hpp"
#include "m3i/io/layout.hpp"
#include "m3i/io/mapped_file.hpp"
#include "m3i/io/safetensors.hpp"
#include "m3i/io/sha256.hpp"
#include "m3i/io/state.hpp"
