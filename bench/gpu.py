#!/usr/bin/env python3
"""Measures every row of the GPU table and its peer in one run, and writes bench/results/DATE-gpu.json.

    gpu.py BIN [--quick] [--only WORD]... [--minutes 10] [--device cuda|cpu|emulated]

Rows as in bench/table.py; `peer` is PyTorch's best of eager and compiled, of its memory layouts and attentions, and
`fraction` what is reached of the device's own peak in the same run: of a copy's bandwidth for what waits for memory, for
products of the fastest algorithm that cuBLASLt has, for all else of the large product of that type.

Every row is first measured beside eager PyTorch; then, in the time that is left, PyTorch compiles what it was fastest
with, the whole steps first. A row or peer that fails, or that the minutes do not reach, is named at the end and in the
file, and costs no other row; the exit is then 1. The file is there from the first row on, so that a run that is stopped
keeps what it had. Called by bench/gpu.sh. Another --device than cuda tries every part on small volumes and writes
nothing.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time

from table import CORES, PYTHON, Table, cpu_name, peer_has, run, write_results

DTYPES = ("bf16", "f32")
LIMIT, COMPILE_LIMIT = 120, 300  # seconds of a program, so that one that hangs costs no other row


class Failed(Exception):
    """What the end of the run says about a row."""


def said(*command):
    """The lines that a program prints; none if it is not there."""
    try:
        return run(*command).strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


class Run:
    """The table, the time left, and what failed."""

    def __init__(self, a, folder):
        self.table, self.bin, self.device, self.quick = Table(a.only), a.bin, a.device, a.quick
        self.cuda = a.device == "cuda"
        self.tiny = not self.cuda  # only to see that every part works
        self.end = float(os.environ.get("M3I_GPU_START", time.time())) + 60 * a.minutes
        self.failures, self.peaks = [], {}
        self.later = []  # (order, name, what compiles peers)
        self.folder, self.networks = folder, {}
        self.torch = self.peer_sees_device()
        self.has = {}
        gpu = said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
        self.machine = {"gpu": "; ".join(gpu), "cpu": cpu_name(), "cores": CORES, "system": platform.platform()}
        self.compiler = "".join(said("nvcc", "--version")[-1:])

    def peer_sees_device(self):
        code = "import torch; assert torch.cuda.is_available()" if self.cuda else "import torch"
        try:
            if subprocess.run([PYTHON, "-c", code], capture_output=True).returncode == 0:
                return True
        except OSError:
            pass
        print("no torch that sees the device in", PYTHON, "- rows have no peer")
        return False

    def peer_has(self, *modules):
        """Whether the peers' Python has what a row's peer needs; if not, the run says so."""
        if self.torch and modules not in self.has:
            self.has[modules] = peer_has(*modules)
            if not self.has[modules]:
                print("no", " and ".join(modules), "in", PYTHON, "- their rows have no peer")
        return self.torch and self.has[modules]

    def lines(self, *command, limit=LIMIT):
        """The JSON lines that a program prints. If it fails, the lines before that count, and its last words are kept
        for the end; without any it throws Failed."""
        left = min(limit, self.end - time.time())
        words = " ".join(str(c) for c in command)
        if left < 5:
            raise Failed(f"no time left for {words}")
        out, failure = "", None
        try:
            out = run(*command, timeout=left)
        except subprocess.TimeoutExpired as error:
            out, failure = error.stdout or "", f"{words}: stopped after {left:.0f} s"
        except subprocess.CalledProcessError as error:
            last = (error.stderr or "").strip().splitlines()[-1:] or ["no message"]
            out, failure = error.stdout or "", f"{words}: exit {error.returncode}: {last[0]}"
        except OSError as error:
            failure = f"{words}: {error}"
        found = []
        for line in (out if isinstance(out, str) else out.decode(errors="replace")).splitlines():
            try:
                if line.startswith("{"):
                    found.append(json.loads(line))
            except ValueError:
                failure = failure or f"{words}: printed {line}"  # nan, or half a line
        if failure and not found:
            raise Failed(failure)
        if failure:
            self.failures.append(failure)
        return found

    def ours(self, program, *arguments):
        """What one of our programs prints: its first line."""
        found = self.lines(f"{self.bin}/{program}", *arguments, "--device", self.device)
        if not found:
            raise Failed(f"{program} {' '.join(map(str, arguments))}: printed nothing")
        return found[0]

    def peer(self, script, *arguments, device=None, limit=LIMIT):
        """Lines of a peer; none where there is no peer or it fails, which is named."""
        if not self.torch:
            return []
        try:
            device = device or ("cuda" if self.cuda else "cpu")
            return self.lines(PYTHON, f"bench/peers/{script}", *arguments, "--device", device, limit=limit)
        except Failed as failure:
            self.failures.append(f"peer {failure}")
            return []

    def write(self):
        """What is there so far, if it is of a whole run on a GPU, and the name of the file."""
        if self.cuda and not self.table.only:
            return write_results({"machine": self.machine, "compiler": self.compiler,
                                  "command": "bench/gpu.sh" + " --quick" * self.quick, "not_measured": self.failures,
                                  "rows": self.table.rows}, "gpu", self.quick)
        return None

    def attempt(self, name, rows):
        """rows(); a failure, of whatever kind, is kept for the end."""
        try:
            rows()
        except Failed as failure:
            self.failures.append(f"{name}: {failure}")
        except Exception as error:
            self.failures.append(f"{name}: {type(error).__name__}: {error}")
        self.write()

    def add(self, work, unit, ours, peer=None, target=None, gflops=None, peak=None, **notes):
        """`gflops` are set against the large product of the type that `peak` names."""
        if gflops and peak in self.peaks:
            notes["fraction"] = round(gflops / self.peaks[peak], 4)
        return self.table.add(work, unit, ours, peer, target, **notes)

    def improve(self, row, peer, seconds):
        """Takes a peer's compiled result where it is faster."""
        if row["peer"] is None or seconds < row["peer"]:
            row["peer_detail"] = peer
            self.table.set_peer(row, seconds)

    def same_work(self, ours, peer, dtype):
        """The peer if it has our loss; else nothing, and the end says so."""
        bound = 1e-3 if dtype == "f32" else 5e-2
        if not peer or abs(peer["loss"] - ours["loss"]) <= bound * abs(peer["loss"]):  # NaN is not the same
            return peer
        self.failures.append(f"{ours['work']}: loss {ours['loss']}, the peer's is {peer['loss']}: not the same work")
        return {}


