#pragma once
/// Measures of segmentation, classification and embeddings.

#include "m3i/metrics/classification.hpp"
#include "m3i/metrics/dice.hpp"
#include "m3i/metrics/distance_transform.hpp"
#include "m3i/metrics/embedding.hpp"
#include "m3i/metrics/hausdorff.hpp"
