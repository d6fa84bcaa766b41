"""Says what torchvision makes of photos with MobileNetV2's weights, for tests/predict.rs.

    pip install torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 safetensors
    python imagenet_predictions.py WEIGHTS PHOTOS [OUT.json]

WEIGHTS is a folder with config.json and model.safetensors under timm's names. PHOTOS holds images called
<synset>_<label>.JPEG. OUT, by default imagenet_predictions.json beside this script, gets the five most probable classes
of each photo, [index, probability], best first. The last line printed counts photos whose synset is the first and among
the first five.
"""

import json
import sys
from pathlib import Path

import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import v2

weights, photos = Path(sys.argv[1]), Path(sys.argv[2])
out = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).with_suffix(".json")
config = json.loads((weights / "config.json").read_text())["pretrained_cfg"]
model = torchvision.models.mobilenet_v2(num_classes=config["num_classes"]).eval()
# timm's modules have other names and stand in the order in which they run, as torchvision's do.
order = {"conv_pw": 0, "conv_dw": 1, "conv_pwl": 3, "bn1": 0.5, "bn2": 1.5, "bn3": 3.5}
first_block = {"conv_dw": 0, "bn1": 0.5, "conv_pw": 1, "bn2": 1.5}


def place(name):
    part = name.split(".")
    if part[0] == "blocks":
        within = first_block if part[1:3] == ["0", "0"] else order
        return (1, int(part[1]), int(part[2]), within[part[3]])
    return {"conv_stem": (0, 0), "bn1": (0, 1), "conv_head": (2, 0), "bn2": (2, 1), "classifier": (3, 0)}[part[0]]


kinds = ["weight", "bias", "running_mean", "running_var"]
timm = load_file(weights / "model.safetensors")
names = sorted(
    (name for name in timm if not name.endswith("num_batches_tracked")),
    key=lambda name: (place(name), kinds.index(name.split(".")[-1])),
)
theirs = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
assert len(names) == len(theirs)
model.load_state_dict({their: timm[name] for their, name in zip(theirs, names)}, strict=False)

side = int(config["input_size"][1] / config["crop_pct"])
transform = v2.Compose([
    v2.Resize(side, v2.InterpolationMode(config["interpolation"])),
    v2.CenterCrop(config["input_size"][1]),
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(config["mean"], config["std"]),
])
golden, first, five, synsets = {}, 0, 0, None
if (classes := weights.parent / "imagenet-classes.tsv").exists():
    synsets = [line.split("\t")[0] for line in classes.read_text().splitlines()]
for path in sorted(photos.glob("*.JPEG")):
    with torch.no_grad():
        probabilities = model(transform(Image.open(path).convert("RGB"))[None]).softmax(1)[0]
    best = probabilities.topk(5)
    golden[path.name] = [[int(i), round(float(p), 7)] for i, p in zip(best.indices, best.values)]
    if synsets:
        truth = synsets.index(path.name.split("_")[0])
        first += golden[path.name][0][0] == truth
        five += truth in [i for i, _ in golden[path.name]]
lines = [f"{json.dumps(name)}: {json.dumps(best)}" for name, best in golden.items()]
out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(f"{len(golden)} photos, first {first}, among the first five {five}")
