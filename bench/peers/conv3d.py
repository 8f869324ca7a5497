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
    """Of the best of some runs, as fastest() of bench/macro/timing.hpp."""
    def once(times):
        wait()
        start = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        return (time.perf_counter() - start) / times
    work()  # memory, algorithms
    times = max(1, min(200, int(2e-3 / once(1)))) if torch.cuda.is_available() else 1
    return min(once(times) for _ in range(7))


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
    torch.backends.cudnn.allow_tf32 = False  # f32 is float on both sides
    for case in [[a.size, a.channels, a.out or a.channels, a.stride], *a.more]:
        print(json.dumps(measure(*case, a)), flush=True)


def measure(size, channels, out, stride, a):
    best = None
    m = (size - 1) // stride + 1
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[a.dtype]
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        noise = lambda *shape: torch.randn(*shape, device=a.device, dtype=dtype).to(memory_format=layout)
        x, w = noise(a.batch, channels, size, size, size), noise(out, channels, 3, 3, 3)
        dy = noise(a.batch, out, m, m, m)

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
