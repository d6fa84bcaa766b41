"""What torchvision and Hugging Face's transformers make of their networks, small ones of two blocks or a few, from weights that a formula
gives by their names: the names and shapes in a file of theirs, and the logits (of DINOv2 the class token). Writes names.json
beside it.

    python names.py        # torchvision 0.29, transformers 5.24, torch 2.15, numpy
"""

import json
import pathlib
import tempfile

import numpy as np
import safetensors.torch
import torch
import torchvision
import transformers
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from formulas import CLASSES, digest, images, number, value


def formula(tensors):
    """The weights by the formula; indices are left."""
    return {
        name: torch.from_numpy(value(name, tuple(t.shape), number(name), 3.0)).float() if t.is_floating_point() else t
        for name, t in tensors.items()
    }


def case(tensors, model, size):
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(images(2, *size)).float())
    shapes = {name: list(t.shape) for name, t in sorted(tensors.items()) if t.is_floating_point()}
    return {"size": size, "tensors": shapes, "logits": digest(logits.numpy())}


def of_torchvision(model, size):
    tensors = formula(model.state_dict())
    model.load_state_dict(tensors)
    return case(tensors, model, size)


def of_transformers(model, size, answer):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = pathlib.Path(folder) / "model.safetensors"
        tensors = formula(safetensors.torch.load_file(path))
        safetensors.torch.save_file(tensors, path, {"format": "pt"})
        model = type(model).from_pretrained(folder)
    return case(tensors, torch.nn.Sequential(Answer(model, answer)), size)


class Answer(torch.nn.Module):
    """One of a model's outputs."""

    def __init__(self, model, answer):
        super().__init__()
        self.model, self.answer = model, answer

    def forward(self, x):
        return self.answer(self.model(x))


if __name__ == "__main__":
    logits = lambda outputs: outputs.logits
    vit = dict(num_hidden_layers=2, num_attention_heads=3, hidden_size=48, intermediate_size=192)
    convnext = dict(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 2, 1], num_labels=CLASSES)
    swin = dict(image_size=224, embed_dim=12, depths=[1, 2, 1, 1], num_heads=[3, 6, 12, 24], num_labels=CLASSES)
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 32, 1), CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 1)]
    cases = {
        "torchvision ViT": of_torchvision(VisionTransformer(64, 16, 2, 3, 48, 192, num_classes=CLASSES), [64, 64]),
        "torchvision Swin": of_torchvision(
            SwinTransformer([4, 4], 12, [1, 2, 1, 1], [3, 6, 12, 24], [7, 7], num_classes=CLASSES), [224, 224]
        ),
        "torchvision ConvNeXt": of_torchvision(ConvNeXt(blocks, num_classes=CLASSES), [64, 48]),
        "transformers ViT": of_transformers(
            transformers.ViTForImageClassification(transformers.ViTConfig(**vit, image_size=64, num_labels=CLASSES)),
            [64, 64], logits,
        ),
        "transformers DINOv2": of_transformers(
            transformers.Dinov2Model(transformers.Dinov2Config(**vit, image_size=56, patch_size=14)),
            [56, 56], lambda outputs: outputs.last_hidden_state[:, 0],
        ),
        "transformers ConvNeXt": of_transformers(
            transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**convnext)), [64, 48], logits
        ),
        "transformers ConvNeXt V2": of_transformers(
            transformers.ConvNextV2ForImageClassification(transformers.ConvNextV2Config(**convnext)), [64, 48], logits
        ),
        "transformers Swin": of_transformers(
            transformers.SwinForImageClassification(transformers.SwinConfig(**swin)), [224, 224], logits
        ),
    }
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, transformers, np)}
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps({"versions": versions, "cases": cases}, separators=(",", ":")) + "\n")
