#pragma once
#include <m3i/m3i.hpp>

/// Defined in the second unit, called from the first.
m3i::Tensor<float> ones(const m3i::Shape& shape);
