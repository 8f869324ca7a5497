#!/usr/bin/env bash
# Seconds that each umbrella header takes to compile by itself, without and with m3i::compiled. CXX names the compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds() {
  local TIMEFORMAT=%U
  { time "${CXX:-c++}" -std=c++20 -O2 -fopenmp-simd -DM3I_OPENMP_SIMD=1 -Iinclude "$@" -x c++ -c -o /dev/null - < /dev/null; } 2>&1
}
printf '%-22s %8s %8s\n' header headers compiled
for header in include/m3i/*.hpp; do
  name=${header#include/}
  printf '%-22s %8s %8s\n' "$name" "$(seconds -include "$header")" "$(seconds -DM3I_COMPILED=1 -include "$header")"
done
