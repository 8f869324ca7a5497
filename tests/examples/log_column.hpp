#pragma once
/// A number of each record of a log that has it.

#include <string>
#include <vector>

#include "m3i/train/log.hpp"

namespace programs {

inline std::vector<double> column(const std::string& log, const std::string& key) {
  return m3i::read_log(log).column(key).y;
}

}  // namespace programs