def rates(r, dtype):
    """Memory, products, attention. The large product is the peak that other rows are set against, wanted or not."""
    own = r.lines(r.bin + "/device_rates", "--device", r.device, "--dtype", dtype)
    if products := [row["rate"] for row in own if row["work"].startswith("linear")]:
        r.peaks[dtype] = max(products)
    own = [row for row in own if r.table.wanted(row["work"])]
    if not own:
        return
    theirs = {} if dtype == "f64" else {p["work"]: p for p in r.peer("kernels.py", "--dtype", dtype)}
    rows = {}
    for row in own:
        work, peer = row["work"], theirs.get(row["work"], {})
        memory, product = row["unit"] == "GB/s" and work != "copy", work.startswith("linear")
        rows[work] = r.add(f"{work}, {dtype}", "s", row["seconds"], peer.get("seconds"), 1.0 if peer else None,
                           fraction=None if work == "copy" else row["fraction"],
                           fraction_target=0.85 if memory else 0.9 if product else None, rate=row["rate"],
                           rate_unit=row["unit"], peer_detail=peer)

    def compiled():
        for peer in r.peer("kernels.py", "--dtype", dtype, "--compile", limit=COMPILE_LIMIT):
            if peer["work"] in rows:
                r.improve(rows[peer["work"]], peer, peer["seconds"])
    if theirs:
        r.later.append((2, "compiled kernels", compiled))


