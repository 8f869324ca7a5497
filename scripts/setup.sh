#!/usr/bin/env bash
# Installs what m3i needs on Debian and Ubuntu; elsewhere says what to install. Does nothing, and needs no network, when
# everything is there. With --mpi also Open MPI (12 MB to load), for training on several machines and its tests.
set -euo pipefail
with_mpi=${1:-}

has_header() { echo "#include <$1>" | "${CXX:-c++}" -x c++ -std=c++17 -fsyntax-only ${2:-} - 2> /dev/null; }

# Each line: test command | what it is | apt | dnf | brew
parts() {
  cat << 'LIST'
command -v c++|C++20 compiler (g++ 12, clang 14 or newer)|g++|gcc-c++|llvm
command -v cmake|CMake 3.25 or newer|cmake|cmake|cmake
command -v ninja|Ninja|ninja-build|ninja-build|ninja
command -v python3|Python 3 (checks of the include rule)|python3|python3|python3
command -v pkg-config|pkg-config|pkg-config|pkgconf|pkgconf
has_header Eigen/Core -I/usr/include/eigen3|Eigen 3.4 (yardstick of the compile times)|libeigen3-dev|eigen3-devel|eigen
has_header nlohmann/json.hpp|nlohmann/json 3.9|nlohmann-json3-dev|json-devel|nlohmann-json
has_header CLI/CLI.hpp|CLI11 2|libcli11-dev|cli11-devel|cli11
has_header stb/stb_image_write.h|stb|libstb-dev|stb-devel|stb
has_header zlib.h|zlib|zlib1g-dev|zlib-devel|zlib
has_header curl/curl.h|libcurl|libcurl4-openssl-dev|libcurl-devel|curl
has_catch2|Catch2, 2 or 3|catch2|catch-devel|catch2
LIST
  if [ "$with_mpi" = --mpi ]; then
    cat << 'LIST'
command -v mpirun|Open MPI (mpirun)|openmpi-bin|openmpi|open-mpi
command -v mpicxx|Open MPI (headers)|libopenmpi-dev|openmpi-devel|open-mpi
LIST
  fi
}
has_catch2() { has_header catch2/catch.hpp || has_header catch2/catch_all.hpp; }

missing=() apt=() dnf=() brew=()
while IFS='|' read -r check what on_apt on_dnf on_brew; do
  if ! $check > /dev/null 2>&1; then
    missing+=("$what") apt+=("$on_apt") dnf+=("$on_dnf") brew+=("$on_brew")
  fi
done < <(parts)

if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: everything is installed"
  exit 0
fi
printf 'setup: missing: %s\n' "${missing[@]}"

if ! command -v apt-get > /dev/null; then
  echo "setup: this script installs on Debian and Ubuntu only. Install these yourself and run it again:"
  echo "  Fedora:   sudo dnf install ${dnf[*]}"
  echo "  Homebrew: brew install ${brew[*]}"
  exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || { echo "setup: not root and no sudo; as root: apt-get install ${apt[*]}"; exit 1; }
  sudo=(sudo)
fi
"${sudo[@]}" apt-get update
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${apt[@]}"

version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
if [ "$(printf '%s\n3.25\n' "$version" | sort -V | head -1)" != 3.25 ]; then
  echo "setup: CMake $version found, 3.25 or newer needed; install it from https://cmake.org/download or with 'pip install cmake'"
  exit 1
fi
