"""Writes imagenet-1k.txt: the 1,000 classes of ImageNet-1k in the order of networks' outputs, one a line, each by the
first word of its WordNet synset.

    pip install timm==1.0.31
    python make.py
"""

from pathlib import Path

from timm.data import ImageNetInfo

info = ImageNetInfo("imagenet-1k")
names = [info.index_to_description(i).split(", ")[0] for i in range(info.num_classes())]
assert len(names) == 1000
Path(__file__).with_name("imagenet-1k.txt").write_text("\n".join(names) + "\n")
