#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds what is needed, runs the tests that compare the GPU with the host and writes
# what they found to docs/gpu-operations.md, then compute-sanitizer where it is installed, then times everything and
# writes the table bench/results/DATE-gpu.json. See bench/gpu.py. Without a GPU it stops after the build.
#
#   bench/gpu.sh [--quick] [--only WORD]... [--minutes 10]     as bench/run.sh; the minutes include the build
#
# What does not build, a test that fails and a row that cannot be measured are named at the end; the rest is done all
# the same. Peers run in the Python that M3I_PEER_PYTHON names (default python3), if its torch sees the GPU; its cuDNN
# serves where the system has none. Nothing is installed and no network is asked: what scripts/setup.sh would install may
# also lie unpacked in a folder that CMAKE_PREFIX_PATH names.
set -euo pipefail
cd "$(dirname "$0")/.."
M3I_GPU_START=$(date +%s)
export M3I_GPU_START PATH=$PATH:/usr/local/cuda/bin
build=build/gpu
tests=(core kernels ops optim ot)
failed=()
python=${M3I_PEER_PYTHON:-python3}
"$python" -c "import torch, ot, monai" > /dev/null 2>&1 &  # from the disk, while the build computes

options=()
mkdir -p "$build"
echo '#include <immintrin.h>' > "$build/native.cu"
if ! nvcc -Xcompiler=-march=native -c "$build/native.cu" -o "$build/native.o" 2> /dev/null; then
  options+=(-DM3I_NATIVE=OFF)  # the C++ compiler has instructions for this processor that nvcc cannot read
fi
if ! echo '#include <cudnn.h>' | c++ -I/usr/local/cuda/include -x c++ -fsyntax-only - 2> /dev/null &&
   wheel=$("$python" -c "import nvidia.cudnn; print(nvidia.cudnn.__path__[0])" 2> /dev/null); then
  options+=(-DM3I_CUDNN_LIBRARY="$wheel/lib/libcudnn.so.9")
  export CPATH=$wheel/include${CPATH:+:$CPATH}
fi
cmake -S . -B "$build" -G Ninja -DM3I_CUDA=ON -DM3I_BENCH=ON -DM3I_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Release \
      ${CUDAARCHS:+-DCMAKE_CUDA_ARCHITECTURES="$CUDAARCHS"} "${options[@]}" > /dev/null
cmake --build "$build" --target device_rates conv_step mpot_step network_step pretrain_step "${tests[@]/#/test_}" \
      -- -k 0 || failed+=("a part of the build")
echo "bench/gpu.sh: built in $(($(date +%s) - M3I_GPU_START)) s"

if ! nvidia-smi -L 2> /dev/null; then
  echo "bench/gpu.sh: this machine has no NVIDIA GPU, or no driver for it: nothing was run${failed[0]:+; failed: ${failed[0]}}" >&2
  exit $((${#failed[@]} ? 1 : 3))
fi
# A limit for each step: a kernel that hangs costs no other result.
timeout -k 5 150 ctest --test-dir "$build" --output-on-failure -j "${#tests[@]}" -L cuda \
        -R "^($(IFS='|'; echo "${tests[*]}"))\.fast$" || failed+=("tests")
python3 scripts/support_matrix.py "$build"/test_record/{ops,optim,ot}.jsonl || failed+=("table of operations")

if sanitizer=$(command -v compute-sanitizer); then
  # Our own kernels: to instrument NVIDIA's libraries takes minutes. Calls that fail are not errors: tests provoke some.
  checks=("memcheck --report-api-errors no" racecheck) pids=() limit=120 help=$("$sanitizer" --help) args=()
  for option in "kernel-name kns=m3i" "launch-timeout 60" "max-connections 32"; do  # those that this version has
    if [[ $help == *"--${option% *} "* ]]; then args+=("--${option% *}" "${option#* }"); fi
  done
  for check in "${checks[@]}"; do  # beside each other: most of their time is the host's
    for folder in "${tests[@]}"; do
      name=${check%% *}-$folder
      # shellcheck disable=SC2086
      timeout -k 5 $limit "$sanitizer" --tool $check --error-exitcode 1 "${args[@]}" "$build/tests/test_$folder" \
              "~[.]~[slow]~[golden]" > "$build/$name.log" 2>&1 &
      pids+=("$!:$name")
    done
  done
  for entry in "${pids[@]}"; do
    status=0 name=${entry#*:}
    wait "${entry%%:*}" || status=$?
    case $status in
      0) echo "bench/gpu.sh: $name found nothing" ;;
      124 | 137) failed+=("$name was not finished after $limit s") ;;
      *) failed+=("$name, see $build/$name.log"); tail -n 20 "$build/$name.log" ;;
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
