#pragma once
/// Networks, one published figure a file.

#include "m3i/models/backbone.hpp"
#include "m3i/models/clip.hpp"
#include "m3i/models/heads.hpp"
#include "m3i/models/nnformer.hpp"
#include "m3i/models/psat.hpp"
#include "m3i/models/unetr.hpp"
