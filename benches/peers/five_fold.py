"""Cross-validation of `cargo xtask fine-tune` against timm's features with scikit-learn's logistic regression.

    python five_fold.py --data PHOTOS --weights FOLDER [--preset quick] [--folds 5] [--seed 0] [-- MORE ARGUMENTS]

PHOTOS holds class folders, or train and val (and test) of class folders, which are merged. FOLDER is a backbone in timm's
layout. The folds are scikit-learn's StratifiedKFold, shuffled, and the same for both sides. The Python side extracts timm's
features twice, with the preprocessing in the weights' config.json and with whole photos stretched to squares, and fits
LogisticRegression with its defaults. The Rust side gets each fold's photos as links. The held-out fold is its test split, so
that nothing is chosen by it. The quick preset chooses nothing by validation images, so with it the held-out fold is the
validation split, which leaves more photos for training. Needs timm and scikit-learn; run it in the workspace. Arguments after
-- go to fine-tune.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from timm.data import create_transform, resolve_data_config

IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"}


def list_photos(root):
    splits = [d for d in sorted(root.iterdir()) if d.name.lower() in ("train", "val", "test")] or [root]
    classes = sorted({d.name for split in splits for d in split.iterdir() if d.is_dir()})
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for split in splits
        if (split / name).is_dir()
        for path in sorted((split / name).iterdir())
        if path.suffix.lower() in IMAGES
    ]
    return classes, [path for path, _ in found], np.array([label for _, label in found])


def extract(model, transform, paths):
    rows = []
    with torch.inference_mode():
        for i in range(0, len(paths), 16):
            batch = [transform(Image.open(path).convert("RGB")) for path in paths[i : i + 16]]
            rows.append(model(torch.stack(batch).contiguous(memory_format=torch.channels_last)).numpy())
    return np.concatenate(rows)


def scikit_learn(weights, paths, labels, folds):
    model = timm.create_model(f"local-dir:{weights}", pretrained=True, num_classes=0).eval()
    model = model.to(memory_format=torch.channels_last)
    stated = resolve_data_config({}, model=model)
    right = {}
    for name, settings in (("as config.json states", {}), ("whole photos", {"crop_mode": "squash", "crop_pct": 1.0})):
        rows = extract(model, create_transform(**{**stated, **settings}), paths)
        hits = 0
        for train, held_out in folds:
            fitted = LogisticRegression(max_iter=10_000).fit(rows[train], labels[train])
            hits += int((fitted.predict(rows[held_out]) == labels[held_out]).sum())
        right[name] = hits
    return right


def firstsight(args, classes, paths, labels, folds):
    hits, seconds, cache = 0, 0.0, tempfile.mkdtemp()
    measured = "val" if args.preset == "quick" else "test"
    for number, (train, held_out) in enumerate(folds):
        with tempfile.TemporaryDirectory() as folder:
            for split, indices in (("train", train), (measured, held_out)):
                for i in indices:
                    link = Path(folder, "photos", split, classes[labels[i]], f"{i:05}{paths[i].suffix}")
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(paths[i].resolve())
            run = Path(folder, "run")
            command = [*args.xtask.split(), "fine-tune", "--data", f"{folder}/photos", "--backbone", args.backbone]
            command += ["--weights", str(args.weights), "--preset", args.preset, "--seed", str(args.seed)]
            command += ["--cache", cache, "--out", str(run), *args.more]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            metrics = json.loads((run / "metrics.json").read_text())
            config = json.loads((run / "config.json").read_text())["pretrained_cfg"]
        fold = round(metrics[measured]["accuracy"] * metrics[measured]["n"])
        hits += fold
        seconds += sum(metrics["seconds"].values())
        what = f"{config['crop_mode']} crop, penalty {metrics['head']['penalty']}, kept: {metrics['kept']}"
        print(f"fold {number + 1}: {fold} of {len(held_out)}, {what}", flush=True)
    return hits, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenet-v2")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--xtask", default="cargo xtask", help="the command of the Rust side")
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    classes, paths, labels = list_photos(args.data)
    splitter = StratifiedKFold(args.folds, shuffle=True, random_state=args.seed)
    folds = list(splitter.split(np.zeros(len(labels)), labels))
    for name, hits in scikit_learn(args.weights, paths, labels, folds).items():
        print(f"features and LogisticRegression, {name}: {hits} of {len(labels)}, {hits / len(labels):.4f}", flush=True)
    hits, seconds = firstsight(args, classes, paths, labels, folds)
    print(f"fine-tune, {args.preset}: {hits} of {len(labels)}, {hits / len(labels):.4f}, {seconds:.0f} s")


main()
