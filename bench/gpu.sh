#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds what is needed, runs the tests that compare the GPU with the host and writes
# what they found to docs/gpu-operations.md, then compute-sanitizer where it is installed, then times everything and
# writes the table bench/results/DATE-gpu.json. See bench/gpu.py. Without a GPU it stops after the build.
#
#   bench/gpu.sh [--quick] [--only WORD]... [--minutes 10]     as bench/run.sh; the minutes include the build
#
# A test that fails, and a row that cannot be measured, are named at the end; the rest is measured all the same.
# Peers run in the Python that M3I_PEER_PYTHON names (default python3), if its torch sees the GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
M3I_GPU_START=$(date +%s)
export M3I_GPU_START
build=build/gpu
tests=(core kernels ops optim ot)
failed=()
cmake -S . -B "$build" -G Ninja -DM3I_CUDA=ON -DM3I_BENCH=ON -DM3I_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Release \
      ${CUDAARCHS:+-DCMAKE_CUDA_ARCHITECTURES="$CUDAARCHS"} > /dev/null
cmake --build "$build" --target device_rates conv_step mpot_step network_step pretrain_step "${tests[@]/#/test_}"

if ! nvidia-smi -L 2> /dev/null; then
  echo "bench/gpu.sh: built in $build; this machine has no NVIDIA GPU, or no driver for it, so nothing was run" >&2
  exit 3
fi
ctest --test-dir "$build" --output-on-failure -L cuda -R "^($(IFS='|'; echo "${tests[*]}"))\.fast$" || failed+=("tests")
python3 scripts/support_matrix.py "$build"/test_record/{ops,optim,ot}.jsonl || failed+=("table of operations")

if sanitizer=$(command -v compute-sanitizer); then
  pids=()
  for tool in memcheck racecheck; do  # beside each other: most of their time is the host's
    for folder in core kernels optim; do
      program=$(find "$build" -name "test_$folder" -type f)
      timeout 150 "$sanitizer" --tool "$tool" --error-exitcode 1 "$program" "~[slow]~[golden]" \
              > "$build/$tool-$folder.log" 2>&1 &
      pids+=("$!:$tool-$folder")
    done
  done
  for entry in "${pids[@]}"; do
    status=0
    wait "${entry%%:*}" || status=$?
    case $status in
      0) ;;
      124) failed+=("${entry#*:} was not finished after 150 s") ;;
      *) failed+=("${entry#*:}, see $build/${entry#*:}.log") ;;
    esac
  done
else
  echo "bench/gpu.sh: no compute-sanitizer: memory errors and races were not looked for"
fi

python3 bench/gpu.py "$build/bin" "$@" || failed+=("rows of the table, named above")
if ((${#failed[@]})); then
  printf 'bench/gpu.sh: failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
