#pragma once

// CMakeLists.txt reads these three lines; nothing else may be added here.
#define M3I_VERSION_MAJOR 0
#define M3I_VERSION_MINOR 1
#define M3I_VERSION_PATCH 0
