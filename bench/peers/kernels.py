#!/usr/bin/env python3
"""The kernels of bench/macro/device_rates.cpp in PyTorch, as JSON lines of the same names: GELU, layer norm, linear
layers, window attention with its gradients, by the faster of the fused kernel and plain products. A kernel that fails
is left out.

    kernels.py [--device cpu|cuda] [--dtype f32|bf16|f16] [--compile]
"""
import argparse
import json
import sys

import torch
import torch.nn.functional as F

from conv3d import seconds
from networks import NnFormer


class Window(torch.nn.Module):
    """Windows of a volume of queries, keys and values [N, D, H, W, 3 C], shifted and masked as nnFormer's."""

    def __init__(self, grid, channels, heads, window, shift, fused):
        super().__init__()
        at = torch.stack(torch.meshgrid(*[torch.arange(window)] * 3, indexing="ij")).flatten(1)
        d, span = at[:, :, None] - at[:, None, :] + window - 1, 2 * window - 1
        self.index = ((d[0] * span + d[1]) * span + d[2]).flatten()
        self.heads, self.window, self.shift, self.fused, self.mask = heads, window, shift, fused, {}
        self.length = window ** 3
        if shift:
            self.shift_mask = NnFormer.shift_mask(self, grid, window, shift)

    windowed, unwindowed = staticmethod(NnFormer.windowed), staticmethod(NnFormer.unwindowed)

    def forward(self, qkv, table):
        if self.shift:
            qkv = qkv.roll((-self.shift,) * 3, (1, 2, 3))
        parts = self.windowed(qkv, self.window)
        b, _, c = parts.shape
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts.chunk(3, -1))
        bias = table[self.index].view(self.length, self.length, self.heads).permute(2, 0, 1)[None]
        if self.shift:
            bias = (bias + self.shift_mask.to(bias.dtype)).repeat(b // self.shift_mask.shape[0], 1, 1, 1)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(b, -1, -1, -1))
        else:
            y = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias).softmax(-1) @ v
        y = self.unwindowed(y.transpose(1, 2).flatten(2), self.window, (*qkv.shape[:4], c // 3))
        return y.roll((self.shift,) * 3, (1, 2, 3)) if self.shift else y


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--compile", action="store_true")
    a = parser.parse_args()
    cuda = a.device.startswith("cuda")
    torch.set_default_device(a.device)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[a.dtype]
    rand = lambda *shape: torch.randn(*shape, dtype=dtype)

    def report(work, variants):
        """variants: setting -> (function, run), where run(function) is what is timed."""
        best = {}
        for setting, (function, run) in variants.items():
            try:
                torch.compiler.reset()
                chosen = torch.compile(function, dynamic=False) if a.compile else function
                run(chosen)  # the compiler
                s = seconds(lambda: run(chosen))
            except Exception as error:  # whatever a compiler that does not work throws
                print(f"{work}, {setting}: {(str(error) or repr(error)).splitlines()[0]}", file=sys.stderr)
                continue
            if s < best.get("seconds", float("inf")):
                best = {"work": work, "seconds": s, "setting": setting, "compiled": a.compile, "torch": torch.__version__}
        if best:
            print(json.dumps(best), flush=True)

    batch, cols = (4, 192) if cuda else (1, 192)
    x, gain, bias = rand(1 << (19 if cuda else 16), cols), rand(cols), rand(cols)
    with torch.no_grad():
        report("gelu", {"": (F.gelu, lambda f: f(x))})
        report("layer norm of 192", {"": (lambda t: F.layer_norm(t, (cols,), gain, bias), lambda f: f(x))})
        large = 8192 if cuda else 1024
        for m, n, k in ((batch * 32768, 384, 96), (batch * 32768, 96, 384), (batch * 4096, 768, 192), (large,) * 3):
            p, w, b = rand(m, k), rand(n, k), rand(n)
            report(f"linear {m} x {n} x {k} with bias", {"": (F.linear, lambda f: f(p, w, b))})
    for grid, channels, heads, window, shift in ((32, 96, 3, 4, 0), (32, 96, 3, 4, 2), (16, 192, 6, 4, 2)):
        qkv = rand(batch, grid, grid, grid, 3 * channels).requires_grad_()
        table, dy = rand((2 * window - 1) ** 3, heads).requires_grad_(), rand(batch, grid, grid, grid, channels)

        def step(f):
            qkv.grad = table.grad = None
            f(qkv, table).backward(dy)

        report(f"window attention and gradients, {batch} of {grid}^3 x {channels}, windows {window}^3"
               + " shifted" * bool(shift),
               {name: (Window(grid, channels, heads, window, shift, name == "sdpa"), step) for name in ("sdpa", "plain")})


if __name__ == "__main__":
    main()
