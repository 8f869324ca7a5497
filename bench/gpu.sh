#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds what is needed, runs the tests that compare the GPU with the host, then
# compute-sanitizer where it is installed, then times everything and writes the table bench/results/DATE-gpu.json. See
# bench/gpu.py. Without a GPU it stops after the build.
#
#   bench/gpu.sh [--quick] [--only WORD]...     as bench/run.sh
#
# Peers run in the Python that M3I_PEER_PYTHON names (default python3), if its torch sees the GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/gpu
tests=(core kernels ops optim ot)
cmake -S . -B "$build" -G Ninja -DM3I_CUDA=ON -DM3I_BENCH=ON -DM3I_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Release \
      ${CUDAARCHS:+-DCMAKE_CUDA_ARCHITECTURES="$CUDAARCHS"} > /dev/null
cmake --build "$build" --target device_rates conv_step mpot_step network_step "${tests[@]/#/test_}"

if ! nvidia-smi -L 2> /dev/null; then
  echo "bench/gpu.sh: built in $build; this machine has no NVIDIA GPU, or no driver for it, so nothing was run" >&2
  exit 3
fi
ctest --test-dir "$build" --output-on-failure -L cuda -R "^($(IFS='|'; echo "${tests[*]}"))\.fast$"
if sanitizer=$(command -v compute-sanitizer); then
  for tool in memcheck racecheck; do
    for folder in core kernels optim; do
      "$sanitizer" --tool "$tool" --error-exitcode 1 "$(find "$build" -name "test_$folder" -type f)" "~[slow]~[golden]"
    done
  done
else
  echo "bench/gpu.sh: no compute-sanitizer: memory errors and races were not looked for"
fi
exec python3 bench/gpu.py "$build/bin" "$@"
