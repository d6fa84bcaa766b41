"""Writes scikit-learn's splits.

    pip install scikit-learn==1.9.1 numpy==2.4.6
    python split.py

split.json: one object for each split, with both sides whole, or, of more than 200 indices, their number and the
CRC-32 of the indices as little-endian u32.
"""

import json
import zlib
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

splits = []
for n, test_size, seed in [
    (2, 0.5, 0), (3, 0.1, 1), (10, 0.2, 123), (10, 0.25, 1), (7, 0.99 * 6 / 7, 5), (100, 0.33, 42), (150, 0.07, 2**32 - 1),
    (256, 0.2, 7), (257, 0.2, 7), (1000, 0.3, 0), (20640, 0.2, 1), (16512, 0.25, 1), (32176, 0.2, 123), (32206, 0.2, 123),
    (70000, 0.6, 2024),
]:
    sides = train_test_split(np.arange(n), test_size=test_size, random_state=seed)
    record = {"n": n, "test_size": test_size, "random_state": seed}
    for name, side in zip(["train", "test"], sides):
        if n <= 200:
            record[name] = side.tolist()
        else:
            record[name] = {"len": len(side), "crc32": zlib.crc32(side.astype("<u4").tobytes())}
    splits.append(record)
Path(__file__).with_name("split.json").write_text("[\n" + ",\n".join(map(json.dumps, splits)) + "\n]\n")
