#pragma once
/// A network so small that a step takes milliseconds.

#include "m3i/train/method_config.hpp"

inline m3i::MethodConfig tiny_config() {
  m3i::MethodConfig c;
  c.network.image_size = 32;
  c.network.embedding = 4;
  c.network.depths = {1, 1, 1, 1};
  c.network.heads = {1, 1, 2, 2};
  c.network.windows = {2, 2, 2, 1};
  return c;
}
