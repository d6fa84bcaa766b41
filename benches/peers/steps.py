"""The PyTorch side of `cargo xtask bench --python PYTHON`: the same networks, batches and steps.

    python steps.py --item A --mode train --variant channels_last [--threads N]

The program builds the item's network, warms up, and prints a JSON line with the version, the threads and the parameters.
Each line read from standard input, `SECONDS`, makes it run steps for at least that long, and at least three steps, and print
their milliseconds as a JSON list. At the end of the input it prints the process's memory in MiB. Only torch is needed; the
`compile` variants also need a C++ compiler, `onnxruntime` (inference alone) onnx and onnxruntime, items G to J timm. A training
step is forward, cross-entropy on logits, backward, Adam. `features` is the forward pass without the last layer. `fine-tune` is
a training step of the part from `--unfreeze-from` on, with batch norm in inference mode, by AdamW.
"""

import argparse
import json
import sys
import time

import torch
from torch import nn


class Scale(nn.Module):
    """Bytes to [0, 1], as the lecture's networks begin."""

    def forward(self, x):
        return x * (1 / 255)


def small_cnn():
    layers = [Scale()]
    for c_in, c_out, pool in ((1, 16, 2), (16, 32, 2), (32, 64, 4)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(960, 64), nn.ReLU(), nn.Linear(64, 55))


def logistic():
    return nn.Sequential(Scale(), nn.Flatten(), nn.Linear(4800, 55))


def lenet5():
    """LeCun et al. 1998 with plain average pooling, full connections and a dense output."""
    layers = [Scale()]
    for c_in, c_out in ((1, 6), (6, 16)):
        layers += [nn.Conv2d(c_in, c_out, 5), nn.Tanh(), nn.AvgPool2d(2)]
    layers += [nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))


def alexnet():
    """Krizhevsky et al. 2012 on one device: no groups, no response normalization."""

    def conv(c_in, c_out, kernel, **settings):
        return [nn.Conv2d(c_in, c_out, kernel, **settings), nn.ReLU()]

    def dense(n_in, n_out):
        return [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout()]

    return nn.Sequential(
        *conv(3, 96, 11, stride=4), nn.MaxPool2d(3, 2),
        *conv(96, 256, 5, padding=2), nn.MaxPool2d(3, 2),
        *conv(256, 384, 3, padding=1), *conv(384, 384, 3, padding=1), *conv(384, 256, 3, padding=1),
        nn.MaxPool2d(3, 2), nn.Flatten(),
        *dense(9216, 4096), *dense(4096, 4096), nn.Linear(4096, 1000),
    )  # fmt: skip


def conv_norm(c_in, c_out, kernel, stride=1, padding=0, groups=1, act=None):
    layers = [nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(c_out)]
    return layers + ([act()] if act else [])


class InvertedResidual(nn.Module):
    """Sandler et al. 2018, figure 4d."""

    def __init__(self, c_in, c_out, stride, expansion):
        super().__init__()
        wide = c_in * expansion
        layers = conv_norm(c_in, wide, 1, act=nn.ReLU6) if expansion > 1 else []
        layers += conv_norm(wide, wide, 3, stride, 1, wide, nn.ReLU6) + conv_norm(wide, c_out, 1)
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def mobilenet_v2():
    """Sandler et al. 2018, table 2."""
    layers, c_in = conv_norm(3, 32, 3, 2, 1, act=nn.ReLU6), 32
    for expansion, c_out, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(repeats):
            layers.append(InvertedResidual(c_in, c_out, stride if i == 0 else 1, expansion))
            c_in = c_out
    layers += conv_norm(320, 1280, 1, act=nn.ReLU6) + [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, 1000))


def index_in_mobilenet_v2(block):
    """The index in `mobilenet_v2`'s layers at which timm's block begins."""
    starts, at = {"stem": 0}, 3
    for i, repeats in enumerate((1, 2, 3, 4, 3, 3, 1)):
        starts[f"blocks.{i}"] = at
        at += repeats
    return (starts | {"conv_head": at, "classifier": at + 5})[block]


def separable(c_in, c_out):
    return [nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False)] + conv_norm(c_in, c_out, 1)


class XceptionBlock(nn.Module):
    """Separable convolutions with a residual connection."""

    def __init__(self, channels, stride, first_relu=True):
        super().__init__()
        layers = []
        for c_in, c_out in zip(channels, channels[1:]):
            layers += [nn.ReLU()] + separable(c_in, c_out)
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.layers = nn.Sequential(*layers[0 if first_relu else 1 :])
        changes = stride > 1 or channels[0] != channels[-1]
        self.skip = nn.Sequential(*(conv_norm(channels[0], channels[-1], 1, stride) if changes else []))

    def forward(self, x):
        return self.layers(x) + self.skip(x)


