#!/usr/bin/env python3
"""Writes the umbrella headers: include/m3i/<folder>.hpp lists its folder, include/m3i/m3i.hpp lists the umbrellas.

Usage: umbrella.py [--check]     --check changes nothing and exits with 1 if an umbrella is out of date.
"""
import pathlib
import re
import sys

BASE = pathlib.Path(__file__).resolve().parent.parent / "include"

# Folder -> the first line of its umbrella, in the order in which m3i.hpp lists them.
FOLDERS = {
    "core": "Errors, shapes, element types, devices, memory, tensors, random numbers, threads.",
    "kernels": "What runs on a device: skeletons, scalar math, matrix products and convolutions.",
    "autodiff": "Reverse-mode differentiation: variables, the tape, checkpoints, gradient checks.",
    "ops": "Differentiable operations, forward and gradient side by side.",
    "nn": "Layers as plain structs.",
    "models": "Networks, one published figure a file.",
    "ot": "Differentiable partial optimal transport.",
    "optim": "Optimisers and schedules.",
    "imaging": "Medical volumes: files, geometry, resampling, slices, phantoms.",
    "text": "Tokenizers and slice descriptions.",
    "metrics": "Measures of segmentation, classification and embeddings.",
    "io": "Tensor files and checkpoints. Needs nlohmann/json.",
    "data": "Triplets, splits, transforms and the loader. Needs nlohmann/json.",
    "dist": "Several processes.",
    "train": "Training loop, logs, progress and reports. Needs nlohmann/json.",
}

# Not in m3i.hpp, which is what a network is made of and trained with: what surrounds it is included by name, and costs
# compile time only where it is used.
BY_NAME = ["imaging", "text", "metrics", "io", "data", "dist", "train"]

# Bodies that a declaring header includes when it needs them: gemm.hpp includes gemm_host.hpp unless it is precompiled.
BODY = re.compile(r"_(host|cublas|cudnn|curl)\.hpp$")


def umbrella(folder):
    """The text of a folder's umbrella header, or None for a folder without headers."""
    present = sorted(p.relative_to(BASE).as_posix() for p in (BASE / "m3i" / folder).glob("*.hpp") if not BODY.search(p.name))
    if not present:
        return None
    return f"#pragma once\n/// {FOLDERS[folder]}\n\n" + "".join(f'#include "{h}"\n' for h in present)


def everything(folders):
    """The text of m3i.hpp."""
    listed = "".join(f'#include "m3i/{f}.hpp"\n' for f in folders if f not in BY_NAME)
    named = [f for f in folders if f in BY_NAME]
    return ("#pragma once\n/// What a network is made of and trained with, in reading order. What surrounds it is included by name:\n"
            f"/// m3i/<folder>.hpp for {', '.join(named)}.\n\n// clang-format off\n{listed}#include \"m3i/version.hpp\"\n")


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    wanted = {folder: umbrella(folder) for folder in FOLDERS}
    wanted["m3i"] = everything([folder for folder, text in wanted.items() if text])
    stale = []
    for name, text in wanted.items():
        path = BASE / "m3i" / f"{name}.hpp"
        if (path.read_text(encoding="utf-8") if path.exists() else None) == text:
            continue
        stale.append(path.relative_to(BASE).as_posix())
        if check:
            continue
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
    verb = "out of date, run scripts/umbrella.py" if check else "written"
    print("\n".join(f"{name}: {verb}" for name in stale) or "umbrellas: up to date")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
