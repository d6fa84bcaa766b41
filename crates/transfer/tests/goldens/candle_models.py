"""What timm's networks make of weights and images that a formula gives, so that the test can make the same ones: the
features that the last layer sees, in inference, computed in float64. And of every network that `CandleModel` knows, the
names and shapes of its tensors but for the last layer's. Writes candle_models.json beside this script.

    python candle_models.py        # timm 1.0, torch, numpy
"""

import json
import pathlib

import numpy as np
import timm
import torch

# Network and side of its input.
CASES = [
    ("mobilenetv4_conv_small", 64),
    ("mobilenetv4_conv_medium", 64),
    ("mobilenetv4_hybrid_medium", 96),
]
KNOWN = [
    *[f"mobilenetv4_{n}" for n in ("conv_small", "conv_medium", "conv_large", "hybrid_medium", "hybrid_large")],
]
KEPT = 8


def fnv1a(text):
    """The 64-bit hash of a text's bytes."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % (1 << 64)
    return h


def pattern(n, k):
    """n numbers in [0, 1): a multiplicative hash of the place, by integers alone."""
    i = np.arange(n, dtype=np.uint64)
    h = (i * np.uint64(2654435761) + np.uint64(k) * np.uint64(40503)) % np.uint64(1 << 32)
    h = (h ^ (h >> np.uint64(15))) * np.uint64(2246822519) % np.uint64(1 << 32)
    return h.astype(np.float64) / 2.0**32


def value(name, shape):
    """The tensor `name`."""
    u = pattern(int(np.prod(shape)), fnv1a(name) % 65536).reshape(shape)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return 0.5 + u
    if len(shape) == 1:
        return 0.2 * (2 * u - 1)
    return (2 * u - 1) * np.sqrt(3.0 / int(np.prod(shape[1:])))


def images(side):
    return 1.5 * (2 * pattern(3 * side * side, 5000).reshape(1, 3, side, side) - 1)


def backbone_tensors(model):
    """Names and shapes, sorted, without the last layer's and PyTorch's counters."""
    head = model.pretrained_cfg["classifier"]
    left_out = (head + ".weight", head + ".bias")
    tensors = {n: list(t.shape) for n, t in model.state_dict().items()}
    return sorted((n, s) for n, s in tensors.items() if n not in left_out and not n.endswith("num_batches_tracked"))


def features(architecture, side):
    model = timm.create_model(architecture).eval().double()
    tensors = {n: torch.from_numpy(value(n, tuple(t.shape))) if t.is_floating_point() else t
               for n, t in model.state_dict().items()}
    model.load_state_dict(tensors)
    with torch.no_grad():
        x = torch.from_numpy(images(side))
        out = model.forward_head(model.forward_features(x), pre_logits=True)[0].numpy()
    every = out.size // KEPT
    return {
        "architecture": architecture,
        "side": side,
        "n_features": out.size,
        "norm": float(np.linalg.norm(out)),
        "sum": float(out.sum()),
        "largest": float(np.abs(out).max()),
        "every": every,
        "values": [float(f"{v:.8g}") for v in out[::every]],
    }


def names(architecture):
    with torch.device("meta"):
        model = timm.create_model(architecture)
    tensors = backbone_tensors(model)
    text = "\n".join(f"{n} {'x'.join(map(str, s))}" for n, s in tensors)
    size = sum(int(np.prod(s)) for _, s in tensors)
    cfg = model.pretrained_cfg
    return {
        "architecture": architecture,
        "tensors": len(tensors),
        "values": size,
        "hash": f"{fnv1a(text):016x}",
        "repository": cfg["hf_hub_id"],
        "license": cfg["license"],
        "input": [cfg["input_size"][-1], cfg["interpolation"], cfg["crop_pct"], cfg["mean"], cfg["std"]],
    }


goldens = {
    "versions": {"timm": timm.__version__, "torch": torch.__version__},
    "names": [names(architecture) for architecture in KNOWN],
    "features": [features(architecture, side) for architecture, side in CASES],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(goldens, indent=1) + "\n")
