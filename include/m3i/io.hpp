#pragma once
/// Tensor files and checkpoints. Needs nlohmann/json.

#include "m3i/io/json.hpp"
#include "m3i/io/mapped_file.hpp"
#include "m3i/io/safetensors.hpp"
