#pragma once
/// Training loop, logs, progress and reports. Needs nlohmann/json.

#include "m3i/train/axis.hpp"
#include "m3i/train/config.hpp"
#include "m3i/train/guard.hpp"
#include "m3i/train/interrupt.hpp"
#include "m3i/train/log.hpp"
#include "m3i/train/markup.hpp"
#include "m3i/train/method_config.hpp"
#include "m3i/train/progress.hpp"
#include "m3i/train/setting.hpp"
#include "m3i/train/build.hpp"
#include "m3i/train/group_chart.hpp"
#include "m3i/train/loop.hpp"
#include "m3i/train/plot.hpp"
#include "m3i/train/report.hpp"
#include "m3i/train/volumes.hpp"
#include "m3i/train/weights.hpp"
