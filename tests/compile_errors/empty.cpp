#include "m3i/core/config.hpp"
