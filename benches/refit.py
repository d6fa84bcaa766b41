"""What `fine-tune --refit` gains on held-out photos.

    python benches/refit.py --data PHOTOS --weights FOLDER [--command target/release/firstsight] [--seeds 1 2 3]

PHOTOS holds class folders, or train and val (and test) of class folders, which are merged. Thirds of each class are held out in turn as
the test images; of the others `fine-tune` sets a fifth aside for validation. Prints the held-out images that are right and their mean
loss with and without --refit, for each seed and together.
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"}


def list_photos(root):
    splits = [d for d in sorted(root.iterdir()) if d.name.lower() in ("train", "val", "test")] or [root]
    classes = sorted({d.name for split in splits for d in split.iterdir() if d.is_dir()})
    folders = [(split / name, name) for name in classes for split in splits if (split / name).is_dir()]
    return [(path, name) for folder, name in folders for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGES]


def thirds(photos, seed):
    """The third of each photo."""
    drawn, of = random.Random(seed), {}
    for name in sorted({name for _, name in photos}):
        members = [path for path, label in photos if label == name]
        drawn.shuffle(members)
        of.update({path: i % 3 for i, path in enumerate(members)})
    return of


def measure(args, photos, seed, refit, cache):
    right, loss, of = 0, 0.0, thirds(photos, seed)
    for third in range(3):
        with tempfile.TemporaryDirectory() as folder:
            for i, (path, label) in enumerate(photos):
                link = Path(folder, "photos", "test" if of[path] == third else "train", label, f"{i:05}{path.suffix}")
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
            command = [args.command, "fine-tune", f"{folder}/photos", "--weights", args.weights, "--preset", "quick"]
            command += ["--seed", str(seed), "--split-seed", str(seed), "--cache", cache, "--out", f"{folder}/run"]
            subprocess.run(command + (["--refit"] if refit else []), check=True, capture_output=True)
            test = json.loads(Path(folder, "run", "metrics.json").read_text())["test"]
        right += round(test["accuracy"] * test["n"])
        loss += test["loss"] * test["n"]
    return right, loss / len(photos)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--command", default="target/release/firstsight")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    photos = list_photos(args.data)
    with tempfile.TemporaryDirectory() as cache:
        for refit in (False, True):
            of_seeds = [measure(args, photos, seed, refit, cache) for seed in args.seeds]
            n = len(photos) * len(of_seeds)
            each = ", ".join(f"{right} ({loss:.4f})" for right, loss in of_seeds)
            print(
                f"{'--refit' if refit else 'without'}: {each} of {len(photos)}; together"
                f" {sum(right for right, _ in of_seeds) / n:.4f}, loss {sum(loss for _, loss in of_seeds) / len(of_seeds):.4f}",
                flush=True,
            )


main()
