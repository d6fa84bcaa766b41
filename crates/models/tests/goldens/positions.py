"""timm's resized position embeddings and tables of relative positions. Writes positions.json beside it.

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
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table

sys.path.append(str(HERE))

from formulas import digest, number, value

CHANNELS = 12
HEADS = 3
TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"


def tensor(name, shape):
    return torch.from_numpy(value(name, shape, number(name), 3.0)).float()


def case(registers, old, new):
    prefix = 0 if registers else 1
    embeddings = tensor("pos_embed", (1, old[0] * old[1] + prefix, CHANNELS))
    resized = resample_abs_pos_embed(embeddings, new, old_size=old, num_prefix_tokens=prefix)
    return {"registers": registers, "from": old, "to": new, "pos_embed": digest(resized.numpy())}


def table(old, new):
    """For windows of other sizes."""
    rows = lambda window: (2 * window[0] - 1) * (2 * window[1] - 1)
    resized = resize_rel_pos_bias_table(tensor(TABLE, (rows(old), HEADS)), new, (rows(new), HEADS), old_window_size=old)
    return {"from": old, "to": new, "table": digest(resized.numpy())}


if __name__ == "__main__":
    grids = [
        (0, (37, 37), (16, 16)), (4, (37, 37), (16, 20)), (0, (5, 5), (9, 3)), (4, (5, 5), (5, 5)),
        # As many patches in another grid.
        (0, (6, 6), (9, 4)), (4, (9, 4), (6, 6)), (0, (4, 9), (9, 4)), (0, (9, 4), (9, 4)), (4, (3, 8), (5, 5)),
    ]
    windows = [((7, 7), (6, 6)), ((7, 7), (6, 3)), ((4, 4), (7, 7)), ((7, 7), (1, 2)), ((5, 1), (2, 2)), ((7, 7), (7, 7))]
    versions = {m.__name__: m.__version__ for m in (timm, torch, np)}
    golden = {"versions": versions, "cases": [case(*c) for c in grids], "tables": [table(*t) for t in windows]}
    (HERE / "positions.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
