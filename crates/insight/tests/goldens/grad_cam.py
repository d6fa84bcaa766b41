"""Says what PyTorch's gradients make of Grad-CAM, for tests/insight.rs: of the lecture's small network and of timm's
MobileNetV2, with weights and images that the test makes by the same formulas.

    pip install torch==2.15.0 timm==1.0.31
    python grad_cam.py

The gradients are autograd's, at hooked layers; maps and weights are multiplied as in the paper (Selvaraju et al. 2017).
"""

import json
from pathlib import Path

import timm
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
M = 1 << 32


def pattern(n, k):
    i = [(i * 2654435761 + k * 40503) % M for i in range(n)]
    return torch.tensor([((h ^ (h >> 15)) * 2246822519 % M) / M for h in i])


def value(name, shape, k):
    u = pattern(shape.numel(), k).reshape(shape)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return 0.5 + u
    if len(shape) == 1:
        return 0.2 * (2 * u - 1)
    return (2 * u - 1) * (6 / shape[1:].numel()) ** 0.5


class SmallCnn(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.dense_1 = nn.Linear(64 * 2 * 1, 64)
        self.dense_2 = nn.Linear(64, classes)
        self.act1, self.act2, self.act3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool3 = nn.MaxPool2d(4)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.act1(self.conv1(x / 255)), 2)
        x = nn.functional.max_pool2d(self.act2(self.conv2(x)), 2)
        x = self.pool3(self.act3(self.conv3(x)))
        return self.dense_2(torch.relu(self.dense_1(x.flatten(1))))


def grad_cam(model, module, images, classes):
    kept = []
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = model(images)
    handle.remove()
    (maps,) = kept
    chosen = logits[range(len(classes)), classes].sum()
    (slopes,) = torch.autograd.grad(chosen, maps)
    return torch.relu((slopes.mean((2, 3), keepdim=True) * maps).sum(1)), logits


def case(model, layers, images, classes):
    names = sorted(n for n in model.state_dict() if not n.endswith("num_batches_tracked"))
    state = {n: value(n, model.state_dict()[n].shape, k) for k, n in enumerate(names)}
    model.load_state_dict(state, strict=False)
    model.eval()
    modules = dict(model.named_modules())
    golden = {"classes": classes, "layers": {}}
    for ours, theirs in layers.items():
        maps, logits = grad_cam(model, modules[theirs], images, classes)
        golden["layers"][ours] = {"shape": list(maps.shape), "values": [round(v, 9) for v in maps.flatten().tolist()]}
    golden["logits"] = [round(v, 9) for v in logits.flatten().tolist()]
    return golden


small = pattern(2 * 32 * 24, 7000).reshape(2, 1, 32, 24) * 255
photo = pattern(2 * 3 * 64 * 48, 8000).reshape(2, 3, 64, 48) * 2 - 1
goldens = {
    "small-cnn": case(SmallCnn(5), {"conv1": "act1", "conv3": "act3", "pool3": "pool3"}, small, [4, 1]),
    "mobilenet-v2": case(
        timm.create_model("mobilenetv2_100", num_classes=10),
        {"blocks.2.2": "blocks.2.2", "blocks.4.2": "blocks.4.2", "bn2": "bn2"},
        photo,
        [1, 5],
    ),
}
Path(__file__).with_suffix(".json").write_text(json.dumps(goldens) + "\n")
