"""Three steps of each optimizer on f(w) = sum(a * w^2 / 2), gradients a*w, in PyTorch and Keras (float64).
Prints the table at the head of ../optimizers.rs.

    KERAS_BACKEND=torch python optimizers.py        # keras 3, torch
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch

A = torch.tensor([1.0, 0.01, 30.0], dtype=torch.float64)
START = [1.0, -2.0, 0.5]


def pytorch(make):
    w = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = make([w])
    for _ in range(3):
        optimizer.zero_grad()
        (A * w * w / 2).sum().backward()
        optimizer.step()
    return w.tolist()


def keras_adam(**options):
    w = keras.Variable(START, dtype="float64")
    optimizer = keras.optimizers.Adam(**options)
    optimizer.build([w])
    for _ in range(3):
        optimizer.apply([A * w.value.detach()], [w])
    return w.value.tolist()


print("sgd", pytorch(lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)))
print("adam pytorch", pytorch(lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-2)))
print("adamw pytorch", pytorch(lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.95), eps=1e-2, weight_decay=0.3)))
print("adam keras", keras_adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=1e-2))
