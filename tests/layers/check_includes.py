#!/usr/bin/env python3
"""Checks the include rule: a folder of include/m3i includes only folders that it stands on, third-party headers only
where they are allowed, and no two headers include each other. Prints each breach as file:line; exit code 1 if any.

Usage: check_includes.py PROJECT_ROOT
"""
import pathlib
import re
import sys

OPS = {"core", "kernels", "autodiff", "ops"}
MODELS = OPS | {"nn", "models"}
IMAGES = {"core", "imaging", "text", "io"}
ALL = MODELS | IMAGES | {"ot", "optim", "data", "metrics", "train", "dist"}
STANDS_ON = {
    "core": {"core"},
    "kernels": {"core", "kernels"},
    "autodiff": {"core", "kernels", "autodiff"},
    "ops": OPS,
    "nn": OPS | {"nn"},
    "models": MODELS,
    "ot": OPS | {"ot"},
    "optim": OPS | {"optim"},
    "imaging": {"core", "imaging"},
    "text": {"core", "text"},
    "metrics": {"core", "metrics"},
    "io": {"core", "io"},
    "data": IMAGES | {"data"},
    "dist": {"core", "kernels", "autodiff", "dist"},
    "train": ALL,
}

# Third-party header (as a pattern) -> where it may be included, as a pattern of paths below include/m3i.
ALLOWED = [
    (r"cub/|thrust/", r"kernels/sort_scan\.hpp"),
    (r"cublas|cudnn", r"kernels/\w+_(cublas|cudnn)\.hpp|core/cuda\.hpp"),
    (r"mpi\.h", r"dist/mpi\.hpp"),
    (r"nccl", r"dist/nccl\.hpp"),
    (r"cuda_?\w*\.h|nv", r"core/\w+\.hpp|kernels/\w+\.hpp"),
    (r"nlohmann/", r"(io|data|train)/\w+\.hpp"),
    (r"stb", r"imaging/\w+\.hpp"),
    (r"curl/", r"data/http_curl\.hpp"),
    (r"zlib\.h|zconf\.h", r"(core|imaging|text|io)/\w+\.hpp"),
    (r"filesystem$", r"(imaging|io|data|train)/\w+\.hpp"),
    (r"iostream$|ostream$|istream$", r"core/print\.hpp"),
    (r"Eigen/|unsupported/|regex$|CLI/|catch2/|benchmark/|nifti", r"nowhere"),
]

# A part (gemm_host.hpp, nifti_write.hpp) names its head (gemm.hpp, nifti.hpp), which may include it in turn at its
# end: the one loop that is meant.
PART = re.compile(r"(m3i/\w+/[a-z0-9_]+)_[a-z0-9]+\.hpp")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def includes_of(path):
    """(line number, quote, target) of each include line."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match.group(1), match.group(2)


def breaches(root):
    base = pathlib.Path(root) / "include"
    headers = sorted((base / "m3i").rglob("*.hpp"))
    graph = {}
    for path in headers:
        name = path.relative_to(base).as_posix()
        local = path.relative_to(base / "m3i")
        folder = local.parts[0] if len(local.parts) > 1 else None
        if folder and folder not in STANDS_ON:
            yield f"{name}:1: folder {folder} is not in the include rule (tests/layers/check_includes.py)"
            continue
        graph[name] = []
        for number, quote, target in includes_of(path):
            where = f"{name}:{number}: includes {target}"
            if target.startswith("m3i/"):
                if not ((part := PART.fullmatch(name)) and target == f"{part.group(1)}.hpp"):
                    graph[name].append(target)
                if quote != '"':
                    yield f'{where}; own headers are written "m3i/..."'
                if not (base / target).is_file():
                    yield f"{where}, which does not exist"
                parts = target.split("/")
                other = parts[1] if len(parts) > 2 else parts[1].removesuffix(".hpp")
                if folder and other != "version" and other not in STANDS_ON[folder]:
                    yield f"{where}; {folder} stands on {', '.join(sorted(STANDS_ON[folder]))} only"
            elif quote == '"':
                yield f'{where}; third-party headers are written <...>, own ones "m3i/..."'
            else:
                for pattern, place in ALLOWED:
                    if re.match(pattern, target) and not re.fullmatch(place, local.as_posix()):
                        yield f"{where}; allowed only in {place}"
        text = path.read_text(encoding="utf-8")
        if re.search(r"\b__global__\b", text) and folder != "kernels":
            yield f"{name}:1: __global__ belongs to kernels/"
        if "#pragma once" not in text:
            yield f"{name}:1: lacks #pragma once"
    yield from cycles(graph)


def cycles(graph):
    """One line for each chain of includes that comes back to its start."""
    state = {}

    def visit(name, trail):
        if state.get(name) == "open":
            yield "cycle: " + " -> ".join(trail[trail.index(name):] + [name])
        if name in state:
            return
        state[name] = "open"
        for target in graph.get(name, []):
            yield from visit(target, trail + [name])
        state[name] = "done"

    for name in graph:
        yield from visit(name, [])


def main():
    found = list(breaches(sys.argv[1]))
    print("\n".join(found) if found else "include rule: kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
