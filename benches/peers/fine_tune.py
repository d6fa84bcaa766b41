"""`firstsight fine-tune` against the script that a Python user writes, from photos to accuracy on held-out photos.

    python fine_tune.py --firstsight BIN --weights FOLDER --data PHOTOS [--preset quick] [--photos N] [--rounds 3] [--threads 2]

PHOTOS holds class folders, or train and val of class folders, which are merged. In each round a seed deals them out, 70 % of
each class for training. With --photos N, training photos are drawn with repetition until there are N, each cropped by a few
pixels so that none equals another; held-out photos stay as they are. FOLDER has a backbone in timm's layout.

Beside --preset quick the Python side is timm's features (inference mode, channels_last, a DataLoader of two workers), a
StandardScaler and scikit-learn's LogisticRegressionCV with its ten penalties and five folds. Beside the other presets it trains
the whole network by timm's recipe for small data: AdamW, layer decay, cosine, random crops and flips, 10 epochs from a last
layer that is trained like the rest.

Each side is a process of its own that starts from nothing (no cache) and in turn with the other. Printed: seconds of the whole
process, accuracy on the held-out photos, medians and means. Needs timm and scikit-learn.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def photos_of(root):
    splits = [d for d in sorted(root.iterdir()) if d.name.lower() in ("train", "val", "test")] or [root]
    photos = {}
    for split in splits:
        for folder in sorted(d for d in split.iterdir() if d.is_dir()):
            photos.setdefault(folder.name, []).extend(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES))
    return photos


def deal(photos, seed, wanted, folder):
    """Writes folder/train and folder/held-out."""
    from PIL import Image

    rng = random.Random(seed)
    train, held_out = [], []
    for label, paths in photos.items():
        paths = rng.sample(paths, len(paths))
        cut = round(0.7 * len(paths))
        train += [(label, path) for path in paths[:cut]]
        held_out += [(label, path) for path in paths[cut:]]
    for split, rows in (("train", train), ("held-out", held_out)):
        for i, (label, path) in enumerate(rows):
            link = folder / split / label / f"{i:05}{path.suffix.lower()}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    for i in range(len(train), wanted):
        label, path = train[i % len(train)]
        image = Image.open(path).convert("RGB")
        left, top = rng.randrange(1, 17), rng.randrange(1, 17)
        image = image.crop((left, top, image.width - rng.randrange(1, 17), image.height - rng.randrange(1, 17)))
        image.save(folder / "train" / label / f"{i:05}.jpg", quality=92)
    return max(len(train), wanted), len(held_out)


def python_features(args, folder):
    import numpy as np
    import timm
    import torch
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from timm.data import create_transform, resolve_data_config
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(args.threads)
    model = timm.create_model(f"local-dir:{args.weights}", pretrained=True, num_classes=0).eval()
    model = model.to(memory_format=torch.channels_last)
    transform = create_transform(**resolve_data_config({}, model=model))

    def features(split):
        loader = DataLoader(ImageFolder(folder / split, transform), batch_size=32, num_workers=2)
        rows, labels = [], []
        with torch.inference_mode():
            for images, classes in loader:
                rows.append(model(images.to(memory_format=torch.channels_last)).numpy())
                labels.append(classes.numpy())
        return np.concatenate(rows), np.concatenate(labels)

    x, y = features("train")
    head = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=5, max_iter=1000, n_jobs=args.threads))
    head.fit(x, y)
    return float(head.score(*features("held-out")))


def python_fine_tune(args, folder):
    import timm
    import torch
    from timm.data import create_transform, resolve_data_config
    from timm.optim import create_optimizer_v2
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    n_classes = len(list((folder / "train").iterdir()))
    model = timm.create_model(f"local-dir:{args.weights}", pretrained=True, num_classes=n_classes)
    model = model.to(memory_format=torch.channels_last)
    config = resolve_data_config({}, model=model)
    augmented = create_transform(**config, is_training=True, auto_augment=None, color_jitter=0.4)
    train = DataLoader(ImageFolder(folder / "train", augmented), batch_size=32, shuffle=True, drop_last=True, num_workers=2)
    held_out = DataLoader(ImageFolder(folder / "held-out", create_transform(**config)), batch_size=32, num_workers=2)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=5e-4, weight_decay=0.05, layer_decay=0.75)
    epochs = 10
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] * group.get("lr_scale", 1.0) for group in optimizer.param_groups], total_steps=epochs * len(train)
    )
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss(model(images.to(memory_format=torch.channels_last)), labels).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    right = n = 0
    with torch.inference_mode():
        for images, labels in held_out:
            right += int((model(images.to(memory_format=torch.channels_last)).argmax(1) == labels).sum())
            n += len(labels)
    return right / n


def python_side(args, folder):
    """Seconds of the process and accuracy."""
    command = [sys.executable, __file__, "--side", str(folder), "--weights", args.weights, "--preset", args.preset]
    command += ["--threads", str(args.threads), "--seed", str(args.seed)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(args.threads)})
    return time.perf_counter() - started, float(done.stdout.split()[-1])


def firstsight_side(args, folder):
    run = folder / "run"
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "RAYON_NUM_THREADS": str(args.threads)}
    tune = [args.firstsight, "fine-tune", "--data", str(folder / "train"), "--weights", args.weights, "--preset", args.preset]
    tune += ["--seed", str(args.seed), "--threads", str(args.threads), "--out", str(run), *args.more]
    measure = [args.firstsight, "evaluate", "--run", str(run), "--data", str(folder / "held-out"), "--threads", str(args.threads), "--json"]
    started = time.perf_counter()
    subprocess.run(tune, check=True, capture_output=True, env=environment)
    measured = subprocess.run(measure, check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - started, json.loads(measured.stdout)["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firstsight", help="the built command")
    parser.add_argument("--weights", required=True, help="backbone in timm's layout")
    parser.add_argument("--data", type=Path, help="photos in class folders")
    parser.add_argument("--preset", default="quick", choices=["quick", "standard", "thorough"])
    parser.add_argument("--photos", type=int, default=0, help="number of training photos to make of those there are")
    parser.add_argument("--rounds", type=int, default=3, help="number of seeds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("more", nargs="*", help="further arguments of fine-tune, after --")
    args = parser.parse_args()
    args.weights = str(Path(args.weights).resolve())
    if args.side:
        run = python_features if args.preset == "quick" else python_fine_tune
        print(run(args, args.side))
        return
    seconds, accuracies = {"firstsight": [], "python": []}, {"firstsight": [], "python": []}
    for seed in range(args.rounds):
        args.seed = seed
        with tempfile.TemporaryDirectory() as folder:
            n_train, n_held_out = deal(photos_of(args.data), seed, args.photos, Path(folder))
            sides = [("firstsight", firstsight_side), ("python", python_side)]
            for name, side in sides if seed % 2 == 0 else sides[::-1]:
                taken, accuracy = side(args, Path(folder))
                seconds[name].append(taken)
                accuracies[name].append(accuracy)
                print(f"seed {seed}, {n_train} photos for training, {n_held_out} held out: {name} {taken:.1f} s, {accuracy:.4f}", flush=True)
    ours, theirs = (statistics.median(seconds[name]) for name in ("firstsight", "python"))
    print(f"seconds, median: firstsight {ours:.1f}, python {theirs:.1f}, ratio {theirs / ours:.2f}")
    means = {name: statistics.mean(values) for name, values in accuracies.items()}
    print(f"accuracy, mean: firstsight {means['firstsight']:.4f}, python {means['python']:.4f}")


if __name__ == "__main__":
    main()
