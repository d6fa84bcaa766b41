"""What happens with inputs as people have them: in torchvision and timm, in Ultralytics, Keras or Optuna, and in Firstsight.

    python field.py --firstsight BINARY --weights FOLDER [--photo JPEG] [--only 1,5,20]

Makes the inputs of 26 cases in a temporary folder, runs each side on them in a process of its own, and prints a Markdown table of
what was seen; nothing in it is remembered or guessed. FOLDER is timm's mobilenetv2_100 (`model.safetensors`, `config.json`).
Needs torchvision, timm, safetensors and Pillow; Ultralytics, Keras and Optuna where they are installed. Peers are run through
their own readers of folders (`ImageFolder`, `create_dataset`, `ClassificationDataset`) and their own models.
"""

import argparse
import importlib
import json
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
import numpy as np
import torch
from PIL import Image

WEIGHTS = BINARY = None


# Inputs


def noise(folder, per_class, side=16, seed=0, prefix="m"):
    rng = np.random.default_rng(seed)
    for name in ("ants", "bees"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{prefix}{i:04}.png")
    return folder


def noisy_folder(here):
    return noise(here / "data", 10)


# Sides


def words(error):
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:90]}"


class Warnings(logging.Handler):
    """What a library logs for its user."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []
        for name in (None, "timm", "ultralytics"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record):
        if record.levelno >= logging.WARNING and record.getMessage() not in self.lines:
            self.lines.append(record.getMessage())

    def __str__(self):
        return f", warnings: {len(self.lines)}" if self.lines else " without a word"


def walk(dataset, root, warnings):
    """The images of a dataset as a training reads them, up to the first that stops it."""
    for i in range(len(dataset)):
        try:
            dataset[i]
        except Exception as error:
            return f"{len(dataset)} images listed; stops at {shown(dataset, i, root)}: {type(error).__name__}"
    return f"reads {len(dataset)} images{warnings}"


def shown(dataset, i, root):
    samples = getattr(dataset, "samples", None)
    return os.path.relpath(samples[i][0], root) if samples else f"image {i}"


def torchvision_folder(root):
    from torchvision.datasets import ImageFolder

    warnings = Warnings()
    try:
        dataset = ImageFolder(root)
    except Exception as error:
        return words(error)
    return walk(dataset, root, warnings)


def timm_folder(root):
    from timm.data import create_dataset

    warnings = Warnings()
    try:
        dataset = create_dataset("", root)
    except Exception as error:
        return words(error)
    return walk(dataset, root, warnings)


def ultralytics_dataset(root):
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import ClassificationDataset

    settings = get_cfg()
    settings.imgsz = 16
    return ClassificationDataset(str(root), args=settings, augment=False)


def ultralytics_folder(root):
    warnings = Warnings()
    try:
        dataset = ultralytics_dataset(root)
    except BaseException as error:
        return words(error)
    return walk(dataset, root, warnings)


def mean_of(path):
    """The mean of an image as torchvision's loader reads it."""
    from torchvision.datasets.folder import default_loader

    return f"mean {np.asarray(default_loader(str(path))).mean():.0f} of 255"


def timm_top(path, weights=None):
    import timm
    from timm.data import create_transform, resolve_data_config

    network = timm.create_model("mobilenetv2_100", pretrained=False)
    from safetensors.torch import load_file

    network.load_state_dict(load_file(str(weights or WEIGHTS / "model.safetensors")))
    config = json.loads((WEIGHTS / "config.json").read_text())["pretrained_cfg"]
    transform = create_transform(**resolve_data_config(pretrained_cfg=config, args={}))
    with torch.no_grad():
        from torchvision.datasets.folder import default_loader

        logits = network.eval()(transform(default_loader(str(path)))[None])
    top = logits.softmax(1).max(1)
    return f"class {int(top.indices)} with {float(top.values):.2f}"


def firstsight(here, *args):
    """The exit code and the last line that it says."""
    command = [BINARY, *map(str, args), "--cache", str(here / "cache")]
    run = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=600)
    return run.returncode, run.stdout, run.stderr


def last(run):
    code, out, err = run
    lines = [line for line in (err if code else err + out).splitlines() if line.strip()]
    return f"exit {code}: {lines[-1][:240] if lines else ''}"


