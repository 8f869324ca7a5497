#!/usr/bin/env bash
# The baseline table: GEMM, one nnFormer training step, compile time. Writes bench/results/DATE-cpu.json.
#
#   bench/run.sh [--quick]     --quick: 64^3 instead of 128^3
set -euo pipefail
cd "$(dirname "$0")/.."
size=128
[ "${1:-}" = --quick ] && size=64
build=build/bench
cmake -S . -B "$build" -G Ninja -DM3I_BENCH=ON -DM3I_TESTS=OFF -DM3I_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Release > /dev/null
cmake --build "$build"
bin=$build/bin
out=bench/results/$(date +%F)-cpu.json
temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT

compile() {  # seconds to compile one file at -O2, best of three
  local best=999 t
  for _ in 1 2 3; do
    t=$( { TIMEFORMAT=%R; time g++ -std=c++20 -O2 -fopenmp-simd -DM3I_OPENMP_SIMD=1 -Iinclude -isystem /usr/include/eigen3 $2 -c "$1" -o /dev/null; } 2>&1 | tail -1)
    best=$(awk -v a="$best" -v b="$t" 'BEGIN{print (b<a)?b:a}')
  done
  echo "$best"
}

echo "GEMM"
"$bin/gemm" --benchmark_format=json > "$temporary"
echo "nnFormer"
step=$("$bin/training_step" "$size" 96 3 0)
checkpointed=$("$bin/training_step" "$size" 96 3 1)
echo "compile time"
hello=$(compile bench/compile/hello.cpp "")
hello_compiled=$(compile bench/compile/hello.cpp -DM3I_COMPILED=1)
tensor=$(compile include/m3i/core/tensor.hpp "-x c++")
printf '#include <Eigen/Dense>\nint main() {}\n' > "$temporary.cpp"
eigen=$(compile "$temporary.cpp" "")
rm -f "$temporary.cpp"

python3 - "$temporary" "$out" "$step" "$checkpointed" "$hello" "$hello_compiled" "$tensor" "$eigen" << 'PY'
import json, os, platform, subprocess, sys
gemm, out, step, checkpointed, hello, hello_compiled, tensor, eigen = sys.argv[1:]
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown")
rows = [{"work": "gemm " + b["name"].removesuffix("/real_time"), "ours": round(b["FLOP/s"] / 1e9, 1), "unit": "GFLOP/s"}
        for b in json.load(open(gemm))["benchmarks"]]
for text in (step, checkpointed):
    s = json.loads(text)
    rows.append({"work": s["work"], "ours": s["step_s"], "unit": "s", **s})
    rows.append({"work": s["work"] + ", peak memory of the process", "ours": s["peak_process_mib"], "unit": "MiB"})
for work, seconds in (("hello program, all of m3i", hello), ("hello program, linking m3i::compiled", hello_compiled),
                      ("m3i/core/tensor.hpp alone", tensor), ("Eigen/Dense alone", eigen)):
    rows.append({"work": "compile " + work, "ours": float(seconds), "unit": "s"})
result = {"machine": {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform()},
          "compiler": subprocess.run(["g++", "--version"], capture_output=True, text=True).stdout.splitlines()[0],
          "command": "bench/run.sh", "rows": rows}
with open(out, "w") as f:
    json.dump(result, f, indent=1)
    f.write("\n")
for r in rows:
    print(f"{r['work']:<70} {r['ours']:>10} {r['unit']}")
print("wrote", out)
PY
