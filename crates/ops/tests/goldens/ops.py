"""Writes ops.safetensors: arguments, results and gradients of a sample of cases, computed by PyTorch in float64.

    python ops.py        # PyTorch 2, Keras 3 with its torch backend, NumPy, safetensors

Arguments are float32 values. The gradient of each result is the tensor `seed`. The file's metadata describes each case
as JSON.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import reference
import torch
from safetensors.torch import save_file

generator = torch.Generator().manual_seed(20240607)
tensors, cases = {}, []


def draw(*shape, coarse=False):
    values = torch.randn(shape, generator=generator).float()
    return (values * 2).round() / 2 if coarse else values


def record(op, args, shape=None, **settings):
    """Adds a case: the arguments, a seed of the result's `shape`, and all results."""
    case = {"op": op, "name": f"{len(cases):03}", **settings}
    if shape is not None:
        args = {**args, "seed": draw(*shape)}
    out = reference.results(case, lambda key: args[key])
    tensors.update({f"{case['name']}.{key}": value.contiguous().clone() for key, value in {**args, **out}.items()})
    cases.append(case)


def shape_of(op, args, settings):
    """The shape of the result and of its seed."""
    names = reference.arguments_of({"op": op, **settings})
    running = [args[key].clone() for key in ("running_mean", "running_var") if key in args]
    return reference.forward({"op": op, **settings}, [args[name] for name in names], running).shape


