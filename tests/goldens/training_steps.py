"""Losses and weights of five Adam steps of the lecture's two networks in Keras, from weights and batches that a
formula gives, so that the test can make the same ones. Writes training_steps.json beside this script.

    KERAS_BACKEND=torch python training_steps.py        # keras 3, torch, numpy
"""

import json
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from keras import layers

CLASSES, HEIGHT, WIDTH, BATCH, STEPS, KEPT = 55, 80, 60, 16, 5, 200


def pattern(n, k):
    """n numbers in [0, 1): a multiplicative hash of the place, by integers alone."""
    i = np.arange(n, dtype=np.uint64)
    h = (i * np.uint64(2654435761) + np.uint64(k) * np.uint64(40503)) % np.uint64(1 << 32)
    h = (h ^ (h >> np.uint64(15))) * np.uint64(2246822519) % np.uint64(1 << 32)
    return h.astype(np.float64) / 2.0**32


def weights(shape, k):
    receptive = int(np.prod(shape[2:]))
    limit = np.sqrt(6.0 / ((shape[0] + shape[1]) * receptive))
    return ((2.0 * pattern(int(np.prod(shape)), k) - 1.0) * limit).astype(np.float32).reshape(shape)


def bias(n, k):
    return (0.1 * pattern(n, k)).astype(np.float32)


def batch(step):
    """Hashed bytes, with labels."""
    bytes_ = np.floor(256.0 * pattern(BATCH * HEIGHT * WIDTH, 1000 + step)).astype(np.float32)
    x = bytes_.reshape(BATCH, 1, HEIGHT, WIDTH)
    y = np.array([(7 * i + 3 * step) % CLASSES for i in range(BATCH)])
    return x, y


def logistic():
    model = keras.Sequential(
        [keras.Input((HEIGHT, WIDTH, 1)), layers.Flatten(), layers.Rescaling(1 / 255), layers.Dense(CLASSES, name="dense")]
    )
    return model, {"dense": (CLASSES, HEIGHT * WIDTH)}


def small_cnn():
    def conv(filters, name):
        return layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)

    model = keras.Sequential(
        [
            keras.Input((HEIGHT, WIDTH, 1)),
            layers.Rescaling(1 / 255),
            conv(16, "conv1"),
            layers.MaxPooling2D(2),
            conv(32, "conv2"),
            layers.MaxPooling2D(2),
            conv(64, "conv3"),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="dense_1"),
            layers.Dense(CLASSES, name="dense_2"),
        ]
    )
    shapes = {
        "conv1": (16, 1, 3, 3),
        "conv2": (32, 16, 3, 3),
        "conv3": (64, 32, 3, 3),
        "dense_1": (64, 960),
        "dense_2": (CLASSES, 64),
    }
    return model, shapes


def to_keras(name, w):
    """From PyTorch's layout over (C, H, W) to Keras's over (H, W, C)."""
    if w.ndim == 4:
        return w.transpose(2, 3, 1, 0)
    if name == "dense_1":
        w = w.reshape(64, 64, 5, 3).transpose(0, 2, 3, 1).reshape(64, 960)
    return w.T


def from_keras(name, w):
    if w.ndim == 4:
        return w.transpose(3, 2, 0, 1)
    w = w.T
    if name == "dense_1":
        w = w.reshape(64, 5, 3, 64).transpose(0, 3, 1, 2).reshape(64, 960)
    return w


def kept(a):
    """At most KEPT entries, evenly spaced, and the tensor's Euclidean norm."""
    flat = np.ascontiguousarray(a).reshape(-1)
    every = -(-flat.size // KEPT)
    return {"every": every, "values": [float(f"{v:.9g}") for v in flat[::every]], "norm": float(np.linalg.norm(flat.astype(np.float64)))}


def run(build):
    model, shapes = build()
    for k, (name, shape) in enumerate(shapes.items()):
        model.get_layer(name).set_weights([to_keras(name, weights(shape, k)), bias(shape[0], 100 + k)])
    model.compile(keras.optimizers.Adam(0.001), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    steps = []
    for step in range(STEPS):
        x, y = batch(step)
        model.reset_metrics()
        loss = float(model.train_on_batch(x.transpose(0, 2, 3, 1), y))
        tensors = {}
        for name in shapes:
            w, b = model.get_layer(name).get_weights()
            tensors[f"{name}.weight"] = kept(from_keras(name, w))
            tensors[f"{name}.bias"] = kept(b)
        steps.append({"loss": loss, "tensors": tensors})
    return steps


keras.utils.set_random_seed(0)
result = {"keras": keras.__version__, "logistic": run(logistic), "small-cnn": run(small_cnn)}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(result) + "\n")
print(path, [s["loss"] for s in result["logistic"]], [s["loss"] for s in result["small-cnn"]])
