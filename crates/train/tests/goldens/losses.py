"""Losses and their gradients in Keras (float32). Prints the table at the head of ../losses.rs.

    KERAS_BACKEND=torch python losses.py        # keras 3, torch
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch

cases = [
    ("SparseCategoricalCrossEntropy", keras.losses.SparseCategoricalCrossentropy(from_logits=True),
     [[1.5, -0.25, 3.0], [-40.0, 60.0, 0.0], [0.1, 0.1, 0.1]], [2, 0, 1]),
    ("soft SparseCategoricalCrossEntropy", keras.losses.CategoricalCrossentropy(from_logits=True),
     [[1.5, -0.25, 3.0], [-40.0, 60.0, 0.0], [0.1, 0.1, 0.1]], [[0.7, 0.1, 0.2], [0.0, 1.0, 0.0], [0.25, 0.5, 0.25]]),
    ("BinaryCrossEntropy", keras.losses.BinaryCrossentropy(from_logits=True),
     [[0.75], [-30.0], [12.0], [-0.5]], [1, 1, 0, 0]),
    ("Poisson", keras.losses.Poisson(), [[0.5], [2.25], [7.0], [0.001]], [0.0, 3.5, 6.0, 1.25]),
]
for name, loss, outputs, labels in cases:
    z = torch.tensor(outputs, requires_grad=True)
    y = torch.tensor(labels)
    if not name.endswith("SparseCategoricalCrossEntropy"):
        y = y.float().reshape(-1, 1)
    value = loss(y, z)
    value.backward()
    print(name, float(value), [float(f"{g:.9g}") for g in z.grad.flatten().tolist()])
