"""Weights and inputs that a formula gives, so that a test in another language can make the same ones, and what a golden keeps
of a tensor.
"""

import numpy as np
import torch

CLASSES, KEPT = 10, 5


def pattern(n, k):
    """n numbers in [0, 1): a multiplicative hash of the place, by integers alone."""
    i = np.arange(n, dtype=np.uint64)
    h = (i * np.uint64(2654435761) + np.uint64(k) * np.uint64(40503)) % np.uint64(1 << 32)
    h = (h ^ (h >> np.uint64(15))) * np.uint64(2246822519) % np.uint64(1 << 32)
    return h.astype(np.float64) / 2.0**32


def number(name):
    """FNV-1a of a name, 32 bits."""
    h = 2166136261
    for byte in name.encode():
        h = (h ^ byte) * 16777619 % (1 << 32)
    return h


def value(name, shape, k, power=6.0):
    """The tensor `name` of the number k. A weight of rank 2 and more is uniform within √(power / fan_in)."""
    u = pattern(int(np.prod(shape)), k).reshape(shape)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return 0.5 + u
    if len(shape) == 1:
        return 0.2 * (2 * u - 1)
    fan_in = int(np.prod(shape[1:]))
    return (2 * u - 1) * np.sqrt(power / fan_in)


def images(batch, height, width):
    return 1.5 * (2 * pattern(batch * 3 * height * width, 5000).reshape(batch, 3, height, width) - 1)


def labels(batch):
    return torch.tensor([(7 * i + 3) % CLASSES for i in range(batch)])


def digest(array):
    """A few of the values, and their norm and sum."""
    flat = np.asarray(array, dtype=np.float64).reshape(-1)
    every = max(1, flat.size // KEPT)
    kept = [float(f"{v:.7g}") for v in flat[::every]]
    return {
        "shape": list(np.shape(array)),
        "every": every,
        "values": kept,
        "norm": float(f"{np.linalg.norm(flat):.9g}"),
        "sum": float(f"{flat.sum():.9g}"),
    }
