#include "shared.hpp"

m3i::Tensor<float> ones(const m3i::Shape& shape) { return m3i::Tensor<float>::full(shape, 1.0f); }