def said(run, *parts):
    """The exit code and the lines that hold one of the parts."""
    code, out, err = run
    lines = [line for line in (err + out).splitlines() if any(part in line for part in parts)]
    return f"exit {code}: " + ("; ".join(line.strip()[:200] for line in lines[:3]) or "none of: " + ", ".join(parts))


def attempt(function, *args):
    """The result of a function in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(False)

    def work():
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            theirs.send(str(function(*args)))
        except BaseException as error:
            theirs.send(words(error))

    process = context.Process(target=work)
    process.start()
    if ours.poll(300):
        try:
            result = ours.recv()
        except EOFError:
            process.join()
            return f"the process ends with {process.exitcode}"
    else:
        process.kill()
        return "no answer in 300 s"
    process.join()
    return result


# Cases: (title, function of a folder that returns {side: text})

CASES = []


def case(title):
    return lambda function: CASES.append((title, function))


def folders(root):
    return {
        "torchvision": attempt(torchvision_folder, root),
        "timm": attempt(timm_folder, root),
        "Ultralytics": attempt(ultralytics_folder, root),
    }


def trained(here, root, *more):
    return firstsight(here, "train", root, "--model", "logistic", "--input", "16x16x3", "--epochs", 1, "--batch-size", 8, *more)


def run_folder(here):
    data = noise(here / "known", 20, seed=1)
    code, _, err = trained(here, data, "--out", here / "run")
    assert code == 0, err
    return here / "run"


@case("`._photo.png` of a Mac and `.ipynb_checkpoints` in the folder")
def _(here):
    data = noisy_folder(here)
    (data / "ants/._m0000.png").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    (data / "ants/.ipynb_checkpoints").mkdir()
    shutil.copy(data / "ants/m0001.png", data / "ants/.ipynb_checkpoints/m0001-checkpoint.png")
    run = firstsight(here, "predict", "--run", run_folder(here), "--csv", data)
    return folders(data) | {"Firstsight": f"exit {run[0]}, {len(run[1].splitlines()) - 1} rows"}


def broken(here):
    data = noisy_folder(here)
    (data / "ants/m0001.png").write_bytes(b"")
    (data / "bees/m0003.png").write_text("<!DOCTYPE html><html>404")
    return data


@case("two unreadable files among 20, `predict`")
def _(here):
    data = broken(here)
    run = firstsight(here, "predict", "--run", run_folder(here), "--csv", data)
    rows = run[1].splitlines()
    return folders(data) | {"Firstsight": f"exit {run[0]}, {len(rows) - 1} rows"}


@case("what is wrong with a folder: an empty, an HTML and a truncated file")
def _(here):
    data = broken(here)
    whole = (data / "ants/m0002.png").read_bytes()
    (data / "ants/m0002.png").write_bytes(whole[: len(whole) // 2])
    run = firstsight(here, "dataset", "check", data)
    named = sum(name in run[1] + run[2] for name in ("m0001", "m0002", "m0003"))
    return folders(data) | {"Firstsight": f"exit {run[0]}, names {named} of the 3"}


@case("names without a known end: `x.png?width=640`, `x`, `x.png.1`, `x.tif`")
def _(here):
    data = noisy_folder(here)
    bees = data / "bees"
    for i in range(6):
        (bees / f"m000{i}.png").rename(bees / f"m000{i}.png?width=640")
    (bees / "m0006.png").rename(bees / "m0006")
    (bees / "m0007.png").rename(bees / "m0007.png.1")
    Image.open(bees / "m0008.png").save(bees / "m0008.tif")
    (bees / "m0008.png").unlink()
    run = firstsight(here, "dataset", "stats", data)
    return folders(data) | {"Firstsight": said(run, "bees")}


@case("`__MACOSX` among the class folders, and an emptied `val/bees`")
def _(here):
    data = here / "data"
    noise(data / "train", 10)
    noise(data / "val", 5, seed=3)
    (data / "train/__MACOSX").mkdir()
    (data / "train/__MACOSX/._m.png").write_bytes(b"\0\5\26\7")
    for path in (data / "val/bees").iterdir():
        path.unlink()
    peers = {side: f"train: {a}; val: {folders(data / 'val')[side]}" for side, a in folders(data / "train").items()}
    return peers | {"Firstsight": last(firstsight(here, "dataset", "stats", data))}


@case("16-bit gray PNGs, two classes of different brightness")
def _(here):
    rng = np.random.default_rng(0)
    for name, low, high in (("dark", 2000, 20000), ("bright", 40000, 60000)):
        (here / "data" / name).mkdir(parents=True)
        for i in range(15):
            Image.fromarray(rng.integers(low, high, (16, 16)).astype(np.uint16)).save(here / "data" / name / f"{i}.png")
    both = [attempt(mean_of, here / "data" / name / "0.png") for name in ("dark", "bright")]
    run = firstsight(
        here, "train", here / "data", "--model", "logistic", "--input", "16x16x1", "--epochs", 20, "--batch-size", 8, "--lr", 0.01
    )
    return {"torchvision": f"dark: {both[0]}; bright: {both[1]}", "Firstsight": said(run, "validation ")}


@case("transparent PNGs that look the same, with other hidden colors")
def _(here):
    rng = np.random.default_rng(0)
    hidden = {
        "black": np.zeros((64, 64, 3), np.uint8),
        "white": np.full((64, 64, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
    }
    for name, color in hidden.items():
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[..., :3] = color
        pixels[16:48, 16:48] = (200, 60, 30, 255)
        Image.fromarray(pixels).save(here / f"{name}.png")
    tops = [attempt(timm_top, here / f"{name}.png") for name in hidden]
    run = predicted(here, *(here / f"{name}.png" for name in hidden))
    return {"timm": "; ".join(tops), "Firstsight": tops_of(run)}


def predicted(here, *paths, weights=None):
    return firstsight(
        here, "predict", "--pretrained", "mobilenet-v2", "--weights", weights or WEIGHTS, "--top", 1, "--json", *paths
    )


def tops_of(run):
    if run[0] != 0 and not run[1].strip():
        return last(run)
    found = json.loads(run[1])
    first = lambda p: f"{p['predictions'][0]['label']} {p['predictions'][0]['probability']:.2f}" if p.get("predictions") else p.get("error", "?")
    return f"exit {run[0]}: " + "; ".join(first(p) for p in found)


@case("a photo that EXIF turns by 90°, beside the same photo upright")
def _(here):
    image = Image.open(PHOTO).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(here / "upright.jpg", quality=95)
    image.rotate(90, expand=True).save(here / "turned.jpg", quality=95, exif=exif)
    paths = (here / "upright.jpg", here / "turned.jpg")
    return {"timm": "; ".join(attempt(timm_top, path) for path in paths), "Firstsight": tops_of(predicted(here, *paths))}


@case("a photo of 108 megapixels, and one of 6000×2")
def _(here):
    Image.new("RGB", (12000, 9000), (90, 120, 60)).save(here / "big.jpg", quality=50)
    Image.new("RGB", (6000, 2), (9, 9, 9)).save(here / "thin.png")
    paths = (here / "big.jpg", here / "thin.png")
    runs = [tops_of(predicted(here, path)) for path in paths]
    return {"timm": "; ".join(attempt(timm_top, path) for path in paths), "Firstsight": "; ".join(runs)}


@case("JPEGs without end marker, with the last 300 bytes cut, with a newline before the start")
def _(here):
    whole = Path(PHOTO).read_bytes()
    parts = {"no_end": whole[:-2], "cut": whole[:-300], "newline": b"\n" + whole}
    for name, data in parts.items():
        (here / f"{name}.jpg").write_bytes(data)
    paths = [here / f"{name}.jpg" for name in parts]
    runs = [tops_of(predicted(here, path)) for path in paths]
    return {"timm": "; ".join(attempt(timm_top, path) for path in paths), "Firstsight": "; ".join(runs)}


@case("one photo in train and in val, one under two labels")
def _(here):
    data = here / "data"
    noise(data / "train", 20)
    noise(data / "val", 5, seed=3)
    shutil.copy(data / "train/ants/m0005.png", data / "val/bees/copy.png")
    shutil.copy(data / "train/ants/m0006.png", data / "train/bees/copy.png")
    run = trained(here, data, "--out", here / "run2")
    return folders(data / "train") | {"Firstsight": said(run, "same", "twice", "duplicate", "also in", "two labels", "equal")}


@case("40 images of one class and 5 of the other: the split")
def _(here):
    data = noise(here / "data", 40)
    for path in sorted((data / "bees").iterdir())[5:]:
        path.unlink()
    code, out, err = trained(here, data, "--out", here / "run2")
    split = (here / "run2/split.csv").read_text() if (here / "run2/split.csv").exists() else ""
    bees = [line for line in split.splitlines() if "bees" in line]
    held = sum(line.rstrip().endswith(("val", "validation")) for line in bees)

    def random_split():
        from torch.utils.data import random_split
        from torchvision.datasets import ImageFolder

        dataset, empty = ImageFolder(data), 0
        for seed in range(100):
            val = random_split(dataset, [0.8, 0.2], torch.Generator().manual_seed(seed))[1]
            empty += not any(dataset.targets[i] == 1 for i in val.indices)
        return f"random_split: no bee in val for {empty} of 100 seeds"

    return {"torchvision": attempt(random_split), "Firstsight": f"exit {code}; {held} of {len(bees)} bees in val"}


@case("a learning rate of 1e30")
def _(here):
    data = noise(here / "data", 20, 32)

    def keras_fit():
        import keras

        network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
        network.compile(keras.optimizers.SGD(1e30), "sparse_categorical_crossentropy")
        rng = np.random.default_rng(0)
        history = network.fit(rng.random((40, 8, 8, 3)), rng.integers(0, 2, 40), epochs=2, verbose=0)
        return f"fit ends without an error, loss {history.history['loss'][-1]}"

    run = firstsight(
        here, "fine-tune", data, "--weights", WEIGHTS, "--input", "32x32x3", "--crop", "squash", "--lr", "1e30", "--epochs", 1,
        "--out", here / "run2",
    )
    kept = sorted(path.name for path in (here / "run2").iterdir()) if (here / "run2").exists() else []
    return {"Keras": attempt(keras_fit), "Firstsight": last(run) + f"; kept: {', '.join(kept) or 'nothing'}"}


@case("more epochs for a finished fine-tuning")
def _(here):
    data = noise(here / "data", 20, 32)
    args = ("fine-tune", data, "--weights", WEIGHTS, "--input", "32x32x3", "--crop", "squash", "--out", here / "run2", "--epochs")
    firstsight(here, *args, 1)
    return {"Firstsight": last(firstsight(here, *args, 2, "--resume"))}


@case("more images than memory (an address space of 2.5 GB)")
def _(here):
    data = noise(here / "data", 130, 16)

    def limited():
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2_500_000_000, 2_500_000_000))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    command = [BINARY, "train", data, "--model", "small-cnn", "--input", "2048x2048x3", "--epochs", "1", "--cache", here / "cache"]
    run = subprocess.run(command, cwd=here, capture_output=True, text=True, preexec_fn=limited, timeout=600)
    return {"Firstsight": last((run.returncode, run.stdout, run.stderr))}


@case("a cache folder that cannot be written")
def _(here):
    data = noisy_folder(here)
    command = [BINARY, "train", data, "--model", "logistic", "--input", "16x16x3", "--epochs", "1", "--out", here / "run2"]
    run = subprocess.run([*map(str, command), "--cache", "/proc/cache"], cwd=here, capture_output=True, text=True)

    def ultralytics_cache():
        (data.parent / "data.cache").mkdir()
        return ultralytics_folder(data)

    return {
        "Ultralytics": "a folder in the place of its cache: " + attempt(ultralytics_cache),
        "Firstsight": said((run.returncode, run.stdout, run.stderr), "cache", "/proc"),
    }


@case("weights under `module.`, under torchvision's names, and as a pickle")
def _(here):
    import timm
    from safetensors.torch import load_file, save_file
    from torchvision.models import mobilenet_v2

    tensors = load_file(str(WEIGHTS / "model.safetensors"))
    for folder in ("module", "pickle"):
        (here / folder).mkdir()
        shutil.copy(WEIGHTS / "config.json", here / folder / "config.json")
    save_file({f"module.{name}": value for name, value in tensors.items()}, here / "module/model.safetensors")
    theirs = [name for name in mobilenet_v2().state_dict() if not name.endswith("num_batches_tracked")]
    ours = [n for n in timm.create_model("mobilenetv2_100").state_dict() if not n.endswith("num_batches_tracked")]
    save_file({name: tensors[own] for name, own in zip(theirs, ours)}, here / "torchvision.safetensors")
    torch.save(tensors, here / "pickle/pytorch_model.bin")

    def load(path):
        def loaded():
            from timm.models import load_checkpoint

            load_checkpoint(timm.create_model("mobilenetv2_100"), str(path))
            return "read"

        return attempt(loaded)

    files = [here / "module/model.safetensors", here / "torchvision.safetensors", here / "pickle/pytorch_model.bin"]
    mine = [tops_of(predicted(here, PHOTO, weights=w)) for w in (here / "module", here / "torchvision.safetensors", here / "pickle")]
    return {"timm": "; ".join(load(path) for path in files), "Firstsight": "; ".join(mine)}


@case("weights with one NaN")
def _(here):
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(WEIGHTS / "model.safetensors"))
    tensors["conv_head.weight"].view(-1)[5] = float("nan")
    (here / "nan").mkdir()
    shutil.copy(WEIGHTS / "config.json", here / "nan/config.json")
    save_file(tensors, here / "nan/model.safetensors")
    top = attempt(timm_top, PHOTO, here / "nan/model.safetensors")
    return {"timm": top, "Firstsight": tops_of(predicted(here, PHOTO, weights=here / "nan"))}


@case("a hub behind a private certificate authority, named by SSL_CERT_FILE")
def _(here):
    import ssl
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    run = lambda *args: subprocess.run(args, cwd=here, check=True, capture_output=True)
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Own")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=localhost")
    (here / "names").write_text("subjectAltName=DNS:localhost\n")
    run("openssl", "x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "own.pem")

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.wfile.write(self.answer())

        def answer(self):
            path = WEIGHTS / self.path.split("?")[0].rsplit("/", 1)[-1]
            data = path.read_bytes() if path.is_file() else b""
            self.send_response(200 if data else 404)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", '"' + f"{len(data):040x}" + '"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(here / "own.pem", here / "own.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"https://localhost:{server.server_port}"
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(here / "hf"), "SSL_CERT_FILE": str(here / "ca.pem")}
    ask = "from huggingface_hub import hf_hub_download as d; d('owner/name', 'config.json'); print('read')"
    theirs = subprocess.run([sys.executable, "-c", ask], env=environment | {"HF_HOME": str(here / "hf2")}, capture_output=True, text=True)
    lines = (theirs.stdout + theirs.stderr).strip().splitlines()
    command = [BINARY, "predict", "--pretrained", "mobilenet-v2", "--weights", "owner/name", "--top", "1", "--json", PHOTO]
    mine = subprocess.run(list(map(str, command)), env=environment, cwd=here, capture_output=True, text=True)
    server.shutdown()
    return {"huggingface_hub": lines[-1][:120], "Firstsight": tops_of((mine.returncode, mine.stdout, mine.stderr))}


@case("a search whose trials all fail for one reason")
def _(here):
    def optuna_fails():
        import optuna

        def objective(trial):
            trial.suggest_float("x", 0, 1)
            raise ValueError("no such folder")

        study = optuna.create_study()
        study.optimize(objective, 10, catch=(ValueError,))
        try:
            return study.best_trial
        except ValueError as error:
            return f"runs all {len(study.trials)} trials; then best_trial: {error}"

    data = noise(here / "data", 10)
    run = firstsight(
        here, "tune", data, "--model", "alexnet", "--input", "16x16x3", "--epochs", 1, "--trials", 10, "--report", here / "p.html"
    )
    return {"Optuna": attempt(optuna_fails), "Firstsight": "(an input too small for the network) " + last(run)}


@case("a study's storage `sqlite:///study.db`")
def _(here):
    def optuna_sqlite():
        import optuna

        optuna.create_study(storage=f"sqlite:///{here}/study.db")
        return "created"

    data = noise(here / "data", 10)
    run = firstsight(
        here, "tune", data, "--model", "logistic", "--input", "16x16x3", "--epochs", 1, "--trials", 2, "--storage", "sqlite:///own.db"
    )
    return {"Optuna": attempt(optuna_sqlite), "Firstsight": last(run)}


@case("a stored search goes on with one model more")
def _(here):
    def optuna_grows():
        import optuna

        study = optuna.create_study()
        study.optimize(lambda t: len(t.suggest_categorical("model", ["a", "b"])), 2)
        study.optimize(lambda t: len(t.suggest_categorical("model", ["a", "b", "c"])), 1)
        return "goes on"

    data = noise(here / "data", 10)
    args = ("tune", data, "--model", "logistic", "--input", "16x16x1", "--epochs", 1, "--storage", "s.log", "--trials")
    firstsight(here, *args, 2)
    run = firstsight(here, *args, 4, "--model", "lenet5", "--study", "two", "--from-study", "firstsight")
    return {"Optuna": attempt(optuna_grows), "Firstsight": said(run, "taken over", "best:")}


@case("a new labeled folder is measured")
def _(here):
    run = firstsight(here, "evaluate", run_folder(here), noise(here / "new", 10, seed=9))
    return {"Firstsight": said(run, "images")}


@case("two photos are added to the folder, then `evaluate` (labels are random)")
def _(here):
    data = noise(here / "data", 100, 24)
    args = ("fine-tune", data, "--weights", WEIGHTS, "--input", "32x32x3", "--crop", "squash", "--preset", "quick", "--out", here / "run2")
    firstsight(here, *args)
    before = said(firstsight(here, "evaluate", here / "run2", data), "accuracy")
    noise(data, 1, 24, 99, "a")
    return {"Firstsight": f"before: {before}; after: {said(firstsight(here, 'evaluate', here / 'run2', data), 'accuracy')}"}


@case("which photos were wrong?")
def _(here):
    run = run_folder(here)
    files = sorted(path.name for path in run.iterdir())
    rows = (run / "predictions.csv").read_text().splitlines() if (run / "predictions.csv").exists() else ["nothing"]
    return {"Firstsight": f"{', '.join(files)}; predictions.csv: {rows[0]}"}


@case("precision, recall and F1 of each class")
def _(here):
    run = firstsight(here, "evaluate", run_folder(here), here / "known", "--json")
    per_class = json.loads(run[1])["per_class"][0]
    return {"Firstsight": "evaluate --json has of each class: " + ", ".join(per_class)}


def cell(text):
    without_time = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z +WARN ", "", str(text))
    return " ".join(re.sub("<(?!br>)", "&lt;", without_time).replace("|", "\\|").split())


def main():
    global WEIGHTS, BINARY, PHOTO
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firstsight", required=True, type=Path)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--photo", required=True, type=Path, help="a JPEG of 300 pixels or more")
    parser.add_argument("--only", help="numbers of cases, from 1")
    args = parser.parse_args()
    BINARY, WEIGHTS, PHOTO = (path.resolve() for path in (args.firstsight, args.weights, args.photo))
    chosen = {int(n) for n in args.only.split(",")} if args.only else set(range(1, len(CASES) + 1))
    # Once for all processes, which are forks of this one. Not Ultralytics, which changes how Pillow opens files.
    for name in ("torchvision", "timm", "timm.data", "keras", "optuna"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    print("| | input | torchvision, timm | Ultralytics, Keras, Optuna | Firstsight |\n| --- | --- | --- | --- | --- |")
    for number, (title, function) in enumerate(CASES, 1):
        if number not in chosen:
            continue
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder).resolve()
            os.environ["YOLO_CONFIG_DIR"] = str(here / "yolo")
            try:
                sides = function(here)
            except Exception as error:
                sides = {"Firstsight": f"this script failed: {words(error)}"}
            text = lambda text: cell(text).replace(f"{here}/", "").replace(str(here), "FOLDER")
            first = [f"{s}: {sides[s]}" for s in ("torchvision", "timm", "huggingface_hub") if s in sides]
            second = [f"{s}: {sides[s]}" for s in ("Ultralytics", "Keras", "Optuna") if s in sides]
            row = [number, title, "<br>".join(first) or "—", "<br>".join(second) or "—", sides["Firstsight"]]
            print("| " + " | ".join(map(text, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
