"""Writes ops.safetensors: inputs, results and gradients of the ops, computed by PyTorch in float64.

    python ops.py        # PyTorch 2, Keras 3 with its torch backend, NumPy, safetensors

Inputs are float32 values. The gradient of each result is `seed`, a tensor of its own. What each case computes stands
in the file's metadata, as JSON.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

generator = torch.Generator().manual_seed(20240607)
tensors, cases = {}, []


def draw(*shape, coarse=False):
    values = torch.randn(shape, generator=generator).float()
    return (values * 2).round() / 2 if coarse else values


ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "tanh": torch.tanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
}


def record(op, args, run, **settings):
    """Runs `run` on float64 copies of `args`, and keeps them, the result, its seed and all gradients."""
    name = f"{len(cases):02}"
    leaves = {key: value.double().requires_grad_() for key, value in args.items()}
    y = run(**leaves)
    seed = draw(*y.shape)
    y.backward(seed.double())
    tensors.update({f"{name}.{key}": value.contiguous() for key, value in args.items()})
    tensors.update({f"{name}.grad_{key}": leaf.grad.contiguous() for key, leaf in leaves.items()})
    tensors.update({f"{name}.y": y.detach().contiguous(), f"{name}.seed": seed})
    cases.append({"op": op, "name": name, **settings})


def padded_conv(x, weight, bias, pad, stride, dilation, groups):
    top, bottom, left, right = pad
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups)


# (batch, c_in, h, w), (c_out, kh, kw), stride, (top, bottom, left, right), dilation, groups, activation
CONVS = [
    ((2, 1, 7, 6), (3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "relu"),
    ((1, 3, 8, 7), (4, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, "relu"),
    ((2, 3, 8, 8), (2, 3, 3), (2, 2), (0, 1, 0, 1), (1, 1), 1, "identity"),
    ((1, 2, 9, 9), (2, 5, 5), (1, 1), (4, 4, 4, 4), (1, 1), 1, "tanh"),
    ((1, 2, 9, 7), (2, 3, 2), (3, 2), (2, 1, 0, 1), (2, 3), 1, "leaky_relu"),
    ((2, 4, 5, 5), (4, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 4, "relu6"),
    ((1, 4, 6, 5), (8, 3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 4, "relu"),
    ((2, 6, 4, 4), (4, 2, 2), (1, 1), (0, 0, 0, 0), (1, 1), 2, "identity"),
    ((1, 1, 1, 1), (1, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, "identity"),
    ((1, 2, 1, 1), (3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "relu"),
    ((3, 5, 4, 3), (18, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, "relu6"),
    ((1, 3, 7, 7), (2, 2, 2), (4, 4), (0, 0, 0, 0), (1, 1), 1, "relu"),
    ((1, 17, 3, 4), (5, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "relu"),
]
for x, (c_out, kh, kw), stride, pad, dilation, groups, activation in CONVS:
    record(
        "conv2d",
        {"x": draw(*x), "weight": draw(c_out, x[1] // groups, kh, kw) * 0.4, "bias": draw(c_out)},
        lambda x, weight, bias: ACTIVATIONS[activation](padded_conv(x, weight, bias, pad, stride, dilation, groups)),
        stride=stride, pad=pad, dilation=dilation, groups=groups, activation=activation,
    )

# kernel, stride, padding, ceil
POOLS = [
    ((2, 2), (2, 2), (0, 0), False),
    ((3, 3), (2, 2), (0, 0), False),
    ((3, 3), (2, 2), (1, 1), False),
    ((3, 2), (1, 3), (1, 1), True),
    ((2, 3), (3, 2), (0, 1), True),
    ((4, 4), (4, 4), (0, 0), False),
    ((1, 1), (2, 2), (0, 0), True),
]
for kernel, stride, padding, ceil in POOLS:
    pool = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil}
    for size, coarse in (((2, 2, 7, 6), False), ((1, 2, 5, 8), True)):
        # Coarse values are equal to each other often.
        x = {"x": draw(*size, coarse=coarse)}
        record("max_pool2d", x, lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil), **pool)
    for include in (True, False):
        record(
            "avg_pool2d",
            {"x": draw(1, 2, 7, 6)},
            lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, include),
            count_include_pad=include, **pool,
        )
    for x, c_out, pad, activation in (((2, 3, 9, 8), 5, (1, 1, 1, 1), "relu"), ((1, 2, 10, 9), 17, (0, 2, 1, 0), "tanh")):
        record(
            "conv2d_max_pool",
            {"x": draw(*x), "weight": draw(c_out, x[1], 3, 3) * 0.3, "bias": draw(c_out)},
            lambda x, weight, bias: F.max_pool2d(
                ACTIVATIONS[activation](padded_conv(x, weight, bias, pad, (1, 1), (1, 1), 1)),
                kernel, stride, padding, ceil_mode=ceil,
            ),
            conv_stride=(1, 1), pad=pad, dilation=(1, 1), groups=1, activation=activation, **pool,
        )
record("global_avg_pool2d", {"x": draw(2, 3, 5, 4)}, lambda x: x.mean((2, 3)))

for activation, run in ACTIVATIONS.items():
    # Zeros and sixes among them: the corners.
    x = torch.cat([draw(10) * 4, torch.tensor([0.0, -0.0, 6.0, 7.0, -1.0])])
    record("activate", {"x": x}, lambda x: run(x), activation=activation)
    record(
        "linear",
        {"x": draw(5, 7), "weight": draw(4, 7), "bias": draw(4)},
        lambda x, weight, bias: run(F.linear(x, weight, bias)),
        activation=activation,
    )

labels = torch.tensor([0, 4, 2, 2, 1, 3])
record("softmax_cross_entropy", {"x": draw(6, 5) * 5}, lambda x: F.cross_entropy(x, labels), labels=labels.tolist())


def record_steps(op, optimiser_of, assign=None, **settings):
    """Five steps of an optimiser over given gradients."""
    name = f"{len(cases):02}"
    start, grads = draw(6), [draw(6) * 10 ** (-i) for i in range(5)]
    tensors[f"{name}.start"], tensors[f"{name}.grads"] = start, torch.stack(grads)
    param = torch.nn.Parameter(start.double())
    if assign:
        variable = keras.Variable(start.double().numpy(), dtype="float64")
        with torch.no_grad():
            for grad in grads:
                optimiser_of.apply([torch.tensor(grad.double().numpy())], [variable])
        end = torch.tensor(np.asarray(variable.value.detach()))
    else:
        optimiser = optimiser_of([param])
        for grad in grads:
            param.grad = grad.double()
            optimiser.step()
        end = param.detach()
    tensors[f"{name}.end"] = end
    cases.append({"op": op, "name": name, **settings})


keras.config.set_floatx("float64")
adam = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3}
keras_adam = keras.optimizers.Adam(adam["lr"], adam["beta1"], adam["beta2"], adam["epsilon"])
record_steps("adam", keras_adam, assign=True, placement="keras", weight_decay=0.0, **adam)
betas = (adam["beta1"], adam["beta2"])
for decay in (0.0, 0.1):
    record_steps(
        "adam",
        lambda params: torch.optim.AdamW(params, adam["lr"], betas, adam["epsilon"], decay),
        placement="pytorch", weight_decay=decay, **adam,
    )
for momentum, nesterov, decay in ((0.0, False, 0.0), (0.9, False, 0.01), (0.8, True, 0.01)):
    record_steps(
        "sgd",
        lambda params: torch.optim.SGD(params, 0.05, momentum, weight_decay=decay, nesterov=nesterov),
        lr=0.05, momentum=momentum, nesterov=nesterov, weight_decay=decay,
    )

made_by = f"PyTorch {torch.__version__}, Keras {keras.__version__}"
save_file(tensors, Path(__file__).with_suffix(".safetensors"), {"cases": json.dumps(cases), "made_by": made_by})
print(f"{len(cases)} cases, {made_by}")