def step(r, program, arguments, dtype, network, settings):
    """A training step, plain and recorded, PyTorch's in the fastest of the settings, and the memory of both. Settings:
    option -> its values, None without a peer."""
    steps = 2 if r.tiny else 6
    size, peer = arguments[0] if program == "pretrain_step" else arguments[1], {}
    if settings:
        if network not in r.networks:  # for all types at once: imports and weights take PyTorch longer than steps
            weights = f"{r.folder}/{network}.safetensors"
            r.ours(program, *arguments, "--steps", 1, "--export", weights)
            options = ("networks.py", network, size, weights, "--steps", steps)
            choices = [word for option, values in settings.items() for word in (option, ",".join(values))]
            r.networks[network] = options, r.peer(*options, *choices, "--dtype", ",".join(DTYPES), limit=2 * LIMIT)
        options, found = r.networks[network]
        found = [p for p in found if p["dtype"] == dtype]
        peer = min(found, key=lambda p: p["step_s"], default={})
    rows, memory = [], None
    for graph in ((), ("--graph",)):
        def measured():
            nonlocal memory
            ours = r.ours(program, *arguments, "--dtype", dtype, "--steps", steps, *graph)
            memory = memory or ours
            same = r.same_work(ours, peer, dtype)
            rows.append(r.add(ours["work"], "s", ours["step_s"], same.get("step_s"), round(1 / 1.3, 2),
                              gflops=ours["gflop"] / ours["step_s"], peak=dtype, detail=ours, peer_detail=same))
        r.attempt(f"{network} {dtype}{' recorded' * bool(graph)}", measured)
    if memory:
        memory = r.add(memory["work"] + ", peak memory of tensors", "MiB", memory["peak_tensors_mib"],
                       peer.get("peak_tensors_mib"), 0.6, peer_detail=peer)

    def compiled():
        setting = [word for option in ("--dtype", *settings) for word in (option, peer[option.removeprefix("--")])]
        for faster in r.peer(*options, *setting, "--compile", limit=COMPILE_LIMIT):
            if memory and faster["step_s"] < peer["step_s"] and faster["peak_tensors_mib"]:
                memory["peer_detail"] = faster
                r.table.set_peer(memory, faster["peak_tensors_mib"])
            for row in rows:
                if r.same_work(row["detail"], faster, dtype):
                    r.improve(row, faster, faster["step_s"])
    if peer:
        r.later.append((0 if network == "pretrain" else 1, f"compiled {network} {dtype}", compiled))


def pretraining(r, dtype):
    size, batch = (32, 2) if r.tiny else (64 if r.quick else 128, 4)
    settings = {"--attention": ("sdpa", "plain"), "--ot": ("cpu", "cuda") if r.cuda else ("cpu",)}
    step(r, "pretrain_step", (size, "--batch", batch, *(("--embedding", 32) if r.tiny else ())), dtype, "pretrain",
         settings if r.peer_has("ot") else None)


def nnformer(r, dtype):
    """The network of pretraining alone: PyTorch's step without POT's sweeps."""
    size, batch = (32, 1) if r.tiny else (64 if r.quick else 128, 4)
    step(r, "network_step", ("nnformer", size, "--batch", batch, *(("--embedding", 32) if r.tiny else ())), dtype,
         "nnformer", {"--attention": ("sdpa", "plain")} if r.torch else None)


def unetr(r, dtype):
    size = 32 if r.tiny else 48 if r.quick else 96
    step(r, "network_step", ("unetr", size, "--batch", 1), dtype, "unetr",
         {"--layout": ("contiguous_format", "channels_last_3d")} if r.peer_has("monai") else None)


