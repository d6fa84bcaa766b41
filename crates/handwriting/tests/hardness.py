"""How hard the data set is: the lecture's two models on a folder that `examples/generate.rs` wrote.

    python hardness.py FOLDER [EPOCHS]

Grayscale, 80x60, Lanczos; a fifth of Train to validate on; Adam 0.001, batch 128, at most EPOCHS (100) epochs, early
stopping on validation accuracy with patience 15; the figures are the best epoch's. Needs numpy, pillow and torch.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn


def load(folder):
    images, labels = [], []
    for label, character in enumerate(sorted(p.name for p in folder.iterdir())):
        for file in sorted((folder / character).iterdir(), key=lambda p: int(p.stem)):
            images.append(np.asarray(Image.open(file).resize((60, 80), Image.Resampling.LANCZOS)))
            labels.append(label)
    return torch.from_numpy(np.stack(images))[:, None], torch.tensor(labels)


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        right = sum((model(x / 255).argmax(1) == y).sum().item() for x, y in zip(images.split(512), labels.split(512)))
    return right / len(labels)


def train(model, epochs, train, val, test):
    for layer in model:
        if hasattr(layer, "weight"):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)
    best = {"val": 0.0, "epoch": 0}
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.randperm(len(train[0])).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train[0][batch] / 255), train[1][batch]).backward()
            optimizer.step()
        val_accuracy = accuracy(model, *val)
        if val_accuracy > best["val"]:
            best = {"val": val_accuracy, "test": accuracy(model, *test), "epoch": epoch}
        print(epoch, f"{val_accuracy:.4f}", best, flush=True)
        if epoch - best["epoch"] >= 15:
            break
    return best


def main():
    folder = Path(sys.argv[1])
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    images, labels = load(folder / "Train")
    test = load(folder / "Test")
    order = torch.from_numpy(np.random.RandomState(123).permutation(len(images)))
    n_val = -(-len(images) // 5)
    val, rest = order[:n_val], order[n_val:]
    data = (images[rest], labels[rest]), (images[val], labels[val]), test
    torch.manual_seed(123)
    logistic = nn.Sequential(nn.Flatten(), nn.Linear(4800, 55))
    print("logistic", train(logistic, epochs, *data))
    blocks = []
    for n_in, n_out, pool in ((1, 16, 2), (16, 32, 2), (32, 64, 4)):
        blocks += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool)]
    cnn = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(960, 64), nn.ReLU(), nn.Linear(64, 55))
    print("cnn", train(cnn, epochs, *data))


main()
