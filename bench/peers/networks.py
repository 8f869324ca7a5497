#!/usr/bin/env python3
"""The work of bench/macro/network_step.cpp and pretrain_step.cpp in PyTorch, as a JSON line for each setting: the peer
of the table.

    networks.py nnformer|unetr|pretrain SIZE WEIGHTS [--infer] [--threads N] [--attention sdpa,plain] [--steps 3]
                [--device cpu|cuda] [--dtype f32,bf16,f16] [--compile] [--layout contiguous_format,channels_last_3d]
                [--ot cpu,cuda]

Several types, attentions, layouts and places of the transport are tried one after the other. WEIGHTS is what `network_step
--export` or `pretrain_step --export` wrote, so that both sides start from the same numbers and must print the same loss.
Convolutions get channels-first volumes as in the published networks; attention is PyTorch's fused one or plain
products. UNETR is MONAI's. --dtype is torch.autocast's; f32 is float everywhere, TF32 is off as in m3i. --compile is
torch.compile's default mode, of the network.
Pretraining is nnFormer with PSAT and the mPOT loss of mpot.py, which works where --ot says.
"""
import argparse
import gc
import itertools
import json
import resource
import struct
import sys
import time

import torch
import torch.nn.functional as F

TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}


def load(path):
    """Tensors of a safetensors file."""
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(bytearray(data[8 + length + begin:8 + length + end]), dtype=TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


class NnFormer(torch.nn.Module):
    """nnFormer, one output, no stochastic depth; tokens are [N, D, H, W, C]. Parameters by their published names."""

    depths, windows = (2, 2, 2, 2), (4, 4, 8, 4)

    def __init__(self, weights, embedding, image, fused):
        super().__init__()
        self.p = torch.nn.ParameterDict({name.replace(".", "/"): torch.nn.Parameter(w) for name, w in weights.items()})
        self.heads = [embedding // 32 << s for s in range(4)]
        self.grid = [image // 4 >> s for s in range(4)]
        self.fused = fused
        self.index, self.mask = {}, {}
        for window in {min(w, g) for w, g in zip(self.windows, self.grid)}:
            self.index[window] = self.relative_index(window)

    def __getitem__(self, name):
        return self.p[name.replace(".", "/")]

    @staticmethod
    def relative_index(w):
        at = torch.stack(torch.meshgrid(*[torch.arange(w)] * 3, indexing="ij")).flatten(1)
        d = at[:, :, None] - at[:, None, :] + w - 1
        return d[0] * (3 * w - 1) + d[1] * (2 * w - 1) + d[2]  # the published index of the bias table

    def shift_mask(self, grid, w, shift):
        """0 between voxels that were neighbours before the roll, else -100; [windows, 1, w^3, w^3]."""
        if (grid, w, shift) not in self.mask:
            region = torch.zeros(1, grid, grid, grid, 1)
            parts = (slice(0, -w), slice(-w, -shift), slice(-shift, None))
            for number, (a, b, c) in enumerate((a, b, c) for a in parts for b in parts for c in parts):
                region[:, a, b, c] = number
            r = self.windowed(region, w).squeeze(-1)
            self.mask[grid, w, shift] = torch.where(r[:, None, :, None] == r[:, None, None, :], 0.0, -100.0)
        return self.mask[grid, w, shift]

    @staticmethod
    def windowed(x, w):
        n, d, h, u, c = x.shape
        x = x.view(n, d // w, w, h // w, w, u // w, w, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
        return x.reshape(-1, w ** 3, c)

    @staticmethod
    def unwindowed(x, w, shape):
        n, d, h, u, c = shape
        x = x.view(n, d // w, h // w, u // w, w, w, w, c).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return x.reshape(shape)

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self[name + ".weight"], self[name + ".bias"])

    def linear(self, x, name):
        return F.linear(x, self[name + ".weight"], self[name + ".bias"])

    def attend(self, q, k, v, heads, w, name, mask):
        """q, k, v [windows, w^3, C]."""
        b, length, c = q.shape
        q, k, v = (t.view(b, length, heads, c // heads).transpose(1, 2) for t in (q, k, v))
        table = self[name + ".relative_position_bias_table"]
        bias = table[self.index[w].flatten()].view(length, length, heads).permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask).repeat(b // mask.shape[0], 1, 1, 1)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(b, -1, -1, -1))
        else:
            y = ((q * (c // heads) ** -0.5) @ k.transpose(-2, -1) + bias).softmax(-1) @ v
        return self.linear(y.transpose(1, 2).reshape(b, length, c), name + ".proj")

    def block(self, x, name, heads, window, shifted):
        grid, w = x.shape[1], min(window, x.shape[1])
        shift = window // 2 if shifted and grid > window else 0
        y = self.norm(x, name + ".norm1")
        if shift:
            y = y.roll((-shift,) * 3, (1, 2, 3))
        qkv = self.linear(self.windowed(y, w), name + ".attn.qkv").chunk(3, -1)
        y = self.attend(*qkv, heads, w, name + ".attn", self.shift_mask(grid, w, shift) if shift else None)
        y = self.unwindowed(y, w, x.shape)
        if shift:
            y = y.roll((shift,) * 3, (1, 2, 3))
        return self.mlp(x + y, name)

    def skip_block(self, up, skip, name, heads, window):
        w = min(window, up.shape[1])
        q = self.windowed(self.norm(up, name + ".norm1"), w)
        k, v = self.linear(self.windowed(self.norm(skip, name + ".norm1"), w), name + ".attn.kv").chunk(2, -1)
        return self.mlp(up + skip + self.unwindowed(self.attend(q, k, v, heads, w, name + ".attn", None), w, up.shape),
                        name)

    def mlp(self, x, name):
        return x + self.linear(F.gelu(self.linear(self.norm(x, name + ".norm2"), name + ".mlp.fc1")), name + ".mlp.fc2")

    def conv(self, x, name, stride=1):
        y = F.conv3d(x.permute(0, 4, 1, 2, 3), self[name + ".weight"], self[name + ".bias"], stride, 1)
        return y.permute(0, 2, 3, 4, 1)

    def transposed(self, x, name, stride):
        y = F.conv_transpose3d(x.permute(0, 4, 1, 2, 3), self[name + ".weight"], self[name + ".bias"], stride)
        return y.permute(0, 2, 3, 4, 1)

    def project(self, x, name, last):
        x = self.conv(self.norm(F.gelu(self.conv(x, name + ".conv1", 2)), name + ".norm1"), name + ".conv2")
        return x if last else self.norm(F.gelu(x), name + ".norm2")

    def forward(self, x):
        return self.decode(self.encode(x))

    def encode(self, x):
        e = "model_down."
        y = self.norm(self.project(self.project(x, e + "patch_embed.proj1", False), e + "patch_embed.proj2", True),
                      e + "patch_embed.norm")
        skips = []
        for s in range(4):
            for i in range(self.depths[s]):
                y = self.block(y, f"{e}layers.{s}.blocks.{i}", self.heads[s], self.windows[s], i % 2 == 1)
            skips.append(self.norm(y, f"{e}norm{s}"))
            if s < 3:
                down = f"{e}layers.{s}.downsample"
                y = self.conv(self.norm(F.gelu(y), down + ".norm"), down + ".reduction", 2)
        return skips

    def decode(self, skips):
        y = skips[3]
        for s in (2, 1, 0):
            name, heads = f"decoder.layers.{s}", self.heads[s + 1]
            up = self.transposed(self.norm(y, name + ".Upsample.norm"), name + ".Upsample.up", 2)
            y = self.skip_block(up, skips[s], name + ".blocks.0", heads, self.windows[s])
            for i in range(1, self.depths[s]):
                y = self.block(y, f"{name}.blocks.{i}", heads, self.windows[s], True)
        return self.transposed(y, "final.0.up", 4)


class Psat(torch.nn.Module):
    """Queries that know plane and slice look at each other, then at the volume, then go through an MLP."""

    heads = 8

    def __init__(self, weights, batch):
        super().__init__()
        self.p = torch.nn.ParameterDict({name.replace(".", "/"): torch.nn.Parameter(w) for name, w in weights.items()})
        planes, slices, _ = weights["plane_slice"].shape
        self.at = [i % planes * slices + i * 37 % slices for i in range(batch)]

    def __getitem__(self, name):
        return self.p[name.replace(".", "/")]

    def linear(self, x, name):
        return F.linear(x, self[name + ".weight"], self[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self[name + ".weight"], self[name + ".bias"])

    def mlp(self, x, name):
        return self.linear(F.gelu(self.linear(x, name + ".fc1")), name + ".fc2")

    def attend(self, queries, tokens, name):
        split = lambda t, part: self.linear(t, f"{name}.{part}").unflatten(-1, (self.heads, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(split(queries, "q_proj"), split(tokens, "k_proj"), split(tokens, "v_proj"))
        return self.linear(y.transpose(1, 2).flatten(2), name + ".out_proj")

    def forward(self, volume):
        where = self["plane_slice"].flatten(0, 1)[self.at][:, None]
        tokens = self.linear(volume.flatten(1, 3), "volume_proj") + where
        q = self["query"][None] + where
        normed = self.norm(q, "blocks.0.norm1")
        q = q + self.attend(normed, normed, "blocks.0.self_attn")
        q = q + self.attend(self.norm(q, "blocks.0.norm2"), tokens, "blocks.0.cross_attn")
        q = q + self.mlp(self.norm(q, "blocks.0.norm3"), "blocks.0.mlp")
        return F.normalize(self.mlp(q, "head").mean(1), dim=-1)


class Pretraining(torch.nn.Module):
    def __init__(self, weights, image, fused, batch):
        super().__init__()
        part = lambda name: {k[len(name) + 1:]: w for k, w in weights.items() if k.startswith(name + ".")}
        network = part("network")
        self.network = NnFormer(network, network["model_down.norm0.weight"].numel(), image, fused)
        self.psat = Psat(part("psat"), batch)

    def forward(self, x):
        maps = self.network.encode(x)
        return self.psat(maps[3]), self.network.decode(maps)


def pretraining_loss(net, x, weights, where):
    """The loss as a function, and the metric that it learns."""
    from mpot import mpot_loss
    slices, texts = weights["bench.slices"].to(where), weights["bench.texts"].to(where)
    metric = torch.eye(slices.shape[1], device=x.device).requires_grad_()

    def loss():
        h, restored = net(x)
        h, m = h.float().to(where), ((metric + metric.T) / 2).to(where)  # Adam sees a symmetric gradient, as m3i's does
        align = mpot_loss(h, slices, m) + mpot_loss(h, texts, m)
        return align.to(x.device) + F.mse_loss(restored.float(), x)
    return loss, metric


@torch.no_grad()
def project(metric):
    """To the nearest symmetric matrix without negative eigenvalues; a Cholesky factor says that there are none."""
    metric.copy_((metric + metric.T) / 2)
    if torch.linalg.cholesky_ex(metric).info.item() != 0:
        values, vectors = torch.linalg.eigh(metric)
        metric.copy_(vectors * values.clamp_min(0) @ vectors.T)


def unetr(weights, image, layout):
    from monai.networks.nets import UNETR
    net = UNETR(in_channels=1, out_channels=1, img_size=(image,) * 3, proj_type="conv", norm_name="instance")
    report = net.load_state_dict(weights, strict=False)
    unknown = [k for k in report.missing_keys if "cross_attn" not in k]  # parts that newer versions add and do not use
    assert not unknown and not report.unexpected_keys, (unknown, report.unexpected_keys)
    net = net.to(memory_format=layout)
    return lambda x: net(x.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout)).permute(0, 2, 3, 4, 1), \
        list(net.parameters())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("size", type=int)
    parser.add_argument("weights")
    parser.add_argument("--infer", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--layout", default="contiguous_format")
    parser.add_argument("--ot", default="cpu")
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.backends.cudnn.allow_tf32 = False
    weights = load(a.weights)
    torch.set_default_device(a.device)
    settings = list(itertools.product(*(words.split(",") for words in (a.dtype, a.attention, a.layout, a.ot))))
    several, failures = len(settings) > 1, []
    for setting in settings:
        own = {name: (weights[name] if several else weights.pop(name)).to(a.device, copy=several)
               for name in list(weights)}
        try:
            print(json.dumps(measure(a, own, *setting)), flush=True)
        except RuntimeError as error:  # out of memory too: the next setting may need less
            failures.append(f"{', '.join(setting)}: {(str(error) or repr(error)).splitlines()[0]}")
        del own
        gc.collect()
        if a.device.startswith("cuda"):
            torch.cuda.empty_cache()
    if failures:
        print("; ".join(failures), file=sys.stderr)
    sys.exit(len(failures) == len(settings))


def measure(a, weights, dtype, attention, layout, ot):
    """One setting; the weights are its own."""
    cuda = a.device.startswith("cuda")
    wait = torch.cuda.synchronize if cuda else lambda: None
    cast = torch.autocast(a.device.split(":")[0], {"bf16": torch.bfloat16, "f16": torch.float16}.get(dtype),
                          enabled=dtype != "f32")
    x = weights.pop("bench.input")
    if a.network == "unetr":
        net, parameters = unetr(weights, a.size, getattr(torch, layout))
        weights.clear()  # the network has copies of them
    elif a.network == "pretrain":
        net = Pretraining(weights, a.size, attention == "sdpa", x.shape[0])
        parameters = list(net.parameters())
    else:
        net = NnFormer(weights, weights["model_down.norm0.weight"].numel(), a.size, attention == "sdpa")
        parameters = list(net.parameters())
    if a.compile:
        net = torch.compile(net)
    loss_of, metric = lambda: F.mse_loss(net(x), x), None
    if a.network == "pretrain":
        loss_of, metric = pretraining_loss(net, x, weights, ot)
        parameters.append(metric)
    adam = torch.optim.Adam(parameters, lr=1e-4, fused=cuda or None)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    best, loss = float("inf"), 0.0
    for _ in range(a.steps):
        wait()
        start = time.perf_counter()
        if a.infer:
            with torch.inference_mode(), cast:
                loss = loss_of().item()
        else:
            adam.zero_grad()
            with cast:
                value = loss_of()
            value.backward()
            adam.step()
            if metric is not None:
                project(metric)
            loss = value.item()
        wait()
        best = min(best, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    tensors = torch.cuda.max_memory_allocated() >> 20 if cuda else None
    return {"step_s": round(best, 6 if cuda else 4), "loss": loss, "peak_process_mib": peak, "peak_tensors_mib": tensors,
            "compiled": a.compile, "layout": layout, "torch": torch.__version__, "threads": torch.get_num_threads(),
            "dtype": dtype, "attention": attention, "ot": ot if metric is not None else None}


if __name__ == "__main__":
    main()
