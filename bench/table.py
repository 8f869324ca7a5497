#!/usr/bin/env python3
"""Measures every row of the benchmark table and its peer in one run, and writes bench/results/DATE-cpu.json.

Rows: work, ours, peer, ratio = ours / peer, target (of the ratio), unit. A peer that is not installed leaves its row
without a ratio, and the run says so. Called by bench/run.sh.
"""
import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

PYTHON = os.environ.get("M3I_PEER_PYTHON", "python3")
CORES = os.cpu_count() or 1


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **options).stdout


def run_json(*command):
    return json.loads(run(*command).strip().splitlines()[-1])


def wall(*command, repeats=3):
    """Seconds of a whole process, best of some."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run(*command)
        best = min(best, time.perf_counter() - start)
    return best


def peer_has(*modules):
    code = "; ".join("import " + m for m in modules)
    return subprocess.run([PYTHON, "-c", code], capture_output=True).returncode == 0


def best_peer(script, *arguments, variants=((),)):
    """The fastest of the peer's settings: one thread or all, and the given variants."""
    results = [run_json(PYTHON, f"bench/peers/{script}", *arguments, "--threads", threads, *variant)
               for threads in sorted({1, CORES}) for variant in variants]
    return min(results, key=lambda r: r["step_s"])


class Table:
    def __init__(self, only):
        self.only, self.rows = only, []

    def wanted(self, work):
        return not self.only or any(word in work for word in self.only)

    def add(self, work, unit, ours, peer=None, target=None, **notes):
        row = {"work": work, "ours": ours, "peer": None, "ratio": None, "target": target, "unit": unit, **notes}
        self.rows.append(row)
        self.set_peer(row, peer)
        return row

    def set_peer(self, row, peer):
        row["peer"], row["ratio"] = peer, round(row["ours"] / peer, 3) if peer else None
        show = lambda x: "-" if x is None else f"{x:g}"
        of_peak = f"  of peak {row['fraction']:g}" if row.get("fraction") is not None else ""
        print(f"{row['work']:<66} {row['ours']:>10g} {show(peer):>10} {row['unit']:<8} ratio {show(row['ratio']):>6}  "
              f"target {show(row['target']):>5}{of_peak}", flush=True)


def networks(table, bin_, quick):
    torch_there = peer_has("torch")
    if not torch_there:
        print("no torch in", PYTHON, "- networks have no peer")
    nnformer, unetr = (64, 48) if quick else (128, 96)
    plain = (("--attention", "sdpa"), ("--attention", "plain"))
    for name, size, time_target, memory_target in (("nnformer", nnformer, 0.5, 0.5), ("unetr", unetr, 0.6, 0.6)):
        if not table.wanted(name):
            continue
        there = torch_there and (name == "nnformer" or peer_has("monai"))
        with tempfile.TemporaryDirectory() as folder:
            weights = folder + "/weights.safetensors"
            run(bin_ + "/network_step", name, size, "--infer", "--steps", 1, "--export", weights)
            for infer in (False, True):
                flag = ("--infer",) if infer else ()
                ours = run_json(bin_ + "/network_step", name, size, *flag)
                peer = best_peer("networks.py", name, size, weights, *flag, variants=plain if name == "nnformer" else ((),)) \
                    if there else {}
                if peer and abs(peer["loss"] - ours["loss"]) > 1e-3 * abs(peer["loss"]):
                    sys.exit(f"{ours['work']}: loss {ours['loss']}, the peer's is {peer['loss']}: not the same work")
                table.add(ours["work"], "s", ours["step_s"], peer.get("step_s"), 0.5 if infer else time_target,
                          detail=ours, peer_detail=peer)
                table.add(ours["work"] + ", peak memory", "MiB", ours["peak_process_mib"], peer.get("peak_process_mib"),
                          0.3 if infer else memory_target)
                if not infer:
                    saved, plain_step = run_json(bin_ + "/network_step", name, size, "--checkpoint"), ours["step_s"]
                    table.add(saved["work"] + ", peak memory", "MiB", saved["peak_process_mib"],
                              peer.get("peak_process_mib"), 0.25 if name == "nnformer" else None, detail=saved)
                    table.add(saved["work"] + " against plain", "s", saved["step_s"], plain_step,
                              1.35 if name == "nnformer" else None)


def neighbour(table, bin_):
    """What a process that keeps one core busy does to a step: passive waits must not make it worse than sharing."""
    work = "nnformer 64^3 training step beside a busy process, against alone"
    if not table.wanted(work):
        return
    alone = run_json(bin_ + "/network_step", "nnformer", 64, "--steps", 5)["step_s"]
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        beside = run_json(bin_ + "/network_step", "nnformer", 64, "--steps", 5)["step_s"]
    finally:
        busy.kill()
        busy.wait()
    table.add(work, "s", beside, alone, 2.2)


