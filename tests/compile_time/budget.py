#!/usr/bin/env python3
"""Compile times against that of a file with Eigen/Dense: ratios of one run, by one compiler, which hold on any machine.

Usage: budget.py COMPILER SOURCE_FOLDER EIGEN_FOLDER
"""
import pathlib
import resource
import subprocess
import sys
import tempfile

# What is compiled, with which flags, and its budget in compile times of eigen.cpp: a third more than it takes.
ROWS = [
    ("hello program", '#include "bench/compile/hello.cpp"', [], 0.9),
    ("hello program with m3i::compiled", '#include "bench/compile/hello.cpp"', ["-DM3I_COMPILED=1"], 0.65),
    ("m3i/m3i.hpp alone", '#include "m3i/m3i.hpp"', [], 0.3),
    ("m3i/train.hpp alone", '#include "m3i/train.hpp"', ["-DM3I_COMPILED=1"], 1.7),
]


def seconds(compiler, flags, source):
    """Processor time of a compilation, the better of two."""
    best = float("inf")
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([compiler, "-std=c++20", "-O2", *flags, "-c", source, "-o", "/dev/null"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def main():
    compiler, root, eigen = sys.argv[1:]
    yardstick = seconds(compiler, ["-isystem", eigen], pathlib.Path(__file__).parent / "eigen.cpp")
    print(f"{'eigen.cpp':<36} {yardstick:6.2f} s")
    over = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, text, flags, budget in ROWS:
            source = pathlib.Path(folder) / "row.cpp"
            source.write_text(text + "\n")
            time = seconds(compiler, ["-fopenmp-simd", "-DM3I_OPENMP_SIMD=1", "-I" + root, "-I" + root + "/include", *flags], source)
            print(f"{name:<36} {time:6.2f} s   ratio {time / yardstick:5.2f}, budget {budget:.2f}")
            over += time / yardstick > budget
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
