#!/bin/sh
# Builds and runs a program with what pkg-config says of m3i.
# Usage: build.sh COMPILER PKG_CONFIG FOLDER_OF_M3I_PC PROGRAM
set -eu
export PKG_CONFIG_PATH="$3${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
flags=$("$2" --cflags --libs m3i)
echo "pkg-config says: $flags"
# shellcheck disable=SC2086  # the flags are words
"$1" -O1 "$(dirname "$0")/../hello.cpp" $flags -o "$4"
"$4"
