#!/usr/bin/env bash
# The whole method in one command: installs what is missing, builds the programs, and runs them.
#
#   scripts/demo.sh          on synthetic subjects, in about ten minutes on two cores: triplets, towers, pretraining,
#                            fine-tuning from scratch / after reconstruction only / after the full method, a comparison
#   scripts/demo.sh DIR      pretraining on the NIfTI volumes of DIR (configs/real.json)
#
# Results go to demo-output/ of the repository (or $M3I_DEMO_OUTPUT), in the place of those of an earlier demonstration;
# open demo-output/report.html at the end.
set -euo pipefail
invoked_from=$PWD
cd "$(dirname "$0")/.."

data=${1:-}
absolute() { case $1 in /*) echo "$1" ;; *) echo "$invoked_from/$1" ;; esac; }
case $data in
  -h | --help) sed -n '2,9p' scripts/demo.sh | cut -c3-; exit 0 ;;
  "") ;;
  *) data=$(absolute "$data") ;;
esac
[ $# -le 1 ] || { echo "demo: expected at most one folder, found $#: $*" >&2; exit 2; }
[ -z "$data" ] || [ -d "$data" ] || { echo "demo: $data: no such folder; expected NIfTI volumes" >&2; exit 2; }
out=$(absolute "${M3I_DEMO_OUTPUT:-$PWD/demo-output}")
if [ -e "$out" ]; then
  [ -e "$out/times.tsv" ] || { echo "demo: $out is there and is not from this script; move it, or set M3I_DEMO_OUTPUT" >&2; exit 2; }
  rm -rf "$out"
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
: > "$out/times.tsv"

cores=$(getconf _NPROCESSORS_ONLN)
# A compiler process needs up to 2 GiB. CMAKE_BUILD_PARALLEL_LEVEL overrides.
memory_gib=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo 2> /dev/null || echo 8)
jobs=$((memory_gib / 2 < cores ? memory_gib / 2 : cores))
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$((jobs < 1 ? 1 : jobs))}
build=build/demo
bin=$build/bin
programs=(make_phantoms make_triplets fit_clip pretrain finetune_segmentation finetune_classification predict evaluate embed demo_report)

# stage NAME COMMAND...: runs it and notes the time that it took.
stage() {
  local name=$1 begin end
  shift
  echo
  echo "== $name"
  begin=$(date +%s.%N)
  "$@"
  end=$(date +%s.%N)
  printf '%s\t%s\t%s\n' "$name" "$(echo "$end $begin" | awk '{printf "%.1f", $1 - $2}')" "$*" >> "$out/times.tsv"
}

build() {
  local launcher=()
  if command -v ccache > /dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  { cmake --preset release -B "$build" -DM3I_TESTS=OFF -DM3I_INSTALL=OFF "${launcher[@]}" &&
    cmake --build "$build" --parallel "$jobs" --target "${programs[@]}"; } 2>&1 | tee "$out/build.log" |
    sed -u -n -E 's|^(\[[0-9]+/[0-9]+\]).*/([^ /]+)$|  \1 \2|p' || { tail -30 "$out/build.log"; return 1; }
}

stage "install" scripts/setup.sh
stage "build" build
begin=$(date +%s)

if [ -n "$data" ]; then
  config=configs/real.json
  stage "triplets" "$bin/make_triplets" "$data" "$out/triplets" --slices 3 --skip-bad --first-frame --config "$config"
  stage "towers" "$bin/fit_clip" "$out/triplets/triplets.jsonl" "$out/clip" --config "$config"
  stage "pretraining" "$bin/pretrain" "$out/triplets/triplets.jsonl" "$out/pretrain" --towers "$out/clip/towers" --config "$config"
  stage "embeddings" "$bin/embed" "$out/pretrain/model.safetensors" "$out/triplets/triplets.jsonl" "$out/embed" --towers "$out/clip/towers"
  "$bin/demo_report" "$out" "$out/report.html"
  echo "demo: done in $((($(date +%s) - begin) / 60)) min without the build; open $out/report.html"
  exit 0
fi

config=configs/demo.json
stage "phantoms for pretraining" "$bin/make_phantoms" "$out/phantoms" --subjects 96 --size 32 --seed 1
stage "phantoms for fine-tuning" "$bin/make_phantoms" "$out/labelled" --subjects 100 --size 32 --seed 2 --body head --modality T1
stage "triplets" "$bin/make_triplets" "$out/phantoms" "$out/triplets" --slices 2
stage "towers" "$bin/fit_clip" "$out/triplets/triplets.jsonl" "$out/clip" --config "$config"
stage "pretraining, full method" "$bin/pretrain" "$out/triplets/triplets.jsonl" "$out/pretrain" --towers "$out/clip/towers" --config "$config"
stage "pretraining, reconstruction only" "$bin/pretrain" "$out/triplets/triplets.jsonl" "$out/pretrain-reconstruction" --towers "$out/clip/towers" --config "$config" --set pretrain.alignment=none

# One line a run, several runs at a time with one thread each.
finetuning() {  # finetuning segmentation|classification
  local task=$1 seed
  for seed in 0 1 2; do
    for start in "scratch" "reconstruction --pretrained '$out/pretrain-reconstruction/model.safetensors'" "full --pretrained '$out/pretrain/model.safetensors'"; do
      echo "'$out/labelled' '$out/$task/${start%% *}-$seed' ${start#"${start%% *}"} --config $config --set run.seed=$seed run.threads=1"
    done
  done
}
finetune() {  # finetune segmentation|classification
  local task=$1
  mkdir -p "$out/$task"
  finetuning "$task" | xargs -P "$cores" -L 1 "$bin/finetune_$task" > "$out/$task/output.log" 2>&1 || { tail -20 "$out/$task/output.log"; return 1; }
  grep -E 'wrote' "$out/$task/output.log"
}
stage "fine-tuning for segmentation" finetune segmentation
stage "fine-tuning for classification" finetune classification

subject=$(ls "$out/segmentation/full-0/overlays" | head -1)
subject=${subject%.png}
mkdir -p "$out/predictions"
stage "prediction" "$bin/predict" "$out/segmentation/full-0/model.safetensors" "$out/labelled/imagesTr/$subject.nii.gz" "$out/predictions/$subject.nii.gz"
stage "evaluation" "$bin/evaluate" "$out/segmentation/full-0/model.safetensors" "$out/labelled" "$out/evaluation" --split "$out/segmentation/full-0/split.json" --part test
stage "embeddings" "$bin/embed" "$out/pretrain/model.safetensors" "$out/triplets/triplets.jsonl" "$out/embed" --towers "$out/clip/towers"
"$bin/demo_report" "$out" "$out/report.html"
echo "demo: done in $((($(date +%s) - begin) / 60)) min without the build; open $out/report.html"