def record_op(op, args, **settings):
    record(op, args, shape_of(op, args, settings), **settings)


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
    ((1, 19, 9, 11), (19, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 19, "relu6"),
    ((1, 19, 9, 11), (19, 3, 3), (2, 2), (0, 1, 0, 1), (1, 1), 19, "identity"),
    ((1, 33, 5, 5), (21, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1, "identity"),
    ((1, 261, 2, 3), (9, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, "relu"),
    ((1, 3, 19, 17), (10, 11, 11), (4, 4), (2, 2, 2, 2), (1, 1), 1, "relu"),
]
for i, (x, (c_out, kh, kw), stride, pad, dilation, groups, activation) in enumerate(CONVS):
    settings = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups, "activation": activation}
    scale = (x[1] // groups * kh * kw) ** -0.5
    args = {"x": draw(*x), "weight": draw(c_out, x[1] // groups, kh, kw) * scale}
    record_op("conv2d", {**args, "bias": draw(c_out)}, **settings)
    if x[2] > 1:
        norm = {"epsilon": 1e-3, "momentum": 0.1, "unbiased": i % 2 == 0, "train": i % 3 < 2}
        args |= {"gamma": draw(c_out) + 1, "beta": draw(c_out)}
        args |= {"running_mean": draw(c_out), "running_var": draw(c_out) ** 2 + 0.5}
        record_op("conv2d_batch_norm", args, **settings, **norm)

for shape, activation in (((3, 5, 4, 3), "relu"), ((2, 18, 1, 2), "tanh"), ((1, 3, 7, 9), "relu6")):
    for train, unbiased in ((True, True), (True, False), (False, True)):
        c = shape[1]
        args = {"x": draw(*shape) * 3 + 1, "gamma": draw(c) + 1, "beta": draw(c)}
        args |= {"running_mean": draw(c), "running_var": draw(c) ** 2 + 0.5}
        norm = {"epsilon": 1e-5, "momentum": 0.3, "unbiased": unbiased, "train": train}
        record_op("batch_norm", args, activation=activation, **norm)

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
        # Coarse values have frequent ties.
        record_op("max_pool2d", {"x": draw(*size, coarse=coarse)}, pool=pool)
    for include in (True, False):
        record_op("avg_pool2d", {"x": draw(1, 2, 7, 6)}, count_include_pad=include, pool=pool)
    for x, c_out, pad, activation in (
        ((2, 3, 9, 8), 5, (1, 1, 1, 1), "relu"),
        ((1, 2, 10, 9), 17, (0, 2, 1, 0), "tanh"),
    ):
        record_op(
            "conv2d_max_pool",
            {"x": draw(*x), "weight": draw(c_out, x[1], 3, 3) * 0.3, "bias": draw(c_out)},
            stride=(1, 1), pad=pad, dilation=(1, 1), groups=1, activation=activation, pool=pool,
        )  # fmt: skip
record_op("global_avg_pool2d", {"x": draw(2, 3, 5, 4)})

for activation in reference.ACTIVATIONS:
    # With zeros and sixes, the corners of the activations.
    x = torch.cat([draw(10) * 4, torch.tensor([0.0, -0.0, 6.0, 7.0, -1.0, 3.0, -3.0])])
    record_op("activate", {"x": x}, activation=activation)
    args = {"x": draw(5, 7), "weight": draw(4, 7), "bias": draw(4)}
    record_op("linear", args, activation=activation)

record_op("softmax_cross_entropy", {"x": draw(6, 5) * 5}, labels=[0, 4, 2, 2, 1, 3])


def steps():
    """The initial parameters, and the gradients of five steps."""
    return {"start": draw(6), "grads": torch.stack([draw(6) * 10 ** (-i) for i in range(5)])}


keras.config.set_floatx("float64")
adam = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3}
args = steps()
record("adam", args, placement="keras", weight_decay=0.0, **adam)
# Check the formulas against Keras itself.
optimizer = keras.optimizers.Adam(adam["lr"], adam["beta1"], adam["beta2"], adam["epsilon"])
variable = keras.Variable(args["start"].double().numpy(), dtype="float64")
with torch.no_grad():
    for grad in args["grads"]:
        optimizer.apply([grad.double()], [variable])
end = torch.tensor(np.asarray(variable.value.detach()))
torch.testing.assert_close(end, tensors[f"{cases[-1]['name']}.end"], rtol=1e-13, atol=0)
tensors[f"{cases[-1]['name']}.end"] = end
for decay in (0.0, 0.1):
    record("adam", steps(), placement="pytorch", weight_decay=decay, **adam)
for momentum, nesterov, decay in ((0.0, False, 0.0), (0.9, False, 0.01), (0.8, True, 0.01)):
    record("sgd", steps(), lr=0.05, momentum=momentum, nesterov=nesterov, weight_decay=decay)

# Enough channels for Winograd.
for x, c_out, pad in (((2, 18, 9, 7), 20, (1, 1, 1, 1)), ((1, 33, 6, 8), 16, (0, 2, 1, 0))):
    args = {"x": draw(*x), "weight": draw(c_out, x[1], 3, 3) * 0.1, "bias": draw(c_out)}
    record_op("conv2d", args, stride=(1, 1), pad=pad, dilation=(1, 1), groups=1, activation="tanh")
for include in (True, False):
    args = {"x": draw(2, 3, 9, 8), "weight": draw(5, 3, 5, 3) * 0.3, "bias": draw(5)}
    pool = {"kernel": (2, 3), "stride": (2, 2), "padding": (1, 1), "ceil": True}
    record_op(
        "conv2d_avg_pool", args, count_include_pad=include, pool=pool,
        stride=(1, 1), pad=(1, 1, 0, 1), dilation=(1, 1), groups=1, activation="tanh",
    )  # fmt: skip

# Non-monotonic activations where a block cannot fuse them.
for activation in ("silu", "gelu", "hard_swish"):
    args = {"x": draw(2, 3, 6, 5), "weight": draw(4, 3, 3, 3) * 0.3, "bias": draw(4)}
    pool = {"kernel": (2, 2), "stride": (2, 1), "padding": (0, 0), "ceil": False}
    conv = {"stride": (1, 1), "pad": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1, "activation": activation}
    record_op("conv2d", args, **conv)
    record_op("conv2d_max_pool", args, pool=pool, **conv)
    record_op("conv2d_avg_pool", args, pool=pool, count_include_pad=True, **conv)
    args = {"x": draw(2, 3, 6, 5), "weight": draw(3, 1, 3, 3) * 0.3, "gamma": draw(3) + 1, "beta": draw(3)}
    args |= {"running_mean": draw(3), "running_var": draw(3) ** 2 + 0.5}
    norm = {"epsilon": 1e-3, "momentum": 0.1, "unbiased": True, "train": True}
    record_op("conv2d_batch_norm", args, **{**conv, "groups": 3}, **norm)

for shape in ((1, 1, 5), (2, 3, 8), (3, 1, 19), (1, 5, 96), (2, 2, 7, 33)):
    args = {"x": draw(*shape) * 2 + 1, "gamma": draw(shape[-1]) + 1, "beta": draw(shape[-1])}
    record_op("layer_norm", args, epsilon=1e-6)
    record_op("global_response_norm", args, epsilon=1e-6)
for shape in ((1, 7, 1, 1), (2, 5, 3, 4), (1, 17, 5, 7), (3, 40, 2, 3)):
    args = {"x": draw(*shape) * 2 + 1, "gamma": draw(shape[1]) + 1, "beta": draw(shape[1])}
    record_op("layer_norm2d", args, epsilon=1e-6)
    record_op("global_response_norm2d", args, epsilon=1e-6)
    record_op("layer_scale2d", {"x": draw(*shape), "scales": draw(shape[1])})
    record_op("scale_channels", {"x": draw(*shape), "scales": draw(*shape[:2], 1, 1)})
record_op("layer_scale", {"x": draw(2, 3, 5), "scales": draw(5)})
for shape in ((1, 1), (3, 5), (2, 3, 37)):
    record_op("softmax", {"x": draw(*shape) * 5})

# (B, heads, N, M, d, e), groups of the bias, heads of the bias
for (b, h, n, m, d, e), groups, of_heads in (
    ((1, 1, 1, 1, 1, 1), 0, 0),
    ((1, 2, 5, 5, 8, 8), 0, 0),
    ((2, 3, 7, 11, 5, 3), 1, 3),
    ((4, 2, 9, 9, 16, 16), 2, 1),
    ((2, 1, 3, 20, 33, 17), 2, 1),
):
    args = {"q": draw(b, h, n, d), "k": draw(b, h, m, d), "v": draw(b, h, m, e)}
    if groups:
        args["bias"] = draw(groups, of_heads, n, m)
    record_op("attention", args, scale=d**-0.5, biased=groups > 0)
for (batch, tokens, heads, dim), biased in (((1, 5, 1, 4), False), ((2, 10, 3, 8), True), ((1, 50, 2, 17), False)):
    args = {"x": draw(batch, tokens, 3 * heads * dim)}
    if biased:
        args["bias"] = draw(1, heads, tokens, tokens)
    record_op("self_attention", args, heads=heads, biased=biased)

for rows, activation in ((3, "gelu"), (35, "silu")):
    args = {"x": draw(rows, 5), "weight": draw(7, 5), "bias": draw(7), "weight2": draw(4, 7), "bias2": draw(4)}
    record_op("feed_forward", args, activation=activation)

for size, to in (((14, 14), (16, 16)), ((16, 16), (7, 9)), ((3, 5), (8, 2)), ((1, 1), (3, 2)), ((9, 9), (9, 9))):
    record_op("resize_bicubic", {"x": draw(1, 2, *size)}, size=to)

made_by = f"PyTorch {torch.__version__}, Keras {keras.__version__}"
save_file(tensors, Path(__file__).with_suffix(".safetensors"), {"cases": json.dumps(cases), "made_by": made_by})
print(f"{len(cases)} cases, {made_by}")
