#!/usr/bin/env python3
"""The work of bench/macro/conv_step.cpp in PyTorch, whose CPU convolutions are oneDNN's, as one JSON line for each
case: the best of both memory layouts.

    conv3d.py [SIZE = 64] [CHANNELS = 32] [OUT = CHANNELS] [STRIDE = 1] [--more SIZE CHANNELS OUT STRIDE]...
              [--threads N] [--device cpu|cuda] [--dtype f32|bf16|f16] [--batch 1]
"""
import argparse
import json
import time

import torch


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work):
    best = float("inf")
    for _ in range(7):
        wait()
        start = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("size", type=int, nargs="?", default=64)
    parser.add_argument("channels", type=int, nargs="?", default=32)
    parser.add_argument("out", type=int, nargs="?", default=0)
    parser.add_argument("stride", type=int, nargs="?", default=1)
    parser.add_argument("--more", type=int, nargs=4, action="append", default=[])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--batch", type=int, default=1)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    for case in [[a.size, a.channels, a.out or a.channels, a.stride], *a.more]:
        print(json.dumps(measure(*case, a)), flush=True)


def measure(size, channels, out, stride, a):
    best = None
    m = (size - 1) // stride + 1
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[a.dtype]
        x = torch.randn(a.batch, channels, size, size, size).to(a.device, dtype, memory_format=layout)
        w = torch.randn(out, channels, 3, 3, 3).to(a.device, dtype, memory_format=layout)
        dy = torch.randn(a.batch, out, m, m, m).to(a.device, dtype, memory_format=layout)

        def back(mask):
            return torch.ops.aten.convolution_backward(dy, x, w, None, [stride] * 3, [1] * 3, [1] * 3, False, [0] * 3,
                                                       1, mask)

        times = [seconds(lambda: torch.nn.functional.conv3d(x, w, stride=stride, padding=1)),
                 seconds(lambda: back([True, False, False])), seconds(lambda: back([False, True, False]))]
        if best is None or sum(times) < best["step_s"]:
            best = {"forward_s": round(times[0], 7), "input_gradient_s": round(times[1], 7),
                    "weight_gradient_s": round(times[2], 7), "step_s": round(sum(times), 7), "layout": str(layout),
                    "threads": torch.get_num_threads(), "torch": torch.__version__}
    return best


if __name__ == "__main__":
    main()
