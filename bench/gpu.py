#!/usr/bin/env python3
"""Measures every row of the GPU table and its peer in one run, and writes bench/results/DATE-gpu.json.

Rows as in bench/table.py; `peer` is PyTorch's best of eager and compiled, of its memory layouts and attentions. Rows of
single kernels have no peer: their ratio is the fraction of what the device can do, of a copy's bandwidth or of the best
algorithm that cuBLASLt has. Called by bench/gpu.sh.
"""
import argparse
import itertools
import json
import subprocess
import sys
import tempfile

from table import PYTHON, Table, peer_has, run, run_json, write_results

DTYPES = ("f32", "bf16")


def peer_sees_gpu():
    return subprocess.run([PYTHON, "-c", "import torch; assert torch.cuda.is_available()"],
                          capture_output=True).returncode == 0


def best_of(script, *arguments, variants):
    """The fastest of the peer's settings; those that fail (a compiler that is not there) are named and left out."""
    results = []
    for variant in variants:
        try:
            results.append(run_json(PYTHON, f"bench/peers/{script}", *arguments, "--device", "cuda", *variant))
        except subprocess.CalledProcessError as error:
            last = error.stderr.strip().splitlines()[-1:] or ["no message"]
            print("peer", script, *variant, "failed:", last[0])
    return min(results, key=lambda r: r["step_s"], default={})


def rates(table, bin_):
    for dtype in DTYPES:
        for line in run(bin_ + "/device_rates", "--device", "cuda", "--dtype", dtype).splitlines():
            row = json.loads(line)
            work = f"{row['work']}, {dtype}"
            if table.wanted(work):
                memory, product = row["unit"] == "GB/s" and row["work"] != "copy", row["work"].startswith("linear")
                table.add(work, row["unit"], row["rate"], row["rate"] / row["fraction"] if memory or product else None,
                          0.85 if memory else 0.9 if product else None, detail=row)


def convolutions(table, bin_, torch_there):
    for (size, channels), dtype in itertools.product(((32, 48), (64, 32), (96, 16)), DTYPES):
        options = (size, channels, "--batch", 4, "--dtype", dtype)
        if table.wanted("conv3d"):
            ours = run_json(bin_ + "/conv_step", *options, "--device", "cuda")
            peer = best_of("conv3d.py", *options, variants=((),)) if torch_there else {}  # tries both layouts itself
            table.add(ours["work"], "s", ours["step_s"], peer.get("step_s"), 1.0, detail=ours, peer_detail=peer)
            own = run_json(bin_ + "/conv_step", *options, "--device", "cuda", "--implicit")  # without cuDNN, beside it
            table.add(own["work"], "s", own["step_s"], ours["step_s"], detail=own)


def transport(table, bin_):
    for b in (4, 16, 64, 128, 256, 1024):
        if table.wanted("mPOT"):
            ours, host = (run_json(bin_ + "/mpot_step", b, "--device", d) for d in ("cuda", "cpu"))
            if abs(ours["loss"] - host["loss"]) > 1e-6 * abs(host["loss"]):
                sys.exit(f"{ours['work']}: loss {ours['loss']}, on the host it is {host['loss']}")
            table.add(ours["work"] + ", against this machine's host", "s", ours["step_s"], host["step_s"], detail=ours)


def networks(table, bin_, quick, torch_there):
    for (name, size, batch), dtype in itertools.product(
            (("nnformer", 64 if quick else 128, 4), ("unetr", 48 if quick else 96, 1)), DTYPES):
        if not table.wanted(name):
            continue
        options = ("--batch", batch, "--dtype", dtype, "--device", "cuda")
        attentions = ("sdpa", "plain") if name == "nnformer" else ("sdpa",)
        layouts = ("contiguous_format", "channels_last_3d") if name == "unetr" else ("contiguous_format",)
        variants = [("--attention", a, "--layout", l, "--dtype", dtype, "--steps", 8, *c)
                    for a in attentions for l in layouts for c in ((), ("--compile",))]
        with tempfile.TemporaryDirectory() as folder:
            weights = folder + "/weights.safetensors"
            run(bin_ + "/network_step", name, size, "--batch", batch, "--infer", "--steps", 1, "--device", "cuda",
                "--export", weights)
            there = torch_there and (name == "nnformer" or peer_has("monai"))
            peer = best_of("networks.py", name, size, weights, variants=variants) if there else {}
        plain = run_json(bin_ + "/network_step", name, size, "--steps", 8, *options)
        recorded = run_json(bin_ + "/network_step", name, size, "--steps", 8, "--graph", *options)
        for ours in (plain, recorded):
            if peer and abs(peer["loss"] - ours["loss"]) > (1e-3 if dtype == "f32" else 5e-2) * abs(peer["loss"]):
                sys.exit(f"{ours['work']}: loss {ours['loss']}, the peer's is {peer['loss']}: not the same work")
            table.add(ours["work"], "s", ours["step_s"], peer.get("step_s"), round(1 / 1.3, 2), detail=ours,
                      peer_detail=peer)
        table.add(plain["work"] + ", peak memory of tensors", "MiB", plain["peak_tensors_mib"],
                  peer.get("peak_tensors_mib"), 0.6)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    a = parser.parse_args()
    torch_there = peer_sees_gpu()
    if not torch_there:
        print("no torch that sees the GPU in", PYTHON, "- rows have no peer")
    table = Table(a.only)
    rates(table, a.bin)
    convolutions(table, a.bin, torch_there)
    transport(table, a.bin)
    networks(table, a.bin, a.quick, torch_there)
    gpu = run("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader").splitlines()[0]
    result = {"machine": {"gpu": gpu}, "compiler": run("nvcc", "--version").strip().splitlines()[-1],
              "command": "bench/gpu.sh" + " --quick" * a.quick, "rows": table.rows}
    if not a.only:
        write_results(result, "gpu", a.quick)


if __name__ == "__main__":
    main()
