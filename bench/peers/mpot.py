#!/usr/bin/env python3
"""The mPOT loss of one pair and its gradients with POT and PyTorch's autograd, as one JSON line: the peer of
bench/macro/mpot_step.cpp.

    mpot.py [b = 256] [d = 512] [--threads N]

The plan comes from POT's entropic_partial_wasserstein, run until its error is below the tolerance below or for 1000
sweeps, its default; autograd goes back through the sweeps. Cost, loss and inputs are those of m3i's program.
"""
import argparse
import json
import math
import time

import ot
import torch


def wave(shape, phase):
    n = math.prod(shape)
    return torch.sin(0.7 * torch.arange(n, dtype=torch.float64) * 1.618 + phase).reshape(shape)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("b", type=int, nargs="?", default=256)
    parser.add_argument("d", type=int, nargs="?", default=512)
    parser.add_argument("--threads", type=int, default=0)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    mass, epsilon = 0.95, 0.05
    x, noise = wave((a.b, a.d), 0.1), wave((a.b, a.d), 2.3)
    y = x + 0.8 * noise
    metric = torch.eye(a.d, dtype=torch.float64)
    weights = torch.full((a.b,), 1 / a.b, dtype=torch.float64)
    best = float("inf")
    for _ in range(3):
        x.grad = metric.grad = None
        x.requires_grad_(), metric.requires_grad_()
        start = time.perf_counter()
        u, v = (torch.nn.functional.normalize(t) for t in (x, y))
        um, vm = u @ metric, v @ metric
        squared = (um * u).sum(1)[:, None] + (vm * v).sum(1)[None] - 2 * um @ v.T
        cost = squared.clamp_min(1e-12).sqrt()
        cost = cost / cost.max()
        plan = ot.partial.entropic_partial_wasserstein(weights, weights, cost, epsilon, mass, numItermax=1000,
                                                       stopThr=1e-9)
        loss = -(torch.log(torch.diagonal(plan) * a.b)).mean()
        loss.backward()
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"step_s": round(best, 4), "loss": loss.item(), "threads": torch.get_num_threads(),
                      "pot": ot.__version__, "torch": torch.__version__}))


main()
