"""The layers of crates/ops/benches/transformer.rs in PyTorch, beside that program's, in alternating rounds.

    cargo bench -p firstsight-ops --bench transformer --no-run     # says where the program is
    python transformer_ops.py PROGRAM [--rounds 3] [--threads 2] [--gflops PEAK] [--gigabytes PEAK]

prints a Markdown table: the least milliseconds of all rounds, ours and PyTorch's (eager), and the ratio. With the peaks that
`cargo xtask bench` measures, the last columns are the floor: the larger of the arithmetic and the least traffic at those peaks.
"""

import argparse
import subprocess
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--gflops", type=float)
parser.add_argument("--gigabytes", type=float)
options = parser.parse_args()
torch.set_num_threads(options.threads)

B, N, C, HEADS = 16, 197, 384, 6


def attention(qkv):
    q, k, v = qkv.reshape(B, N, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C)


def layer_norm_2d(x, weight, bias):
    return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, 1e-6).permute(0, 3, 1, 2)


def linear_sizes(n_in, n_out):
    return [(B, N, n_in), (n_out, n_in), (n_out,)]


# name: function, shapes, multiply-adds forward and backward, in 10⁹
PRODUCTS = B * N * C * C / 1e9
OPS = {
    "layer_norm 384": (lambda x, w, b: F.layer_norm(x, w.shape, w, b, 1e-6), [(B, N, C), (C,), (C,)], 0, 0),
    "gelu 1536": (F.gelu, [(B, N, 4 * C)], 0, 0),
    "softmax 197": (lambda x: F.softmax(x, -1), [(B, HEADS, N, N)], 0, 0),
    "attention 6 heads": (attention, [(B, N, 3 * C)], 2 * B * N * N * C / 1e9, 5 * B * N * N * C / 1e9),
    "linear 384 to 1152": (F.linear, linear_sizes(C, 3 * C), 3 * PRODUCTS, 6 * PRODUCTS),
    "linear 384 to 384": (F.linear, linear_sizes(C, C), PRODUCTS, 2 * PRODUCTS),
    "linear 384 to 1536": (F.linear, linear_sizes(C, 4 * C), 4 * PRODUCTS, 8 * PRODUCTS),
    "linear 1536 to 384": (F.linear, linear_sizes(4 * C, C), 4 * PRODUCTS, 8 * PRODUCTS),
    "linear 384 to 1536 and gelu": (
        lambda x, w, b: F.gelu(F.linear(x, w, b)), linear_sizes(C, 4 * C), 4 * PRODUCTS, 8 * PRODUCTS,
    ),
    "feed_forward 384, 1536": (
        lambda x, w, b, w2, b2: F.linear(F.gelu(F.linear(x, w, b)), w2, b2),
        linear_sizes(C, 4 * C) + [(C, 4 * C), (C,)], 8 * PRODUCTS, 16 * PRODUCTS,
    ),
    "layer_norm_2d 96": (layer_norm_2d, [(16, 96, 56, 56), (96,), (96,)], 0, 0),
    "silu": (F.silu, [(16, 96, 56, 56)], 0, 0),
}  # fmt: skip


def least(run, limit=0.4):
    run()
    start, best = time.perf_counter(), float("inf")
    while time.perf_counter() - start < limit:
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best * 1e3


def time_pytorch(function, shapes):
    args = [torch.rand(shape) * 2 - 1 for shape in shapes]
    with torch.inference_mode():
        forward = least(lambda: function(*args))
        seed = torch.ones_like(function(*args))
    for arg in args:
        arg.requires_grad_()
    seed = torch.ones(seed.shape)

    def both():
        for arg in args:
            arg.grad = None
        function(*args).backward(seed)

    return forward, least(both)


ours, theirs = {}, {}


def keep(best, name, times):
    best[name] = [min(pair) for pair in zip(times, best.get(name, times))]


for _ in range(options.rounds):
    # candle's own threads would spin beside ours.
    environment = {"RAYON_NUM_THREADS": str(options.threads), "CANDLE_BARRIER_POOL_SPIN_LIMIT": "100"}
    for line in subprocess.run([options.program], env=environment, check=True, capture_output=True, text=True).stdout.splitlines():
        name, *times = line.split("\t")
        keep(ours, name, [float(value) for value in times])
    for name, (function, shapes, *_) in OPS.items():
        keep(theirs, name, time_pytorch(function, shapes))


def floor(name):
    """Milliseconds at the peaks: every argument and result is read or written once, and read again for the gradients."""
    _, shapes, forward, backward = OPS[name]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    args, result = sum(sizes), OPS[name][0](*(torch.zeros(shape) for shape in shapes)).numel()
    passes = ((args + result, forward), (3 * args + 2 * result, forward + backward))
    return [max(2 * work / options.gflops * 1e3, 4 * values / options.gigabytes / 1e6) for values, work in passes]


heads = ["op", "forward", "PyTorch", "ratio", "forward and backward", "PyTorch", "ratio"]
with_floor = options.gflops and options.gigabytes
heads += ["floor, forward", "floor, both"] if with_floor else []
print("|", " | ".join(heads), "|\n|", " --- |" * len(heads), sep="")
for name, (forward, both) in ours.items():
    cells = [name]
    for mine, other in zip((forward, both), theirs[name]):
        cells += [f"{mine:.2f}", f"{other:.2f}", f"{other / mine:.2f}"]
    cells += [f"{value:.2f}" for value in floor(name)] if with_floor else []
    print("|", " | ".join(cells), "|")
