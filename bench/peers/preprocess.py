#!/usr/bin/env python3
"""The work of bench/macro/preprocess.cpp with nibabel and SciPy, as one JSON line, best of 5: load, RAS, 1 mm, to [0, 1],
padded to a cube, scaled to 128^3, both times linear and at the same positions.

Usage: preprocess.py FILE.nii.gz     needs numpy, scipy and nibabel
"""
import json
import sys
import time

import nibabel
import numpy as np
from scipy import ndimage


def resample(voxels, step, size):
    step = np.asarray(step, float)
    return ndimage.affine_transform(voxels, step, 0.5 * step - 0.5, output_shape=tuple(size), order=1, mode="nearest")


def preprocess(path, size=128):
    image = nibabel.as_closest_canonical(nibabel.load(path))
    voxels, spacing = image.get_fdata(dtype=np.float32), np.array(image.header.get_zooms()[:3], float)
    voxels = resample(voxels, 1 / spacing, np.floor(np.array(voxels.shape) * spacing + 0.5 + 1e-6).astype(int))
    low, high = voxels.min(), voxels.max()
    voxels = (voxels - low) / (high - low)
    side = max(voxels.shape)
    before = [(side - n) // 2 for n in voxels.shape]
    voxels = np.pad(voxels, [(b, side - n - b) for b, n in zip(before, voxels.shape)])
    return resample(voxels, [side / size] * 3, [size] * 3)


def main():
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        out = preprocess(sys.argv[1])
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"step_s": round(best, 4), "mean": round(float(out.mean(dtype=float)), 6)}))


main()