def kernels(table, bin_, quick):
    if table.wanted("gemm"):
        for b in json.loads(run(bin_ + "/gemm", "--benchmark_format=json"))["benchmarks"]:
            table.add("gemm " + b["name"].removesuffix("/real_time"), "GFLOP/s", round(b["FLOP/s"] / 1e9, 1))
    if table.wanted("conv3d"):
        size = 32 if quick else 64
        ours = run_json(bin_ + "/conv_step", size)
        peer = best_peer("conv3d.py", size) if peer_has("torch") else {}
        table.add(ours["work"] + ", forward and gradients", "s", ours["step_s"], peer.get("step_s"), 0.8, detail=ours,
                  peer_detail=peer)
    if table.wanted("mPOT"):
        b = 64 if quick else 256
        ours = run_json(bin_ + "/mpot_step", b)
        peer = best_peer("mpot.py", b) if peer_has("torch", "ot") else {}
        table.add(ours["work"], "s", ours["step_s"], peer.get("step_s"), 0.1, detail=ours, peer_detail=peer)
    if table.wanted("hd95"):
        ours = {b["name"].split("/")[1]: b["real_time"] for b in
                json.loads(run(bin_ + "/hausdorff", "--benchmark_format=json"))["benchmarks"]}
        peer = run_json(PYTHON, "bench/peers/hausdorff.py") if peer_has("scipy") else {}
        for name, ms in ours.items():
            match = peer.get(name, {})
            table.add("hd95 of two spheres, 250^3, " + name, "ms", round(ms, 2), match.get("ms"), 0.1)
    if table.wanted("preprocess"):
        with tempfile.TemporaryDirectory() as folder:
            ours = run_json(bin_ + "/preprocess", folder + "/head.nii.gz")
            peer = run_json(PYTHON, "bench/peers/preprocess.py", folder + "/head.nii.gz") \
                if peer_has("nibabel", "scipy") else {}
        if peer and abs(peer["mean"] - ours["mean"]) > 1e-4:
            sys.exit(f"{ours['work']}: mean {ours['mean']}, the peer's is {peer['mean']}: not the same work")
        table.add(ours["work"], "s", ours["step_s"], peer.get("step_s"), 0.333, detail=ours, peer_detail=peer)


def start(table, bin_):
    work = "process start to the end of the first training step, nnformer-32 32^3"
    if not table.wanted(work):
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = folder + "/weights.safetensors"
        small = ("nnformer", 32)
        run(bin_ + "/network_step", *small, "--embedding", 32, "--steps", 1, "--export", weights)
        ours = wall(bin_ + "/network_step", *small, "--embedding", 32, "--steps", 1)
        peer = wall(PYTHON, "bench/peers/networks.py", *small, weights, "--steps", 1) if peer_has("torch") else None
    table.add(work, "s", round(ours, 4), peer and round(peer, 4), 0.05)


def compile_times(table):
    if not table.wanted("compile"):
        return
    flags = ["-std=c++20", "-O2", "-fopenmp-simd", "-DM3I_OPENMP_SIMD=1", "-Iinclude", "-isystem", "/usr/include/eigen3"]
    seconds = lambda *arguments: round(wall("g++", *flags, *arguments, "-c", "-o", "/dev/null"), 2)
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as eigen:
        eigen.write("#include <Eigen/Dense>\nint main() {}\n")
        eigen.flush()
        eigen_s = seconds(eigen.name)
    libtorch = None
    if peer_has("torch"):
        torch = run(PYTHON, "-c", "import torch, os; print(os.path.dirname(torch.__file__))").strip()
        includes = ["-isystem", torch + "/include", "-isystem", torch + "/include/torch/csrc/api/include"]
        libtorch = seconds(*includes, "-x", "c++", "bench/peers/libtorch_hello.cc")
    for name, arguments in (("headers only", ["bench/compile/hello.cpp"]),
                            ("linking m3i::compiled", ["-DM3I_COMPILED=1", "bench/compile/hello.cpp"])):
        table.add("compile the hello program, " + name, "s", seconds(*arguments), libtorch, 0.33)
    table.add("compile the hello program, headers only, against Eigen/Dense", "s", table.rows[-2]["ours"], eigen_s)
    table.add("compile m3i/core/tensor.hpp alone, against Eigen/Dense", "s",
              seconds("-x", "c++", "include/m3i/core/tensor.hpp"), eigen_s)


def cpu_name():
    return next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown")


def write_results(result, kind, quick):
    """bench/results/DATE-KIND.json, whole or not at all. Returns its name."""
    out = f"bench/results/{datetime.date.today()}-{kind}{'-quick' * quick}.json"
    with open(out + ".tmp", "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    shutil.move(out + ".tmp", out)
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    a = parser.parse_args()
    table = Table(a.only)
    kernels(table, a.bin, a.quick)
    networks(table, a.bin, a.quick)
    neighbour(table, a.bin)
    start(table, a.bin)
    compile_times(table)
    result = {"machine": {"cpu": cpu_name(), "cores": CORES, "system": platform.platform()},
              "compiler": run("g++", "--version").splitlines()[0], "command": "bench/run.sh" + (" --quick" * a.quick),
              "rows": table.rows}
    if not a.only:
        print("wrote", write_results(result, "cpu", a.quick))


if __name__ == "__main__":
    main()
