#!/usr/bin/env bash
# Formats all C++ sources in place with clang-format; --check changes nothing and fails if a file would change.
set -euo pipefail
cd "$(dirname "$0")/.."
formatter=${CLANG_FORMAT:-clang-format}
command -v "$formatter" > /dev/null || { echo "format: $formatter not found (Debian: apt-get install clang-format)"; exit 1; }
folders=()
for folder in include src examples tests bench; do [ -d "$folder" ] && folders+=("$folder"); done
mapfile -t files < <(find "${folders[@]}" \( -name '*.hpp' -o -name '*.cpp' \) | sort)
if [ "${1:-}" != --check ]; then
  "$formatter" -i "${files[@]}"
  exit
fi
unformatted=0
for file in "${files[@]}"; do
  "$formatter" "$file" | cmp -s - "$file" || { echo "format: $file would change"; unformatted=$((unformatted + 1)); }
done
echo "format: $unformatted of ${#files[@]} files would change"
[ "$unformatted" -eq 0 ]
