"""Parquet files as Hugging Face's `datasets` writes them, and shards as WebDataset's tools do, of gray PNG images 5x4.

    python lists.py    # pyarrow, Pillow

The i-th image is of one gray, i. Writes lists/*.parquet and lists/*.tar.
"""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).parent / "lists"


def png(gray):
    file = io.BytesIO()
    Image.new("L", (5, 4), gray).save(file, "PNG")
    return file.getvalue()


def metadata(features):
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


CLASSES = {"names": ["wasp", "ant", "bee"], "_type": "ClassLabel"}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(grays):
    return pa.array([{"bytes": png(g), "path": f"{g}.png"} for g in grays], IMAGE)


def write(name, columns, features, **options):
    table = pa.table(columns).replace_schema_metadata(metadata(features))
    pq.write_table(table, OUT / name, **options)


(OUT / "animals/data").mkdir(parents=True, exist_ok=True)
(OUT / "shards").mkdir(exist_ok=True)
FEATURES = {"image": {"_type": "Image"}, "label": CLASSES}
# Several groups of rows, pages of an image or two.
write(
    "animals/data/train-00000-of-00001.parquet",
    {"image": images(range(9)), "label": pa.array([1, 2, 1, 2, 1, 2, 1, 2, 2]), "nest": pa.array(list("aabbccdde"))},
    FEATURES,
    row_group_size=4,
    data_page_size=100,
)
write(
    "animals/data/test-00000-of-00001.parquet",
    {"image": images([20, 21]), "label": pa.array([2, 1]), "nest": pa.array(list("xy"))},
    FEATURES,
    compression="none",
)
write(
    "labels.parquet",
    {
        "img": images([0, 1, 2]),
        "labels": pa.array([[1, 2], [], [0]]),
    },
    {"img": {"_type": "Image"}, "labels": {"feature": CLASSES, "_type": "Sequence"}},
)
# Words instead of numbers, bytes without a struct, one image missing.
write(
    "words.parquet",
    {"image": pa.array([png(7), None, png(9)]), "label": pa.array(["ant", "bee", "bee"])},
    {},
)


def shard(name, members):
    with tarfile.open(OUT / name, "w") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


shard(
    "shards/animals-train-000000.tar",
    [("a/0000.png", png(0)), ("a/0000.cls", b"1"), ("a/0000.json", b'{"nest": "a"}'), ("a/0001.png", png(1)), ("a/0001.cls", b"2")],
)
shard("shards/animals-train-000001.tar", [("b.c/0002.cls", b"1"), ("b.c/0002.seg.png", png(99)), ("x" * 120 + "/0003.png", png(3)), ("x" * 120 + "/0003.cls", b"2")])
shard("shards/animals-val-000000.tar", [("0004.png", png(4)), ("0004.cls", b"2")])
(OUT / "shards/classes.txt").write_text("wasp\nant\nbee\n")
