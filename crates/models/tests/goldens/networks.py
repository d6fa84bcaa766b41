"""What timm's, torchvision's and Keras's networks make of weights and inputs that a formula gives, so that the test can
make the same ones: features, pre-logits and logits in inference; the same in training, with the running statistics
after one forward pass and the gradient of every parameter after one backward pass. Everything in float64. Writes
networks.json beside this script.

    KERAS_BACKEND=torch python networks.py        # timm 1.0, torchvision, keras 3, torch, numpy
"""

import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
# timm.py lies beside it.
sys.path = [path for path in sys.path if pathlib.Path(path or ".").resolve() != HERE]

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import timm
import torch
import torchvision

sys.path.append(str(HERE))

import keras_names
from formulas import digest, images, labels, value

CLASSES = 10


def array(tensor):
    return tensor.detach().cpu().numpy()


def fill(state):
    names = sorted(name for name in state if not name.endswith("num_batches_tracked"))
    with torch.no_grad():
        for k, name in enumerate(names):
            state[name].copy_(torch.from_numpy(value(name, tuple(state[name].shape), k)))
    return names


def outputs(features, pre_logits, logits):
    return {"features": digest(array(features)), "pre_logits": digest(array(pre_logits)), "logits": digest(array(logits))}


def steps_of(model):
    """features, pre-logits and logits of a timm or torchvision model."""
    if isinstance(model, torchvision.models.AlexNet):
        def run(x):
            features = model.features(x)
            pre_logits = model.classifier[:-1](torch.flatten(model.avgpool(features), 1))
            return features, pre_logits, model.classifier[-1](pre_logits)
    else:
        def run(x):
            features = model.forward_features(x)
            pre_logits = model.forward_head(features, pre_logits=True)
            return features, pre_logits, model.get_classifier()(pre_logits)
    return run


def torch_case(model, batch, height, width, train):
    """`train`: whether batch norm normalizes by the batch while gradients are taken."""
    model = model.double()
    names = fill(model.state_dict())
    run, x = steps_of(model), torch.from_numpy(images(batch, height, width))
    model.eval()
    with torch.no_grad():
        case = {"batch": batch, "height": height, "width": width, "inference": outputs(*run(x))}
    model.train(train)
    features, pre_logits, logits = run(x)
    loss = torch.nn.functional.cross_entropy(logits, labels(batch))
    loss.backward()
    grads = {name: digest(array(p.grad)) for name, p in model.named_parameters()}
    state = model.state_dict()
    statistics = {name: digest(array(state[name])) for name in names if "running_" in name}
    n_params = sum(p.numel() for p in model.parameters())
    rounded = float32_deviation(model, names, x.float(), batch, train, {n: p.grad.clone() for n, p in model.named_parameters()})
    return case | {
        "float32_deviation": rounded,
        "train": outputs(features, pre_logits, logits) if train else None,
        "loss": float(loss.detach()),
        "grads": grads,
        "statistics": statistics if train else {},
        "n_params": n_params,
    }


def float32_deviation(model, names, x, batch, train, exact):
    """How far PyTorch's own gradients in float32 are from those in float64, at worst."""
    state = model.state_dict()
    with torch.no_grad():
        for k, name in enumerate(names):
            state[name].copy_(torch.from_numpy(value(name, tuple(state[name].shape), k)))
    model = model.float()
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(steps_of(model)(x)[2], labels(batch))
    loss.backward()
    largest = max(float(g.norm()) for g in exact.values())
    deviations = [float((p.grad.double() - exact[n]).norm() / exact[n].norm()) for n, p in model.named_parameters() if exact[n].norm() > 1e-9 * largest]
    model.double()
    return float(f"{max(deviations):.3g}")


def keras_case(build, batch, height, width, last):
    keras.utils.clear_session()
    model = build(input_shape=(height, width, 3))
    tensors = keras_names.variables(model)
    for k, name in enumerate(sorted(tensors)):
        variable, axes = tensors[name]
        shape = tuple(np.array(variable.shape)[list(axes)])
        variable.assign(value(name, shape, k).transpose(np.argsort(axes)))
    parts = keras.Model(model.inputs, [model.get_layer(last).output, model.layers[-2].output, model.output])
    x = torch.from_numpy(images(batch, height, width).transpose(0, 2, 3, 1).copy()).to(model.weights[0].value.device)
    channels_first = lambda found: [found[0].permute(0, 3, 1, 2), *found[1:]]
    with torch.no_grad():
        case = {"batch": batch, "height": height, "width": width, "inference": outputs(*channels_first(parts(x, training=False)))}
    found = channels_first(parts(x, training=True))
    loss = torch.nn.functional.cross_entropy(found[2], labels(batch).to(found[2].device))
    loss.backward()
    ours = lambda values, axes: np.asarray(values).transpose(axes)
    grads = {n: digest(ours(array(v.value.grad), a)) for n, (v, a) in tensors.items() if "running_" not in n}
    statistics = {n: digest(ours(array(v.value), a)) for n, (v, a) in tensors.items() if "running_" in n}
    rows = [[layer.name, type(layer).__name__, list(layer.output.shape[1:]), layer.count_params()] for layer in model.layers]
    return case | {
        "train": outputs(*found),
        "loss": float(loss.detach()),
        "grads": grads,
        "statistics": statistics,
        "n_params": sum(int(np.prod(v.shape)) for v in model.trainable_weights),
        "layers": rows,
    }


def mobilenet(alpha):
    return lambda input_shape: keras.applications.MobileNetV2(
        input_shape=input_shape, alpha=alpha, weights=None, classes=CLASSES, classifier_activation=None
    )


def xception(input_shape):
    return keras.applications.Xception(
        input_shape=input_shape, weights=None, classes=CLASSES, classifier_activation=None
    )


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    # Keras takes float64 for float32 where it works out a common type, so batch norm would round.
    keras.src.backend.result_type = lambda *dtypes: "float64"
    build = lambda name, **settings: timm.create_model(name, num_classes=CLASSES, **settings)
    cases = {
        "timm mobilenetv2_100": torch_case(build("mobilenetv2_100"), 4, 64, 64, True),
        "timm mobilenetv2_050, output stride 16": torch_case(build("mobilenetv2_050", output_stride=16), 4, 65, 47, True),
        "timm mobilenetv2_140, output stride 8": torch_case(build("mobilenetv2_140", output_stride=8), 2, 40, 56, False),
        "timm legacy_xception": torch_case(build("legacy_xception"), 2, 63, 80, True),
        "torchvision alexnet": torch_case(torchvision.models.alexnet(num_classes=CLASSES), 2, 127, 95, False),
        "keras MobileNetV2": keras_case(mobilenet(1.0), 4, 64, 80, "out_relu"),
        "keras MobileNetV2, alpha 0.35": keras_case(mobilenet(0.35), 4, 75, 49, "out_relu"),
        "keras Xception": keras_case(xception, 2, 72, 75, "block14_sepconv2_act"),
    }
    for name, case in cases.items():
        print(name, case["n_params"], case["loss"], case["inference"]["logits"]["norm"])
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, timm, keras, np)}
    golden = {"versions": versions, "cases": cases}
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
