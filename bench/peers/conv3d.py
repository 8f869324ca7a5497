#!/usr/bin/env python3
"""The work of bench/macro/conv_step.cpp in PyTorch, whose CPU convolutions are oneDNN's, as one JSON line: the best of
both memory layouts.

    conv3d.py [SIZE = 64] [CHANNELS = 32] [--threads N]
"""
import argparse
import json
import time

import torch


def seconds(work):
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("size", type=int, nargs="?", default=64)
    parser.add_argument("channels", type=int, nargs="?", default=32)
    parser.add_argument("--threads", type=int, default=0)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    best = None
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.randn(1, a.channels, a.size, a.size, a.size).to(memory_format=layout)
        w = torch.randn(a.channels, a.channels, 3, 3, 3).to(memory_format=layout)
        dy = torch.randn_like(x)

        def back(mask):
            return torch.ops.aten.convolution_backward(dy, x, w, None, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, mask)

        times = [seconds(lambda: torch.nn.functional.conv3d(x, w, padding=1)),
                 seconds(lambda: back([True, False, False])), seconds(lambda: back([False, True, False]))]
        if best is None or sum(times) < best["step_s"]:
            best = {"forward_s": round(times[0], 5), "input_gradient_s": round(times[1], 5),
                    "weight_gradient_s": round(times[2], 5), "step_s": round(sum(times), 5), "layout": str(layout),
                    "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps(best))


main()
