#!/usr/bin/env bash
# Builds the benchmarks and writes the table bench/results/DATE-cpu.json: each work here, the same work in the peer, and
# their ratio. See bench/table.py.
#
#   bench/run.sh [--quick] [--only WORD]...     --quick: smaller volumes;  --only: rows whose name holds the word
#
# Peers run in the Python that M3I_PEER_PYTHON names (default python3), if it has torch, monai, pot, scipy and nibabel:
#   python3 -m venv peers && peers/bin/pip install torch monai einops pot scipy nibabel
#   M3I_PEER_PYTHON=peers/bin/python bench/run.sh
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/bench
cmake -S . -B "$build" -G Ninja -DM3I_BENCH=ON -DM3I_TESTS=OFF -DM3I_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Release > /dev/null
cmake --build "$build"
exec python3 bench/table.py "$build/bin" "$@"
