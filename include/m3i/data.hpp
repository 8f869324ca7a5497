#pragma once
/// Triplets, splits, transforms and the loader. Needs nlohmann/json.

#include "m3i/data/caption.hpp"
#include "m3i/data/caption_cost.hpp"
#include "m3i/data/caption_journal.hpp"
#include "m3i/data/caption_origin.hpp"
#include "m3i/data/caption_run.hpp"
#include "m3i/data/check.hpp"
#include "m3i/data/http.hpp"
#include "m3i/data/json_fields.hpp"
#include "m3i/data/loader.hpp"
#include "m3i/data/phantom_set.hpp"
#include "m3i/data/split.hpp"
#include "m3i/data/subjects.hpp"
#include "m3i/data/transform.hpp"
#include "m3i/data/triplets.hpp"
