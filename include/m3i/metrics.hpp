#pragma once
/// Measures of segmentation, classification and embeddings.

#include "m3i/metrics/bootstrap.hpp"
#include "m3i/metrics/classification.hpp"
#include "m3i/metrics/dice.hpp"
#include "m3i/metrics/distance_transform.hpp"
#include "m3i/metrics/embedding.hpp"
#include "m3i/metrics/empty.hpp"
#include "m3i/metrics/hausdorff.hpp"
#include "m3i/metrics/mask_bits.hpp"
#include "m3i/metrics/paired.hpp"
#include "m3i/metrics/projection.hpp"
#include "m3i/metrics/summary.hpp"
#include "m3i/metrics/surface_distances.hpp"
#include "m3i/metrics/tsne.hpp"
#include "m3i/metrics/umap.hpp"
