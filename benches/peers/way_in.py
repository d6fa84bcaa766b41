"""Images per second from a folder of JPEG photos to training batches: Firstsight's `Loader` and torchvision's data loading.

    cargo build --release --package firstsight-data --example way_in
    python way_in.py --program target/release/examples/way_in [--photos DIR] [--cores N] [--pillow-simd DIR]

A batch is 64 crops of 8 to 100 % of the area, resized to 224 x 224 (bilinear), flipped by chance, normalized. Each side runs in its
own process, bound to the same cores, and the sides take turns; a row gives the medians of images per second, and of images per second
of processor time, which other work on the machine hardly changes. The first epoch counts from the start of
the work to its end, decoding to the cache included. Torch has as many workers as cores, and its workers are started before
the clock. Glibc keeps freed memory on both sides, as in `firstsight`. DIR holds a folder for each class; without it, photos of 500 x 375 are made of smooth noise. Linux.

Needs torch, torchvision and Pillow. Pillow-SIMD, where a C compiler and libjpeg's headers are: `pip install --target DIR pillow-simd`.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
KEEP = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torch_side(kind, photos, cores):
    """Prints images per second of the first and of the second epoch."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    resized = v2.RandomResizedCrop(224, antialias=True)
    normalize = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    if kind == "pillow":
        changes = v2.Compose([resized, v2.RandomHorizontalFlip(), v2.ToImage(), *normalize])
        data = ImageFolder(photos, changes)
    else:
        changes = v2.Compose([resized, v2.RandomHorizontalFlip(), *normalize])
        data = ImageFolder(photos, changes, loader=lambda path: decode_jpeg(read_file(path), ImageReadMode.RGB))
    # Workers inherit `data`, so the function needs no name.
    loader = DataLoader(
        data, 64, shuffle=True, num_workers=cores, persistent_workers=True, multiprocessing_context="fork"
    )  # fmt: skip
    pids, epochs = [os.getpid()], []
    for _ in range(3):
        started = time.perf_counter(), processor_time(pids)
        for images, _ in loader:
            assert images.shape[1:] == (3, 224, 224)
        epochs.append((time.perf_counter() - started[0], processor_time(pids) - started[1]))
        pids = [os.getpid(), *(worker.pid for worker in multiprocessing.active_children())]
    # The first epoch starts the workers.
    print(json.dumps({"images": len(data), "first": epochs[1], "second": epochs[2]}))


def processor_time(pids):
    """Seconds of user and system time."""
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def make_photos(folder, n=2400):
    import numpy
    from PIL import Image

    draw = numpy.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir()
    for i in range(n):
        # Detail at several sizes, as in a photo; a file of some 60 kB.
        photo = numpy.zeros((375, 500, 3))
        for side, strength in ((6, 90), (24, 40), (96, 25), (375, 10)):
            noise = draw.normal(128, strength, (side, side * 4 // 3, 3)).clip(0, 255).astype("uint8")
            photo += Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC)
        Image.fromarray((photo / 4).astype("uint8")).save(folder / "ab"[i % 2] / f"{i:04}.jpg", quality=90)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--pillow-simd", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photos = args.photos
        if photos is None:
            photos = Path(scratch) / "photos"
            photos.mkdir()
            make_photos(photos)

        def torch(kind, path=None):
            environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
            side = [sys.executable, __file__, "--side", kind, str(photos), str(args.cores)]
            return lambda: (side, environment)

        def ours(crops, cached):
            def command():
                # Anew in each run. What an earlier run wrote is gone, so that its pages of memory are used again: a virtual
                # machine takes far longer for those that it has not touched yet.
                shutil.rmtree(cache_folder, ignore_errors=True)
                cache = [cache_folder] if cached else []
                return [args.program, photos, str(args.cores), crops, *cache], os.environ

            return command

        cache_folder = Path(scratch) / "cache"
        sides = {
            "Firstsight, cached": ours("reduced", True),
            "Firstsight, cached, crops from 448 x 448": ours("full", True),
            "Firstsight without a cache": ours("reduced", False),
            "torchvision, Pillow, DataLoader": torch("pillow"),
            "torchvision, decode_jpeg, DataLoader": torch("tensor"),
        }
        if args.pillow_simd:
            sides["torchvision, Pillow-SIMD, DataLoader"] = torch("pillow", args.pillow_simd)
        found = {name: [] for name in sides}
        cores = sorted(os.sched_getaffinity(0))[: args.cores]
        for _ in range(ROUNDS):
            for name, side in sides.items():
                command, environment = side()
                run = subprocess.run(
                    command, env=environment | {"GLIBC_TUNABLES": KEEP}, check=True, stdout=subprocess.PIPE,
                    preexec_fn=lambda: os.sched_setaffinity(0, cores),
                )  # fmt: skip
                found[name].append(json.loads(run.stdout.splitlines()[-1]))
        print(f"{args.cores} core(s), medians of {ROUNDS} runs, images per second, and per second of processor time\n")
        print("| | first epoch | later epochs | first, processor time | later, processor time |")
        print("| --- | --- | --- | --- | --- |")
        for name, runs in found.items():
            cells = [
                statistics.median(run["images"] / run[epoch][clock] for run in runs)
                for clock in (0, 1)
                for epoch in ("first", "second")
            ]
            print(f"| {name} |", *(f"{cell:.0f} |" for cell in cells))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        torch_side(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
