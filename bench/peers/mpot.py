#!/usr/bin/env python3
"""The mPOT loss of one pair and its gradients with POT and PyTorch's autograd, as one JSON line for each b: the peer of
bench/macro/mpot_step.cpp.

    mpot.py [b = 256]... [--width 512] [--threads N] [--device cpu|cuda]

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


def mpot_loss(x, y, metric, mass=0.95, epsilon=0.05):
    """In double, as m3i computes it: rows of x and y [b, d], metric [d, d] -> scalar."""
    x, y, metric = x.double(), y.double(), metric.double()
    b = x.shape[0]
    weights = torch.full((b,), 1 / b, dtype=torch.float64, device=x.device)
    u, v = (torch.nn.functional.normalize(t) for t in (x, y))
    um, vm = u @ metric, v @ metric
    squared = (um * u).sum(1)[:, None] + (vm * v).sum(1)[None] - 2 * um @ v.T
    cost = squared.clamp_min(1e-12).sqrt()
    cost = cost / cost.max()
    plan = ot.partial.entropic_partial_wasserstein(weights, weights, cost, epsilon, mass, numItermax=1000, stopThr=1e-9)
    return -(torch.log(torch.diagonal(plan) * b)).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("b", type=int, nargs="*", default=[256])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    cuda = a.device.startswith("cuda")
    wait = torch.cuda.synchronize if cuda else lambda: None
    for b in a.b:
        x, noise = wave((b, a.width), 0.1), wave((b, a.width), 2.3)
        x, y = x.to(a.device), (x + 0.8 * noise).to(a.device)
        metric = torch.eye(a.width, dtype=torch.float64, device=a.device)
        x.requires_grad_(), metric.requires_grad_()
        best = float("inf")
        for _ in range(3):
            x.grad = metric.grad = None
            wait()
            start = time.perf_counter()
            loss = mpot_loss(x, y, metric)
            loss.backward()
            wait()
            best = min(best, time.perf_counter() - start)
        print(json.dumps({"b": b, "step_s": round(best, 6 if cuda else 4), "loss": loss.item(), "device": a.device,
                          "threads": torch.get_num_threads(), "pot": ot.__version__, "torch": torch.__version__}),
              flush=True)


if __name__ == "__main__":
    main()