# Size, channels in and out, stride: the two of nnFormer's embedding that cost most and two of its down-sampling, and
# UNETR's of each resolution.
CONVOLUTIONS = ((128, 1, 48, 2), (64, 48, 48, 1), (32, 96, 96, 1), (32, 96, 192, 2), (96, 16, 16, 1), (48, 32, 32, 1),
                (24, 64, 64, 1))


def convolutions(r, dtype):
    cases = [(size // 4, *rest) if r.tiny else (size, *rest) for size, *rest in CONVOLUTIONS]
    options = ("--batch", 1 if r.tiny else 4, "--dtype", dtype)
    more = [word for case in cases[1:] for word in ("--more", *case)]
    theirs = r.peer("conv3d.py", *cases[0], *more, *options)  # tries both layouts itself
    theirs += [{}] * (len(cases) - len(theirs))
    for case, peer in zip(cases, theirs):
        def measured():
            more = ("--implicit",) if r.device != "cpu" else ()  # a second line: without cuDNN, beside it
            found = r.lines(f"{r.bin}/conv_step", *case, *options, *more, "--device", r.device)
            ours = found[0]
            r.add(ours["work"], "s", ours["step_s"], peer.get("step_s"), 1.0, gflops=ours["gflops"], peak=dtype,
                  detail=ours, peer_detail=peer)
            for own in found[1:]:
                r.add(own["work"] + ", against cuDNN", "s", own["step_s"], ours["step_s"], gflops=own["gflops"],
                      peak=dtype, detail=own)
        r.attempt("conv3d", measured)


def transport(r, _):
    """The arithmetic is two products with the metric and one between the points, and twice that for the gradient."""
    sizes = (4, 16) if r.tiny else (4, 16, 64, 128, 256, 512, 1024)
    theirs = {}  # POT on the GPU or on the host, whichever is faster
    for where in (("cuda", "cpu") if r.cuda else ("cpu",)) if r.peer_has("ot") else ():
        for p in r.peer("mpot.py", *sizes, device=where):
            if p["step_s"] < theirs.get(p["b"], p | {"step_s": float("inf")})["step_s"]:
                theirs[p["b"]] = p
    for b in sizes:
        def measured():
            ours = r.ours("mpot_step", b)
            host = r.lines(r.bin + "/mpot_step", b, "--device", "cpu")[-1]
            if not abs(ours["loss"] - host["loss"]) <= 1e-6 * abs(host["loss"]):
                raise Failed(f"{ours['work']}: loss {ours['loss']}, on the host it is {host['loss']}")
            peer, d = r.same_work(ours, theirs.get(b, {}), "f32"), 512
            r.add(ours["work"], "s", ours["step_s"], peer.get("step_s"), 0.1,
                  gflops=3 * (4 * b * d * d + 2 * b * b * d) * 1e-9 / ours["step_s"], peak="f64", detail=ours,
                  peer_detail=peer)
            r.add(ours["work"] + ", against this machine's host", "s", ours["step_s"], host["step_s"], detail=host)
        r.attempt("mPOT", measured)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--minutes", type=float, default=10, help="since M3I_GPU_START, else since now")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu", "emulated"))
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(measure(a, folder))


def measure(a, folder):
    r = Run(a, folder)
    for dtype in ("f64", *DTYPES):
        r.attempt(f"rates, {dtype}", lambda: rates(r, dtype))
    for name, part, kinds in (("pretraining step", pretraining, DTYPES), ("conv3d", convolutions, DTYPES),
                              ("mPOT", transport, ("f64",)), ("unetr", unetr, DTYPES), ("nnformer", nnformer, DTYPES)):
        for dtype in kinds:
            if r.table.wanted(name):
                r.attempt(f"{name}, {dtype}", lambda: part(r, dtype))
    if r.cuda:
        for _, name, compiled in sorted(r.later, key=lambda part: part[0]):
            r.attempt(name, compiled)
    if name := r.write():
        print("wrote", name)
    for failure in r.failures:
        print("not measured:", failure, file=sys.stderr)
    return 1 if r.failures else 0


if __name__ == "__main__":
    main()