def xception():
    """Chollet 2017, figure 5."""
    return nn.Sequential(
        *conv_norm(3, 32, 3, 2, act=nn.ReLU), *conv_norm(32, 64, 3, act=nn.ReLU),
        XceptionBlock((64, 128, 128), 2, first_relu=False),
        XceptionBlock((128, 256, 256), 2), XceptionBlock((256, 728, 728), 2),
        *(XceptionBlock((728, 728, 728, 728), 1) for _ in range(8)),
        XceptionBlock((728, 728, 1024), 2),
        *separable(1024, 1536), nn.ReLU(), *separable(1536, 2048), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000),
    )  # fmt: skip


def of_timm(name):
    def build():
        import timm

        return timm.create_model(name)

    return build


# network, (batch, channels, height, width), classes
ITEMS = {
    "A": (small_cnn, (128, 1, 80, 60), 55),
    "B": (logistic, (128, 1, 80, 60), 55),
    "C": (lenet5, (128, 1, 32, 32), 10),
    "D": (alexnet, (16, 3, 227, 227), 1000),
    "E": (mobilenet_v2, (16, 3, 224, 224), 1000),
    "F": (xception, (16, 3, 150, 150), 1000),
    "G": (of_timm("resnet50"), (16, 3, 224, 224), 1000),
    "H": (of_timm("efficientnet_b0"), (16, 3, 224, 224), 1000),
    "I": (of_timm("convnext_tiny"), (16, 3, 224, 224), 1000),
    "J": (of_timm("vit_small_patch16_224"), (16, 3, 224, 224), 1000),
}
VARIANTS = ("eager", "channels_last", "compile", "compile_channels_last", "onnxruntime")


def onnx_step(model, images, threads):
    """A forward pass of ONNX Runtime with its defaults, on as many threads."""
    import io

    import onnxruntime

    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(model, (images,), file, dynamo=False, input_names=["images"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    inputs = {"images": images.numpy()}
    return lambda: session.run(None, inputs)


def make_step(item, mode, variant, batch, unfreeze_from):
    """The function that runs one step, and the number of parameters (of the trained ones for fine-tuning)."""
    network, (usual, *rest), n_classes = ITEMS[item]
    shape = (batch or usual, *rest)
    torch.manual_seed(0)
    model = network()
    n_params = sum(p.numel() for p in model.parameters())
    images = torch.rand(shape) * 255
    labels = torch.arange(shape[0]) * 7 % n_classes
    if variant.endswith("channels_last"):
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    if mode in ("forward", "features"):
        model.eval()
        if mode == "features":
            model = model[:-1]
        if variant == "onnxruntime":
            return onnx_step(model, images, torch.get_num_threads()), n_params
        if variant.startswith("compile"):
            # Weights as constants: batch norm folded, layouts chosen once.
            torch._inductor.config.freezing = True
            model = torch.compile(model)

        def forward():
            with torch.inference_mode() if variant == "eager" else torch.no_grad():
                model(images)

        return forward, n_params

    def loss_of(images, labels):
        return nn.functional.cross_entropy(model(images), labels)

    # The fused step is PyTorch's fastest.
    if mode == "fine-tune":
        model.eval()
        model[: index_in_mobilenet_v2(unfreeze_from)].requires_grad_(False)
        trained = [p for p in model.parameters() if p.requires_grad]
        n_params = sum(p.numel() for p in trained)
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, eps=1e-7, fused=True)
    compute = torch.compile(loss_of) if variant.startswith("compile") else loss_of

    def train():
        optimizer.zero_grad()
        compute(images, labels).backward()
        optimizer.step()

    return train, n_params


def memory():
    """Resident memory in MiB, now and at its peak; None on systems without /proc."""
    try:
        lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
        return [int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")]
    except OSError:
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--item", choices=ITEMS, required=True)
    parser.add_argument("--mode", choices=("forward", "train", "features", "fine-tune"), required=True)
    parser.add_argument("--batch", type=int, metavar="N")
    parser.add_argument("--unfreeze-from", metavar="BLOCK")
    parser.add_argument("--variant", choices=VARIANTS, default="eager")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--warmup", type=int, default=3, metavar="STEPS")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    base = memory()
    step, n_params = make_step(args.item, args.mode, args.variant, args.batch, args.unfreeze_from)
    for _ in range(args.warmup):
        step()
    about = {"name": f"PyTorch {torch.__version__}", "threads": torch.get_num_threads(), "params": n_params}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps(times), flush=True)
    print(json.dumps({"base_mib": base and base[0], "peak_mib": base and memory()[1]}), flush=True)


main()
