"""Which Keras variable is which tensor of ours (timm's names), for keras.applications' MobileNetV2 and Xception.

`variables(model)` gives pairs of a tensor's name and a function to and from its layout:

| Keras | ours |
| --- | --- |
| `kernel` of Conv2D, (kh, kw, in, out) | `weight`, (out, in, kh, kw) |
| `kernel` of DepthwiseConv2D, (kh, kw, in, 1) | `weight`, (in, 1, kh, kw) |
| `depthwise_kernel` of SeparableConv2D, (kh, kw, in, 1) | `conv1.weight`, (in, 1, kh, kw) |
| `pointwise_kernel` of SeparableConv2D, (1, 1, in, out) | `pointwise.weight`, (out, in, 1, 1) |
| `gamma`, `beta`, `moving_mean`, `moving_variance` of BatchNormalization | `weight`, `bias`, `running_mean`, `running_var` |
| `kernel` of Dense, (in, out), and `bias` | `weight`, (out, in), and `bias` |

Networks with such weights need Keras's conventions (`Framework::Keras`): "same" padding with the odd pixel at the bottom
and right, batch normalization with an epsilon of 1e-3, a momentum of 0.999 (MobileNetV2) or 0.99 (Xception), and the
biased variance in the running one.

Run as a script, it writes a model's weights as a file that our networks load:

    KERAS_BACKEND=torch python keras_names.py MobileNetV2 model.safetensors    # keras 3, torch, safetensors
"""

import re
import sys


def mobilenet_v2(layer):
    """The prefix of a layer's tensors."""
    fixed = {
        "Conv1": "conv_stem",
        "bn_Conv1": "bn1",
        "Conv_1": "conv_head",
        "Conv_1_bn": "bn2",
        "predictions": "classifier",
    }
    if layer in fixed:
        return fixed[layer]
    match = re.fullmatch(r"(expanded_conv|block_(\d+))_(expand|depthwise|project)(_BN)?", layer)
    index = int(match[2] or 0)
    # The paper's table: the repeats of each stage.
    stage = 0
    for stage, repeats in enumerate([1, 2, 3, 4, 3, 3, 1]):
        if index < repeats:
            break
        index -= repeats
    # The first block does not widen, which moves the names of its parts.
    parts = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    if match[2]:
        parts = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    return f"blocks.{stage}.{index}.{parts[match[3]][1 if match[4] else 0]}"


def xception(layer):
    """The prefix of a layer's tensors."""
    # Keras leaves the shortcuts without names: those of blocks 2, 3, 4 and 13, timm's 1, 2, 3 and 12. The numbers
    # start wherever the session's counters stand, so only their order counts; see `variables`.
    match = re.fullmatch(r"shortcut(\d)(_bn)?", layer)
    if match:
        return f"block{[1, 2, 3, 12][int(match[1])]}.{'skipbn' if match[2] else 'skip'}"
    if layer == "predictions":
        return "fc"
    match = re.fullmatch(r"block(\d+)_(conv|sepconv)(\d)(_bn)?", layer)
    block, number, norm = int(match[1]), int(match[3]), bool(match[4])
    if block == 1:
        return f"{'bn' if norm else 'conv'}{number}"
    if block == 14:
        return f"{'bn' if norm else 'conv'}{number + 2}"
    # timm's `rep`: [ReLU,] separable, norm, ReLU, separable, norm …; its first block starts without a ReLU.
    place = 3 * (number - 1) + (0 if block == 2 else 1) + (1 if norm else 0)
    return f"block{block - 1}.rep.{place}"


PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "kernel": "weight",
    "bias": "bias",
    "depthwise_kernel": "conv1.weight",
    "pointwise_kernel": "pointwise.weight",
}


def axes(layer, part):
    """Where Keras's axes lie in our tensor's order."""
    if part in ("gamma", "beta", "moving_mean", "moving_variance", "bias"):
        return (0,)
    if layer == "Dense":
        return (1, 0)
    if layer == "DepthwiseConv2D" or part == "depthwise_kernel":
        return (2, 3, 0, 1)
    return (3, 2, 0, 1)


def variables(model):
    """{our name: (Keras variable, axes)}."""
    rename = xception if any("sepconv" in layer.name for layer in model.layers) else mobilenet_v2
    tensors, shortcuts = {}, {"Conv2D": 0, "BatchNormalization": 0}
    for layer in model.layers:
        kind, name = type(layer).__name__, layer.name
        if re.fullmatch(r"(conv2d|batch_normalization)(_\d+)?", name):
            name = f"shortcut{shortcuts[kind]}{'_bn' if kind == 'BatchNormalization' else ''}"
            shortcuts[kind] += 1
        for variable in layer.weights:
            part = variable.path.rsplit("/", 1)[-1]
            tensors[f"{rename(name)}.{PARTS[part]}"] = (variable, axes(kind, part))
    return tensors


if __name__ == "__main__":
    import keras
    import numpy as np
    from safetensors.numpy import save_file

    application, path = sys.argv[1:]
    model = getattr(keras.applications, application)(weights="imagenet")
    arrays = {name: np.asarray(v.numpy() if hasattr(v, "numpy") else v).transpose(axes) for name, (v, axes) in variables(model).items()}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
