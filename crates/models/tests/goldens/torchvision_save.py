"""Saves torchvision's network of a name with random weights as FOLDER/NAME.safetensors, the images and its logits as
FOLDER/NAME.outputs.safetensors.

    python torchvision_save.py FOLDER NAME …     # torchvision 0.30, torch 2.15, safetensors
"""

import pathlib
import sys

import torch
import torchvision
from safetensors.torch import save_file

folder = pathlib.Path(sys.argv[1])
for name in sys.argv[2:]:
    torch.manual_seed(1)
    model = torchvision.models.get_model(name, weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    images = torch.randn(2, 3, 75, 64)
    with torch.no_grad():
        logits = model.eval()(images)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    save_file({"images": images, "logits": logits}, folder / f"{name}.outputs.safetensors")
