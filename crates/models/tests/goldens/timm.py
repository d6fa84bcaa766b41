"""What timm's networks make of weights and inputs that a formula gives (formulas.py), so that the test can make the same ones:
the number of parameters; features, pre-logits and logits in inference at two sizes of input; and for some networks the same in
training, with the running statistics after one forward pass and the gradient of every parameter after one backward pass.
Everything in float64, and how far float32 is from it in PyTorch. Also what timm states of published weights.

    python timm.py [--full] [--out FOLDER] [FAMILY …]     # timm 1.0.31, torch 2.15, numpy

timm/FAMILY.txt names the networks of a family, one a line, after a line `sizes HxW HxW`; `train` behind a name asks for its
training. Writes FAMILY.json beside it, or into FOLDER. With --full every network is trained.
"""

import argparse
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
# Not this script, which has the package's name.
sys.path = [path for path in sys.path if pathlib.Path(path or ".").resolve() != HERE]

import numpy as np
import timm
import torch

sys.path.insert(1, str(HERE))
sys.modules["timm"] = timm

from formulas import CLASSES, digest, images, labels, number, value

BATCH, TRAIN_BATCH = 2, 4


def create(name, size):
    """The network for images of this size, in float64."""
    module = sys.modules[timm.model_entrypoint(name).__module__].__name__
    fixed = any(part in module for part in ("vision_transformer", "swin", "deit"))
    settings = {"img_size": size} if fixed else {}
    if "swin" in module:
        settings["drop_path_rate"] = 0.0
    return timm.create_model(name, num_classes=CLASSES, **settings).double()


def fill(model):
    """Sets every tensor by its name. Buffers that follow from the architecture are left."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith(("num_batches_tracked", "relative_position_index", "attn_mask")):
                tensor.copy_(torch.from_numpy(value(name, tuple(tensor.shape), number(name), 3.0)))


def steps(model, x):
    """features, pre-logits and logits."""
    features = model.forward_features(x)
    pre_logits = model.forward_head(features, pre_logits=True)
    # Swin's maps have the channels last, and ours first.
    if features.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC":
        features = features.permute(0, 3, 1, 2)
    return {"features": features, "pre_logits": pre_logits, "logits": model.get_classifier()(pre_logits)}


def array(tensor):
    return tensor.detach().cpu().numpy()


def digests(tensors):
    return {name: digest(array(tensor)) for name, tensor in tensors.items()}


def deviation(exact, rounded):
    """The largest relative distance of float32's tensors from float64's, of those that aren't zero but for rounding."""
    largest = max(float(tensor.norm()) for tensor in exact.values())
    relevant = [name for name, tensor in exact.items() if float(tensor.norm()) > 1e-9 * largest]
    distance = lambda name: float((rounded[name].double() - exact[name]).norm() / exact[name].norm())
    return float(f"{max(map(distance, relevant)):.2g}")


def inference(model, size):
    x = torch.from_numpy(images(BATCH, *size))
    with torch.no_grad():
        exact = steps(model.double().eval(), x)
        rounded = steps(model.float(), x.float())
    model.double()
    return {"size": size, "outputs": digests(exact), "float32": deviation(exact, rounded)}


def is_smooth(model):
    """Whether its derivative is continuous: no ReLU, no hard activation, no max pooling."""
    corners = ("relu", "hard", "maxpool")
    return not any(part in type(module).__name__.lower() for module in model.modules() for part in corners)


def one_step(model, x):
    """Outputs, running statistics, gradients and the loss of a forward and a backward pass in training."""
    fill(model)
    model.train().zero_grad()
    outputs = steps(model, x)
    loss = torch.nn.functional.cross_entropy(outputs["logits"], labels(len(x)))
    loss.backward()
    statistics = {name: tensor.clone() for name, tensor in model.state_dict().items() if "running_" in name}
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {k: v.detach() for k, v in outputs.items()}, statistics, grads, float(loss.detach())


def training(model, size):
    x = torch.from_numpy(images(TRAIN_BATCH, *size))
    outputs, statistics, grads, loss = one_step(model.double(), x)
    rounded = one_step(model.float(), x.float())
    model.double()
    return {
        "size": size,
        "outputs": digests(outputs),
        "statistics": digests(statistics),
        "grads": digests(grads),
        "loss": loss,
        "float32": deviation(outputs | statistics, rounded[0] | rounded[1]),
        "float32_grads": deviation(grads, rounded[2]),
        "smooth": is_smooth(model),
    }


def published(name):
    """What timm states of the weights that it takes for the name alone, if there are some."""
    stated = timm.get_pretrained_cfg(name)
    if not stated.hf_hub_id:
        return None
    keys = ("hf_hub_id", "license", "input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std", "num_classes")
    return {key: getattr(stated, key) for key in keys}


def case(name, sizes, train):
    found = {"published": published(name), "inference": []}
    for size in sizes:
        model = create(name, size)
        fill(model)
        found["inference"].append(inference(model, size))
        # Position embeddings are as many as the first size wants.
        found.setdefault("n_params", sum(p.numel() for p in model.parameters()))
    if train:
        found["training"] = training(create(name, sizes[0]), sizes[0])
    print(name, found["n_params"], found["inference"][0]["float32"], found["training"]["float32_grads"] if train else "", flush=True)
    return found


def family(text, full):
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    (_, *sizes), *networks = lines
    sizes = [[int(side) for side in size.split("x")] for size in sizes]
    return {name: case(name, sizes, full or "train" in options) for name, *options in networks}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "timm")
    parser.add_argument("families", nargs="*")
    args = parser.parse_args()
    torch.manual_seed(0)
    versions = {m.__name__: m.__version__ for m in (timm, torch, np)}
    for path in sorted((HERE / "timm").glob("*.txt")):
        if not args.families or path.stem in args.families:
            golden = {"versions": versions, "cases": family(path.read_text(), args.full)}
            (args.out / f"{path.stem}.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
