"""`firstsight predict` on a folder against timm's inference and ONNX Runtime, in photos per second.

    python predict.py --firstsight BIN --weights FOLDER --data PHOTOS [--model NAME] [--photos 1000] [--rounds 3] [--threads 2]

FOLDER has a network in timm's layout, with its last layer. The photos under PHOTOS are repeated, as links, until there are
--photos of them. Each side is a process of its own that starts from nothing, in turn with the others, and writes the best class
of each photo: `firstsight predict --json`; timm in inference mode with channels_last, batches of 32 from a DataLoader of two
workers; the same loader before ONNX Runtime. Printed: photos per second of the whole process, medians, and for how many photos
the best class is the same. Needs timm; onnxruntime and onnx for that side, which is left out without them.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def link_photos(root, wanted, folder):
    photos = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGES)
    for i in range(wanted):
        path = photos[i % len(photos)]
        (folder / f"{i:06}{path.suffix.lower()}").symlink_to(path.resolve())


def python_side(args):
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform, resolve_data_config
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(args.threads)
    model = timm.create_model(f"local-dir:{args.weights}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    paths = sorted(args.folder.iterdir())

    class Photos(Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, i):
            return transform(Image.open(paths[i]).convert("RGB"))

    loader = DataLoader(Photos(), batch_size=32, num_workers=2)
    if args.side == "timm":
        model = model.to(memory_format=torch.channels_last)

        def classify(images):
            return model(images.to(memory_format=torch.channels_last)).argmax(1).tolist()

    else:
        import onnxruntime

        file = io.BytesIO()
        example = torch.zeros(1, *model.pretrained_cfg["input_size"])
        axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
        torch.onnx.export(
            model, (example,), file, dynamo=False, input_names=["images"], output_names=["logits"], dynamic_axes=axes
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

        def classify(images):
            return session.run(None, {"images": images.numpy()})[0].argmax(1).tolist()

    with torch.inference_mode():
        for images in loader:
            for index in classify(images):
                print(index)


def run(args, name, folder):
    """Seconds and the index of the best class of each photo."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "RAYON_NUM_THREADS": str(args.threads)}
    if name == "firstsight":
        command = [args.firstsight, "predict", "--pretrained", args.model, "--weights", args.weights, "--top", "1", "--json"]
        command += ["--threads", str(args.threads), str(folder)]
    else:
        command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--weights", args.weights]
        command += ["--threads", str(args.threads)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - started
    if name == "firstsight":
        return seconds, [str(row["predictions"][0]["index"]) for row in json.loads(done.stdout)]
    return seconds, [line for line in done.stdout.split() if line.isdigit()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firstsight", help="the built command")
    parser.add_argument("--weights", required=True, help="network in timm's layout")
    parser.add_argument("--model", default="mobilenet-v2", help="its name")
    parser.add_argument("--data", type=Path, help="photos, in folders or not")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.weights = str(Path(args.weights).resolve())
    if args.side:
        python_side(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        link_photos(args.data, args.photos, Path(folder))
        sides = {"firstsight": [], "timm": [], "onnxruntime": []}
        answers = {}
        for turn in range(args.rounds):
            for name in list(sides):
                try:
                    seconds, answers[name] = run(args, name, Path(folder))
                except subprocess.CalledProcessError as error:
                    print(f"{name} is left out: {error.stderr.strip().splitlines()[-1]}")
                    del sides[name]
                    continue
                sides[name].append(args.photos / seconds)
                print(f"turn {turn + 1}: {name} {args.photos / seconds:.1f} photos/s", flush=True)
    ours = statistics.median(sides["firstsight"])
    for name, rates in sides.items():
        rate = statistics.median(rates)
        same = sum(a == b for a, b in zip(answers["firstsight"], answers[name]))
        print(f"{name}: {rate:.1f} photos/s, {same} of {args.photos} as firstsight, firstsight is {ours / rate:.2f} times as fast")


if __name__ == "__main__":
    main()
