"""Wrong labels found by `firstsight dataset check` and by cleanlab, on the same out-of-fold probabilities.

Copies a folder of class folders, moves some files to another class by a seed, checks the copy, and compares what is found
with what was moved:

    pip install cleanlab
    python benches/peers/label_issues.py --data FOLDER [--weights FOLDER] [--moved 200] [--seed 1] [--firstsight COMMAND]
"""

import argparse
import csv
import pathlib
import random
import shutil
import subprocess
import tempfile

import numpy as np
from cleanlab.filter import find_label_issues


def make(data, out, n, seed):
    """A copy of `data` in which n files are in another class. Returns them."""
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        (out / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            shutil.copyfile(file, out / folder.name / f"{folder.name}-{file.name}")
    classes = sorted(path.name for path in out.iterdir())
    rng = random.Random(seed)
    moved = set()
    for file in rng.sample(sorted(out.glob("*/*")), n):
        other = rng.choice([name for name in classes if name != file.parent.name])
        moved.add(str(file.rename(out / other / file.name)))
    return moved


def figures(name, found, moved, ranked):
    right = len(moved & set(found))
    first = len(moved & set(ranked[: len(moved)]))
    print(
        f"{name:12} {len(found):4} found, {right} of them among the {len(moved)} moved: precision {right / max(len(found), 1):.3f}, "
        f"recall {right / len(moved):.3f}; of the first {len(moved)} {first} ({first / len(moved):.3f})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--weights")
    parser.add_argument("--moved", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--firstsight", default="firstsight")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        moved = make(args.data, folder / "data", args.moved, args.seed)
        command = args.firstsight.split() + ["dataset", "check", folder / "data"]
        command += ["--csv", folder / "found.csv", "--probabilities", folder / "p.csv"]
        command += ["--weights", args.weights] if args.weights else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(folder / "found.csv", newline="") as file:
            ours = [row["path"] for row in csv.DictReader(file) if row["kind"] == "suspected-label"]
        with open(folder / "p.csv", newline="") as file:
            header, *rows = csv.reader(file)
    classes = header[2:]
    paths = np.array([row[0] for row in rows])
    labels = np.array([classes.index(row[1]) for row in rows])
    probabilities = np.array([[float(cell) for cell in row[2:]] for row in rows])
    accuracy = (probabilities.argmax(1) == labels).mean()
    truth = np.array([classes.index(pathlib.Path(path).name.split("-")[0]) for path in paths])
    print(f"{len(paths)} images, accuracy on the labels {accuracy:.4f}, on the true classes {(probabilities.argmax(1) == truth).mean():.4f}")
    theirs = paths[find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence")]
    figures("firstsight", ours, moved, ours)
    figures("cleanlab", list(theirs), moved, list(theirs))
    print(f"{len(set(ours) & set(theirs))} in both")


if __name__ == "__main__":
    main()
