#!/bin/sh
# A unit built for the CPU and one built for CUDA must not link: their tensors are different types to the linker.
# The CUDA unit is simulated by its ABI name. The same two units with one ABI must link and run.
# Usage: must_not_link.sh COMPILER INCLUDE_FOLDER WORK_FOLDER
set -eu
here=$(dirname "$0")
mkdir -p "$3"
compile() { "$1" -std=c++20 -O0 -I"$2" -c "$3" -o "$4" ${5:-}; }
compile "$1" "$2" "$here/caller.cpp" "$3/caller.o"
compile "$1" "$2" "$here/callee.cpp" "$3/callee.o"
compile "$1" "$2" "$here/callee.cpp" "$3/other.o" -DM3I_ABI=v0_1_cuda
"$1" "$3/caller.o" "$3/callee.o" -o "$3/same" -pthread
"$3/same"
if "$1" "$3/caller.o" "$3/other.o" -o "$3/mixed" -pthread 2> "$3/linker.txt"; then
  echo "units of two ABIs were linked into one program"
  exit 1
fi
grep "undefined" "$3/linker.txt"
echo "mixed ABIs are refused by the linker"
