"""Memory and speed on many small images: peak anonymous memory and images per second of each command.

Makes N PNG files of 32 x 32 in class folders, or with --shards N images in tar archives, in DIR, runs the commands on them, prints
a row of the table in crates/transfer/README.md for each, and removes DIR. Anonymous memory is RssAnon of /proc/PID/status: pages of
mapped files don't count. Linux; Python's standard library alone.

    cargo build --release --package firstsight
    python3 benches/many_images.py --command target/release/firstsight --images 100000 --dir /tmp/many
    python3 benches/many_images.py --command target/release/firstsight --images 1000000 --shards --dir /tmp/many
"""

import argparse
import io
import random
import resource
import shutil
import struct
import subprocess
import tarfile
import time
import zlib
from pathlib import Path

CLASSES = 10
SIDE, BLOCK = 32, 4
SHARD = 50_000


def png(number):
    """8 x 8 blocks of random colors, tinted by class: some 300 bytes, no two alike."""
    draw = random.Random(number)
    tint = [(number % CLASSES * step) % 256 for step in (97, 51, 23)]
    rows = b""
    for _ in range(SIDE // BLOCK):
        noise = draw.randbytes(3 * SIDE // BLOCK)
        blocks = [(noise[i] + tint[i % 3]) // 2 for i in range(len(noise))]
        row = b"".join(bytes(blocks[i : i + 3]) * BLOCK for i in range(0, len(blocks), 3))
        rows += (b"\0" + row) * BLOCK

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")


def name(number):
    return f"class_{number % CLASSES}/{number:07}.png"


def folders(root, n):
    for label in range(CLASSES):
        (root / f"class_{label}").mkdir(parents=True)
    for number in range(n):
        (root / name(number)).write_bytes(png(number))


def shards(root, n):
    root.mkdir(parents=True)
    for start in range(0, n, SHARD):
        with tarfile.open(root / f"{start // SHARD:05}.tar", "w") as archive:
            for number in range(start, min(n, start + SHARD)):
                member, data = tarfile.TarInfo(name(number)), png(number)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def anonymous(process):
    """RssAnon in MB, 0 once the process is over."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 / 1e6 if lines else 0.0


def processor_time():
    """Seconds of all commands that have ended, which other work on the machine changes less than the clock's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(title, command, n, out):
    started, before, peak = time.monotonic(), processor_time(), 0.0
    with open(out, "wb") as output, open(f"{out}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=output, stderr=log)
        while process.poll() is None:
            peak = max(peak, anonymous(process))
            time.sleep(0.02)
    seconds = time.monotonic() - started
    said = "" if process.returncode in (0, 1) else f" (ended with {process.returncode}: see {out}.log)"
    used = processor_time() - before
    print(f"| {title} | {n:,} | {peak:.0f} | {seconds:.0f} | {n / seconds:,.0f} | {used:.0f} |{said}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--command", required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--shards", action="store_true")
    parser.add_argument("--weights", type=Path, help="a backbone, for the rows of fine-tune at 32 x 32 pixels")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="titles of rows")
    parser.add_argument("--keep", action="store_true", help="keep DIR, and take the images that are in it")
    args = parser.parse_args()
    data, run = args.dir / "images", args.dir / "run"
    if not data.exists():
        (shards if args.shards else folders)(data, args.images)
    cached = [args.command, "--cache", str(args.dir / "cache")]
    train = ["train", data, "--model", "small-cnn", "--input", "32x32x3", "--epochs", "1", "--batch-size", "128"]
    rows = [
        ("dataset stats", [*cached, "dataset", "stats", data]),
        ("dataset check --quick", [*cached, "dataset", "check", data, "--quick"]),
        ("train, decoding to the cache", [*cached, *train, "--out", run]),
        ("train, from the cache", [*cached, *train, "--out", args.dir / "again"]),
        ("train --no-cache", [args.command, *train, "--no-cache", "--out", args.dir / "without"]),
        ("evaluate --split all", [*cached, "evaluate", run, data, "--split", "all"]),
        ("predict --csv", [*cached, "predict", "--run", run, data, "--csv"]),
    ]
    if args.weights:
        tune = ["fine-tune", data, "--weights", args.weights, "--preset", "quick", "--input", "32x32x3"]
        rows.append(("fine-tune quick", [*cached, *tune, "--out", args.dir / "tuned"]))
        rows.append(("fine-tune quick, features from the cache", [*cached, *tune, "--out", args.dir / "tuned-again"]))
    print("| command | images | peak RssAnon, MB | seconds | images per second | seconds of processor time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for title, command in rows:
        if not args.only or title in args.only:
            slug = "".join(sign if sign.isalnum() else "-" for sign in title)
            measure(title, [str(part) for part in command], args.images, args.dir / slug)
    if not args.keep:
        shutil.rmtree(args.dir)


if __name__ == "__main__":
    main()
