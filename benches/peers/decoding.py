"""Image files as this project and Pillow read them: one table.

    git clone https://github.com/python-pillow/Pillow; git clone https://github.com/image-rs/image
    cargo build --release -p firstsight-data --example decoded
    python benches/peers/decoding.py target/release/examples/decoded Pillow/Tests/images image/tests/images

Each file is read in Pillow's way, with a time limit, and compared with `Image.open(file).convert("RGB")`.
"""

import argparse
import collections
import os
import pathlib
import select
import subprocess
import tempfile
import threading
import warnings

import numpy as np
import PIL
from PIL import Image

READ = {"BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP"}
SECONDS = 30


def pillow(path):
    """Pixels, or the error in words, and the format."""
    try:
        with Image.open(path) as image:
            kind = image.format
            return np.asarray(image.convert("RGB")), kind
    except Exception as error:  # Pillow raises whatever its plugins raise.
        return f"{type(error).__name__}: {error}", None


def send(pipe, text):
    try:
        pipe.write(text)
        pipe.close()
    except BrokenPipeError:
        pass


def ours(binary, paths, folder):
    """Yields the answers of the example, `hang` for a file that takes too long, `died` for one that ends the process."""
    done = 0
    while done < len(paths):
        start = done
        process = subprocess.Popen([binary, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        text = "".join(f"{path}\n" for path in paths[start:]).encode()
        threading.Thread(target=send, args=(process.stdin, text), daemon=True).start()
        buffer = b""
        while done < len(paths):
            ready, _, _ = select.select([process.stdout], [], [], SECONDS)
            chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not chunk:
                process.kill()
                done += 1
                yield ("died" if ready else "hang"), None
                break
            buffer += chunk
            *whole, buffer = buffer.split(b"\n")
            for line in whole:
                state, *rest = line.decode().split("\t")
                pixels = None
                if state == "ok":
                    file = pathlib.Path(folder, str(done - start))
                    pixels = np.fromfile(file, np.uint8).reshape(int(rest[1]), int(rest[0]), 3)
                    file.unlink()
                done += 1
                yield state, pixels if state == "ok" else rest[0]
        process.wait()


def compare(path, state, found):
    """The verdict on a file, and its reason."""
    expected, kind = pillow(path)
    theirs = not isinstance(expected, str)
    if state not in ("ok", "error"):
        return state, str(kind)
    if state == "error":
        if not theirs:
            return "refused by both", ""
        return "only Pillow" if kind in READ else "another format", f"{kind}: {found}"
    if not theirs:
        return "only here", expected
    if expected.shape != found.shape:
        return "different", f"{kind}: {expected.shape} against {found.shape}"
    gap = np.abs(expected.astype(np.int16) - found)
    if gap.any():
        return "different", f"{kind}: up to {gap.max()}, in {(gap > 0).mean():.1%} of the samples"
    return "same", ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("suites", nargs="+", type=pathlib.Path)
    parser.add_argument("--list", action="store_true", help="name the files that are not the same")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = 125_000_000  # Pillow refuses twice as many.
    print(f"Pillow {PIL.__version__}")
    for suite in args.suites:
        paths = sorted(path for path in suite.rglob("*") if path.is_file())
        count, named = collections.Counter(), []
        with tempfile.TemporaryDirectory() as folder:
            for path, (state, found) in zip(paths, ours(args.binary, paths, folder), strict=True):
                verdict, why = compare(path, state, found)
                count[verdict] += 1
                if why:
                    named.append(f"  {verdict}: {path.relative_to(suite)}: {why}")
        print(f"{suite}: {len(paths)} files: " + ", ".join(f"{n} {verdict}" for verdict, n in count.most_common()))
        if args.list:
            print("\n".join(sorted(named)))


if __name__ == "__main__":
    main()
