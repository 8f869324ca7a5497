#!/usr/bin/env bash
# Fuzzes the parsers, one after another:
#
#   cmake --preset fuzz && cmake --build --preset fuzz
#   tests/fuzz/run.sh [RUNS [TARGET...]]          default: 10000000 runs each of all targets
#
# Corpus, logs and findings go to build/fuzz/. A finding is a file that ends a program: put it into
# tests/data/fuzz/TARGET once the fault is repaired. Exit code 0 if there was none.
set -u
cd "$(dirname "$0")/../.."
runs=${1:-10000000}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(nifti jsonl dataset caption)
goldens=${M3I_GOLDENS:-../shared/goldens}/imaging
out=build/fuzz
failed=0
for target in "${targets[@]}"; do
  mkdir -p "$out/corpus/$target" "$out/findings/$target"
  seeds=("tests/data/fuzz/$target")
  length=2048
  if [ "$target" = nifti ]; then
    length=8192
    for folder in nifti malformed; do [ -d "$goldens/$folder" ] && seeds+=("$goldens/$folder"); done
  fi
  nice -n 19 "$out/bin/fuzz_$target" -runs="$runs" -max_len="$length" -malloc_limit_mb=80 -rss_limit_mb=2048 \
    -timeout=10 -print_final_stats=1 -artifact_prefix="$out/findings/$target/" "$out/corpus/$target" "${seeds[@]}" \
    > "$out/$target.log" 2>&1 || { echo "$target: a finding, see $out/$target.log"; failed=1; }
  grep -E 'number_of_executed_units|average_exec_per_sec' "$out/$target.log" | sed "s/^stat::/$target: /"
done
exit $failed
