"""The training step of the small network of `crates/ops/examples/small_cnn_step.rs`, in PyTorch eager.

    python small_cnn.py [--steps 30] [--threads 2] [--channels-last]

prints the median and the least of the steps in milliseconds. PyTorch, too, spends much of this step on fresh
memory; its best comes with glibc told to keep what it frees:

    GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864 \
        python small_cnn.py
"""

import argparse
import os
import time

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--channels-last", action="store_true")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(args.threads)
layers = []
for c_in, c_out, pool in ((1, 16, 2), (16, 32, 2), (32, 64, 4)):
    layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool)]
model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(960, 64), nn.ReLU(), nn.Linear(64, 55))
images = torch.rand(128, 1, 80, 60) * 2 - 1
labels = torch.arange(128) * 7 % 55
if args.channels_last:
    model = model.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)

times = []
for _ in range(args.steps):
    start = time.perf_counter()
    loss = nn.functional.cross_entropy(model(images), labels)
    forward = time.perf_counter()
    optimiser.zero_grad()
    loss.backward()
    backward = time.perf_counter()
    optimiser.step()
    end = time.perf_counter()
    times.append((end - start, forward - start, backward - forward, end - backward))

layout = "channels_last" if args.channels_last else "contiguous"
tuned = "tuned" if "GLIBC_TUNABLES" in os.environ else "default"
print(f"torch {torch.__version__}, {args.threads} threads, {layout}, {tuned} malloc, loss {loss.item():.4f}")
for part, name in enumerate(("step", "forward", "backward", "optimiser")):
    part = sorted(step[part] * 1e3 for step in times)
    print(f"{name}: median {part[len(part) // 2]:.2f} ms, least {part[0]:.2f} ms")
