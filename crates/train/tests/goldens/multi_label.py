"""Binary cross-entropy of PyTorch and metrics of scikit-learn for several labels per example. Writes multi_label.json.

    pip install torch scikit-learn
    python multi_label.py
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import metrics

RNG = np.random.default_rng(11)


def single(values):
    """Float32 values, so that both sides read the same numbers."""
    return np.asarray(values).astype(np.float32).astype(np.float64)


def loss():
    z = single(RNG.standard_normal((5, 3)) * 3)
    z[0] = [-30, 30, 0]
    y = single([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0.05, 0.95, 0.05], [0.25, 0, 0.75]])
    a = torch.tensor(z, requires_grad=True)
    value = F.binary_cross_entropy_with_logits(a, torch.tensor(y))
    value.backward()
    return {"outputs": z.tolist(), "labels": y.tolist(), "value": value.item(), "grad": a.grad.tolist()}


def case(z, y, thresholds):
    p = (1 / (1 + np.exp(-z.astype(np.float32)))).astype(np.float32)
    thresholds = np.asarray(thresholds, np.float32)
    said = p >= thresholds
    occurs = y.any(0)
    of_label = [metrics.average_precision_score(y[:, k], z[:, k]) if occurs[k] else None for k in range(y.shape[1])]
    options = {"average": None, "zero_division": 0}
    best = []
    for k in range(y.shape[1]):
        precision, recall, _ = metrics.precision_recall_curve(y[:, k], p[:, k])
        with np.errstate(invalid="ignore"):
            best.append(float(np.nanmax(2 * precision * recall / (precision + recall))) if occurs[k] else None)
    counted = occurs | said.any(0)
    return {
        "outputs": z.tolist(), "labels": y.astype(int).tolist(), "thresholds": thresholds.tolist(),
        "average_precision": of_label,
        "mean_average_precision": metrics.average_precision_score(y[:, occurs], z[:, occurs], average="macro"),
        "precision": metrics.precision_score(y, said, **options).tolist(),
        "recall": metrics.recall_score(y, said, **options).tolist(),
        "f1": metrics.f1_score(y, said, **options).tolist(),
        "micro_f1": metrics.f1_score(y, said, average="micro"),
        "macro_f1": metrics.f1_score(y[:, counted], said[:, counted], average="macro", zero_division=0),
        "exact_match": metrics.accuracy_score(y, said),
        "best_f1": best,
    }


def cases():
    y = RNG.random((40, 4)) < [0.5, 0.1, 0.8, 0.3]
    z = single(RNG.standard_normal((40, 4)) + y)
    tied = single(np.round(RNG.standard_normal((30, 3)), 1))
    of_tied = RNG.random((30, 3)) < 0.4
    of_tied[:, 1] = False  # a label that does not occur
    tied[:, 1] -= 10
    return [case(z, y, [0.5] * 4), case(z, y, [0.3, 0.7, 0.5, 0.6]), case(tied, of_tied, [0.5, 0.5, 0.4])]


golden = {"loss": loss(), "cases": cases()}
lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in golden.items())
Path(__file__).with_suffix(".json").write_text("{\n" + lines + "\n}\n")
