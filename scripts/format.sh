#!/usr/bin/env bash
# Formats all C++ sources in place with clang-format; --check changes nothing and fails if a file would change.
set -euo pipefail
cd "$(dirname "$0")/.."
formatter=${CLANG_FORMAT:-clang-format}
command -v "$formatter" > /dev/null || { echo "format: $formatter not found (Debian: apt-get install clang-format)"; exit 1; }
mode=(-i)
if [ "${1:-}" = --check ]; then mode=(--dry-run --Werror); fi
folders=()
for folder in include src examples tests bench; do [ -d "$folder" ] && folders+=("$folder"); done
find "${folders[@]}" \( -name '*.hpp' -o -name '*.cpp' \) -print0 | xargs -0 "$formatter" "${mode[@]}"
