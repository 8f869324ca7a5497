#!/usr/bin/env bash
# Installs what is missing, builds m3i and runs its tests.
#
#   scripts/test.sh                 release build, all tests
#   scripts/test.sh --label fast    only the tests of one label: fast, golden, slow
#   scripts/test.sh --asan          fast tests under the address and undefined-behaviour sanitizers
#   scripts/test.sh --tsan          fast tests under the thread sanitizer
#   scripts/test.sh --clang         every header by clang++, warnings as errors
#   scripts/test.sh --cuda-compile  every header and one test program by nvcc; needs no GPU
#   scripts/test.sh --portable      m3i::compiled for each level of x86-64, and the loader's choice among them
#   scripts/test.sh --fuzz [RUNS]   libFuzzer on the parsers (clang++; default 1000000 runs each)
#   scripts/test.sh --ci            release, clang++, asan, nvcc where they are installed, and the format check
#
# Exit code 0 if everything passed. M3I_GOLDENS names the folder of reference data (default ../shared/goldens).
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(getconf _NPROCESSORS_ONLN)
export CTEST_PARALLEL_LEVEL=$jobs CMAKE_BUILD_PARALLEL_LEVEL=$jobs

configure() {
  local preset=$1
  shift
  local launcher=()
  if command -v ccache > /dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache); fi
  cmake --preset "$preset" "${launcher[@]}" "$@" > "build/$preset.log" 2>&1 || { cat "build/$preset.log"; return 1; }
}

release() {
  configure release -DM3I_WERROR=ON && cmake --build --preset release && ctest --preset release "$@"
}
portable() {
  configure portable -DM3I_WERROR=ON && cmake --build --preset portable --target m3i_compiled &&
    ctest --preset portable -R '^consumers\.(install|installed|portable|each_level)$'
}
sanitized() {  # sanitized asan|tsan
  configure "$1" -DM3I_EXAMPLES=OFF -DM3I_INSTALL=OFF && cmake --build --preset "$1" --target unit_tests &&
    ctest --preset "$1" --exclude-regex '^(consumers|layers|compile_errors|headers|examples)'
}
clang_headers() {
  configure release -B build/clang -DCMAKE_CXX_COMPILER="$(command -v clang++)" -DM3I_WERROR=ON -DM3I_EXAMPLES=OFF &&
    cmake --build build/clang --target m3i_headers
}
cuda_compile() {
  configure cuda -DM3I_EXAMPLES=OFF -DM3I_WERROR=ON &&
    cmake --build --preset cuda --target m3i_headers test_core && ctest --preset cuda -R '^core\.'
}

has_nvcc() { command -v nvcc > /dev/null || [ -x /usr/local/cuda/bin/nvcc ]; }
export PATH=$PATH:/usr/local/cuda/bin

# stage NAME SECONDS COMMAND...: runs it with a time limit and remembers how it went.
stages=() failed=0
stage() {
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  echo "== $name"
  timeout --foreground "$limit" scripts/test.sh --stage "$@" || status=$?
  local took=$((SECONDS - begin))
  case $status in
    0) stages+=("ok      $name (${took} s)") ;;
    124) stages+=("FAILED  $name: over its limit of $limit s") failed=$((failed + 1)) ;;
    *) stages+=("FAILED  $name (${took} s)") failed=$((failed + 1)) ;;
  esac
}
skip() { stages+=("skipped $1: $2"); }

ci() {
  local log=build/ctest-release.log
  local apart=()  # clang++ shows in a stage of its own that each header stands alone
  if command -v clang++ > /dev/null; then apart=(--exclude-regex '^headers$'); fi
  stage "release build and tests" 2000 release --output-log "$log" "${apart[@]}"
  if command -v clang++ > /dev/null; then stage "headers by clang++" 600 clang_headers; else skip clang++ "not installed"; fi
  stage "ASan and UBSan" 1800 sanitized asan
  if has_nvcc; then stage "nvcc compile check" 1400 cuda_compile; else skip nvcc "not installed"; fi
  # Versions of clang-format differ in details; sources are formatted by version 14.
  if [[ $(clang-format --version 2> /dev/null) == *"version 14."* ]]; then stage "format check" 60 format; else skip "format check" "no clang-format 14"; fi

  printf '\n'
  printf '%s\n' "${stages[@]}"
  # The counts of the main run and of the other stages in one line.
  local counts tests_failed total
  counts=$(grep -E 'tests passed, [0-9]+ tests failed out of [0-9]+' "$log" 2> /dev/null | tail -1)
  tests_failed=$(echo "$counts" | sed -n 's/.*passed, \([0-9]*\) tests failed.*/\1/p')
  total=$(echo "$counts" | sed -n 's/.*out of \([0-9]*\).*/\1/p')
  local others=$((${#stages[@]} - 1)) others_failed=$failed
  if [[ ${stages[0]} == FAILED* ]]; then
    others_failed=$((failed - 1))
    if [ "${tests_failed:-0}" -eq 0 ]; then others_failed=$failed others=$((others + 1)); fi  # it did not build
  fi
  others=$((others - $(printf '%s\n' "${stages[@]}" | grep -c '^skipped' || true)))
  echo "$((${total:-0} - ${tests_failed:-0} + others - others_failed)) passed, $((${tests_failed:-0} + others_failed)) failed"
  [ "$failed" -eq 0 ]
}
format() { scripts/format.sh --check; }

mkdir -p build
case ${1:-} in
  --stage) shift; "$@" ;;
  --label) scripts/setup.sh && release --label-regex "${2:?--label needs fast, golden or slow}" ;;
  --asan) scripts/setup.sh && sanitized asan ;;
  --tsan) scripts/setup.sh && sanitized tsan ;;
  --portable) scripts/setup.sh && portable ;;
  --clang) scripts/setup.sh && clang_headers ;;
  --cuda-compile) scripts/setup.sh && cuda_compile ;;
  --fuzz) scripts/setup.sh && cmake --preset fuzz && cmake --build --preset fuzz && tests/fuzz/run.sh "${2:-1000000}" ;;
  --ci)
    scripts/setup.sh
    scripts/setup.sh --mpi || echo "test.sh: no Open MPI: the tests of ranks that mpirun starts are left out" >&2
    ci
    ;;
  "") scripts/setup.sh && release ;;
  *) sed -n '2,15p' scripts/test.sh; exit 2 ;;
esac
