"""timm's resized position embeddings. Writes positions.json beside it.

    python positions.py        # timm 1.0, torch 2.15, numpy
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
# timm.py lies beside it.
sys.path = [path for path in sys.path if pathlib.Path(path or ".").resolve() != HERE]

import numpy as np
import timm
import torch
from timm.layers import resample_abs_pos_embed

sys.path.append(str(HERE))

from formulas import digest, number, value

CHANNELS = 12


def case(registers, side, height, width):
    prefix = 0 if registers else 1
    shape = (1, side * side + prefix, CHANNELS)
    embeddings = torch.from_numpy(value("pos_embed", shape, number("pos_embed"), 3.0)).float()
    resized = resample_abs_pos_embed(embeddings, (height, width), num_prefix_tokens=prefix)
    return {"registers": registers, "from": side, "height": height, "width": width, "pos_embed": digest(resized.numpy())}


if __name__ == "__main__":
    cases = [case(0, 37, 16, 16), case(4, 37, 16, 20), case(0, 5, 9, 3), case(4, 5, 5, 5)]
    versions = {m.__name__: m.__version__ for m in (timm, torch, np)}
    path = HERE / "positions.json"
    path.write_text(json.dumps({"versions": versions, "cases": cases}, separators=(",", ":")) + "\n")
