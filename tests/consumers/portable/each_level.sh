#!/bin/sh
# The loader takes the library of the processor's level, or of the level that it is held to; all train alike.
# Usage: each_level.sh PROGRAM
set -eu
loader=$(ldd "$1" | sed -n 's/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\).*/\1/p')
first=""
for level in x86-64 x86-64-v3 x86-64-v4; do
  if [ $level != x86-64 ] && ! "$loader" --help | grep -q "$level (supported"; then
    echo "$level: not on this processor"
    continue
  fi
  answer=$("$loader" --glibc-hwcaps-mask "$level" "$1")  # no library is named x86-64: then the plain one is left
  echo "$answer"
  [ "${answer% *}" = $level ] || { echo "expected $level"; exit 1; }
  loss=${answer#* }
  first=${first:-$loss}
  awk "BEGIN { d = $loss - $first; exit !(d * d <= 1e-10 * $first * $first) }" || { echo "the loss is not $first"; exit 1; }
done
