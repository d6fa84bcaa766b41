"""Losses and schedules of PyTorch, metrics of scikit-learn, the weight average of timm. Writes references.json.

    pip install torch scikit-learn timm
    python references.py
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import metrics
from timm.utils import ModelEmaV3
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR, StepLR

RNG = np.random.default_rng(7)


def numbers(n, scale=1.0):
    """Float32 values, so that both sides read the same numbers."""
    return (RNG.standard_normal(n) * scale).astype(np.float32).astype(np.float64)


def focal(z, y, gamma, alpha):
    """Lin et al. 2017, equations 4 and 5, over the classes of a softmax."""
    log_p = F.log_softmax(z, 1).gather(1, y[:, None])[:, 0]
    weight = torch.ones(z.shape[1], dtype=z.dtype) if alpha is None else torch.tensor(alpha, dtype=z.dtype)
    return (-weight[y] * (1 - log_p.exp()) ** gamma * log_p).mean()


def binary_focal(z, y, gamma, alpha):
    """torchvision.ops.sigmoid_focal_loss with the weights [1 - alpha, alpha]."""
    bce = F.binary_cross_entropy_with_logits(z[:, 0], y, reduction="none")
    p = torch.sigmoid(z[:, 0])
    p_t = p * y + (1 - p) * (1 - y)
    weight = alpha[1] * y + alpha[0] * (1 - y)
    return (weight * (1 - p_t) ** gamma * bce).mean()


def losses():
    z = numbers(5 * 4, 2.0).reshape(5, 4)
    y = [0, 3, 1, 1, 2]
    soft = np.array([[0.5, 0.25, 0.25, 0], [0, 0, 0, 1], [0.125, 0.5, 0.125, 0.25], [0, 1, 0, 0], [0.75, 0, 0, 0.25]])
    weights = [0.5, 2.0, 1.25, 3.0]
    one = numbers(5, 2.0).reshape(5, 1)
    target = numbers(5, 2.0)
    target[3] = one[3, 0]  # a residual of zero
    binary = [1.0, 0.0, 1.0, 1.0, 0.0]
    w = torch.tensor(weights, dtype=torch.float64)
    cases = [
        ("weighted_cross_entropy", z, y, lambda a, b: F.cross_entropy(a, b, weight=w)),
        ("weighted_cross_entropy_soft", z, soft.tolist(), lambda a, b: F.cross_entropy(a, b, weight=w)),
        ("focal", z, y, lambda a, b: focal(a, b, 2.0, None)),
        ("focal_alpha", z, y, lambda a, b: focal(a, b, 1.5, weights)),
        ("focal_binary", one, binary, lambda a, b: binary_focal(a, b, 2.0, [0.75, 0.25])),
        ("mean_squared_error", one, target.tolist(), lambda a, b: F.mse_loss(a[:, 0], b)),
        ("mean_absolute_error", one, target.tolist(), lambda a, b: F.l1_loss(a[:, 0], b)),
    ]
    rows = []
    for name, outputs, labels, function in cases:
        a = torch.tensor(outputs, dtype=torch.float64, requires_grad=True)
        b = torch.tensor(labels, dtype=torch.int64 if isinstance(labels[0], int) else torch.float64)
        value = function(a, b)
        value.backward()
        rows.append({"name": name, "outputs": outputs.tolist(), "labels": labels, "value": value.item(),
                     "grad": a.grad.flatten().tolist()})
    return {"weights": weights, "cases": rows}


def classification(outputs, labels):
    z, y = np.array(outputs), np.array(labels)
    if z.shape[1] == 1:
        predicted, auc = (z[:, 0] > 0).astype(int), metrics.roc_auc_score(y, z[:, 0])
    else:
        predicted = z.argmax(1)
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        auc = metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")
    macro = {"average": "macro", "zero_division": 0}
    return {
        "outputs": z.tolist(), "labels": y.tolist(),
        "macro_precision": metrics.precision_score(y, predicted, **macro),
        "macro_recall": metrics.recall_score(y, predicted, **macro),
        "macro_f1": metrics.f1_score(y, predicted, **macro),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
        "roc_auc": auc,
    }


def regression(outputs, labels):
    return {
        "outputs": [[v] for v in outputs], "labels": labels,
        "r2": metrics.r2_score(labels, outputs),
        "mean_absolute_error": metrics.mean_absolute_error(labels, outputs),
        "mean_squared_error": metrics.mean_squared_error(labels, outputs),
    }


def all_metrics():
    truth = numbers(23, 3.0) + 100
    tied = np.round(numbers(30), 1).astype(np.float32).astype(np.float64)
    return [
        classification(numbers(40 * 4).reshape(40, 4), RNG.integers(0, 4, 40)),
        # The class 2 of the outputs is among the labels once and never predicted.
        classification([[2.0, 1, -3], [0, 1, -3], [1, 0, -3], [2, 1, -5], [0, 2, -3]], [0, 1, 1, 2, 0]),
        # Scores that are tied.
        classification(tied.reshape(30, 1), RNG.integers(0, 2, 30)),
        regression((truth + numbers(23)).astype(np.float32).astype(np.float64).tolist(),
                   truth.astype(np.float32).astype(np.float64).tolist()),
        regression([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]),
    ]


def scales(scheduler, optimizer, n):
    found = []
    for _ in range(n):
        found.append(optimizer.param_groups[0]["lr"] / LR)
        optimizer.step()
        scheduler.step()
    return found


LR = 0.5


def schedules():
    def sgd():
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)

    def of(make, n):
        optimizer = sgd()
        return scales(make(optimizer), optimizer, n)

    return {
        "one_cycle": of(lambda o: OneCycleLR(o, max_lr=LR, total_steps=20, cycle_momentum=False), 20),
        "one_cycle_other": of(lambda o: OneCycleLR(o, max_lr=LR, total_steps=12, pct_start=0.45, div_factor=10,
                                                   final_div_factor=100, cycle_momentum=False), 12),
        # By epochs.
        "step": of(lambda o: StepLR(o, step_size=3, gamma=0.25), 10),
        "multi_step": of(lambda o: MultiStepLR(o, milestones=[2, 5], gamma=0.1), 8),
    }


def ema(**options):
    model = torch.nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
    average = ModelEmaV3(model, **options)
    values = numbers(12).reshape(6, 2)
    found = []
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            model.weight.copy_(torch.tensor(value)[None])
        average.update(model, step=step)
        found.append(average.module.weight[0].tolist())
    return {"values": values.tolist(), "averages": found}


references = {
    "losses": losses(),
    "metrics": all_metrics(),
    "schedules": schedules(),
    "ema": {"constant": ema(decay=0.8), "warmup": ema(decay=0.8, use_warmup=True, warmup_power=0.75)},
}
lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in references.items())
Path(__file__).with_suffix(".json").write_text("{\n" + lines + "\n}\n")
