#pragma once
/// Learning-rate schedules: functions of the step alone, so that resuming needs no state.

#include <algorithm>
#include <cmath>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class ScheduleKind { constant, cosine, poly };

/// Linear warm-up over `warmup` steps, then constant, a half cosine to `floor`, or (1 - t)^0.9 (nnU-Net's) to `floor`
/// at step `total`.
struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  double lr = 1e-3, floor = 0;
  Index warmup = 0, total = 1;

  double operator()(Index step) const {
    if (step < warmup) return lr * double(step + 1) / double(warmup);
    const double t = std::clamp(double(step - warmup) / double(std::max<Index>(1, total - warmup)), 0.0, 1.0);
    switch (kind) {
      case ScheduleKind::cosine: return floor + (lr - floor) * 0.5 * (1 + std::cos(3.14159265358979323846 * t));
      case ScheduleKind::poly: return floor + (lr - floor) * std::pow(1 - t, 0.9);
      case ScheduleKind::constant: break;
    }
    return lr;
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
