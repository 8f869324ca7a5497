#pragma once
#include <m3i/data.hpp>
#include <m3i/imaging.hpp>
#include <m3i/io.hpp>
#include <m3i/m3i.hpp>
#include <m3i/metrics.hpp>
#include <m3i/text.hpp>
#include <m3i/train.hpp>

/// Defined in the second unit, called from the first.
m3i::Tensor<float> ones(const m3i::Shape& shape);
