#pragma once
/// Only rank 0 speaks.

#include <fcntl.h>
#include <unistd.h>

#include "m3i/core/config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// From now on, nothing that this process writes to its standard output arrives anywhere.
inline void silence_output() {
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null >= 0) dup2(null, STDOUT_FILENO), close(null);
}

}  // namespace M3I_ABI
}  // namespace m3i
