"""The ops in PyTorch, in float64: results, all gradients, and tensors that change in place.

    python reference.py CASES.safetensors RESULTS.safetensors     # PyTorch 2, safetensors

reads arguments and settings, the latter as JSON in the file's metadata, and writes the results. `ops.py` uses it to
make the committed goldens.
"""

import json
import sys

import torch
from torch.nn import functional as F

ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "tanh": torch.tanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    # The gradient of PyTorch's own is a float32 in float64.
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def conv(case, x, weight, bias=None):
    top, bottom, left, right = case["pad"]
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, bias, case["stride"], 0, case["dilation"], case["groups"])


def batch_norm(case, x, gamma, beta, running):
    before = running[1].clone()
    y = F.batch_norm(x, *running, gamma, beta, case["train"], case["momentum"], case["epsilon"])
    if case["train"] and not case["unbiased"]:
        # The running variance is unbiased in PyTorch and biased in Keras.
        variance = x.detach().var((0, 2, 3), unbiased=False)
        running[1] = (1 - case["momentum"]) * before + case["momentum"] * variance
    return y


def output_size(size, kernel, stride, padding, ceil):
    """As in PyTorch, a last window may extend past the edge if it starts inside the input or the padding before it."""
    free = size + 2 * padding - kernel
    n = (free + (stride - 1 if ceil else 0)) // stride + 1
    return n - 1 if ceil and (n - 1) * stride >= size + padding else n


def windows(x, pool, fill):
    """The windows of a pool, (B, C, oh, ow, kh·kw), for paddings that PyTorch's own pooling refuses."""
    rims, sizes = [], []
    for axis in (0, 1):
        size, kernel, stride, padding = x.shape[2 + axis], *(pool[k][axis] for k in ("kernel", "stride", "padding"))
        sizes.append(output_size(size, kernel, stride, padding, pool["ceil"]))
        rims = [padding, max(0, (sizes[-1] - 1) * stride + kernel - size - padding)] + rims
    x = F.pad(x, rims, value=fill)
    (kh, kw), (sh, sw) = pool["kernel"], pool["stride"]
    return x.unfold(2, kh, sh).unfold(3, kw, sw)[:, :, : sizes[0], : sizes[1]].flatten(4)


def padding_is_usual(pool):
    return all(2 * padding <= kernel for padding, kernel in zip(pool["padding"], pool["kernel"]))


def max_pool(case, x):
    pool = case["pool"]
    if padding_is_usual(pool):
        return F.max_pool2d(x, pool["kernel"], pool["stride"], pool["padding"], ceil_mode=pool["ceil"])
    # The first of equal values, as in PyTorch's pooling; `max` does not guarantee it.
    w = windows(x, pool, -torch.inf)
    first = (w == w.amax(-1, keepdim=True)).to(torch.uint8).argmax(-1, keepdim=True)
    return w.gather(-1, first).squeeze(-1)


def avg_pool(case, x):
    pool, include = case["pool"], case["count_include_pad"]
    if padding_is_usual(pool):
        return F.avg_pool2d(x, pool["kernel"], pool["stride"], pool["padding"], pool["ceil"], include)
    counted = torch.ones_like(x)
    if include:
        ph, pw = pool["padding"]
        counted = F.pad(counted, (pw, pw, ph, ph), value=1.0)
        inner = {**pool, "padding": (0, 0), "ceil": True}
        counts = windows(counted, inner, 0.0).sum(-1)
        total = windows(x, pool, 0.0).sum(-1)
        return total / counts[:, :, : total.shape[2], : total.shape[3]]
    return windows(x, pool, 0.0).sum(-1) / windows(counted, pool, 0.0).sum(-1)


def chain(case, x, args, running):
    args, y = iter(args), ACTIVATIONS[case["before"]](x)
    at = 0
    for layer in case["layers"]:
        y = conv(layer, y, next(args))
        if layer["norm"]:
            gamma, beta, own = next(args), next(args), running[at : at + 2]
            y = batch_norm(layer["norm"], y, gamma, beta, own)
            running[at : at + 2] = own
            at += 2
        y = ACTIVATIONS[layer["activation"]](y)
    return y + x if case["residual"] else y


def attention(scale, q, k, v, bias=None):
    if bias is not None:
        # PyTorch takes a bias for each sample.
        bias = bias.repeat(q.shape[0] // bias.shape[0], 1, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, bias, scale=scale)


def self_attention(case, x, bias=None):
    batch, tokens, width = x.shape
    dim = width // (3 * case["heads"])
    q, k, v = x.reshape(batch, tokens, 3, case["heads"], dim).permute(2, 0, 3, 1, 4)
    return attention(dim**-0.5, q, k, v, bias).transpose(1, 2).reshape(batch, tokens, width // 3)


def response_norm(x, gamma, beta, epsilon):
    """Channels last."""
    norms = torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim() - 1)), keepdim=True)
    return gamma * x * (norms / (norms.mean(-1, keepdim=True) + epsilon)) + beta + x


def channels_last(op, x, *args):
    return op(x.permute(0, 2, 3, 1), *args).permute(0, 3, 1, 2)


def forward(case, args, running):
    op = case["op"]
    if op == "conv_block":
        return chain(case, args[0], args[1:], running)
    activation = ACTIVATIONS[case.get("activation", "identity")]
    if op == "conv2d":
        return activation(conv(case, *args))
    if op == "conv2d_max_pool":
        return max_pool(case, activation(conv(case, *args)))
    if op == "conv2d_avg_pool":
        return avg_pool(case, activation(conv(case, *args)))
    if op == "conv2d_batch_norm":
        x, weight, gamma, beta = args
        return activation(batch_norm(case, conv(case, x, weight), gamma, beta, running))
    if op == "batch_norm":
        return activation(batch_norm(case, *args, running))
    if op == "max_pool2d":
        return max_pool(case, *args)
    if op == "avg_pool2d":
        return avg_pool(case, *args)
    if op == "global_avg_pool2d":
        return args[0].mean((2, 3))
    if op == "activate":
        return activation(*args)
    if op == "linear":
        return activation(F.linear(*args))
    if op == "feed_forward":
        x, weight, bias, weight2, bias2 = args
        return F.linear(activation(F.linear(x, weight, bias)), weight2, bias2)
    if op == "layer_norm":
        return F.layer_norm(args[0], args[1].shape, *args[1:], case["epsilon"])
    if op == "layer_norm2d":
        normalize = lambda x, gamma, beta: F.layer_norm(x, gamma.shape, gamma, beta, case["epsilon"])
        return channels_last(normalize, *args)
    if op == "global_response_norm":
        return response_norm(*args, case["epsilon"])
    if op == "global_response_norm2d":
        return channels_last(response_norm, *args, case["epsilon"])
    if op == "softmax":
        return F.softmax(args[0], -1)
    if op == "attention":
        return attention(case["scale"], *args)
    if op == "self_attention":
        return self_attention(case, *args)
    if op in ("layer_scale", "scale_channels"):
        return args[0] * args[1]
    if op == "layer_scale2d":
        return args[0] * args[1].reshape(1, -1, 1, 1)
    if op == "resize_bicubic":
        return F.interpolate(args[0], case["size"], mode="bicubic", antialias=True)
    if op == "softmax_cross_entropy":
        return F.cross_entropy(*args, torch.tensor(case["labels"]))
    if op == "soft_cross_entropy":
        # PyTorch's own loss requires rows that sum to 1.
        targets = torch.tensor(case["targets"], dtype=torch.float64)
        return -(targets * F.log_softmax(args[0], 1)).sum(1).mean()
    raise ValueError(op)


ARGUMENTS = {
    "conv2d": ["x", "weight", "bias"],
    "conv2d_max_pool": ["x", "weight", "bias"],
    "conv2d_avg_pool": ["x", "weight", "bias"],
    "conv2d_batch_norm": ["x", "weight", "gamma", "beta"],
    "batch_norm": ["x", "gamma", "beta"],
    "linear": ["x", "weight", "bias"],
    "feed_forward": ["x", "weight", "bias", "weight2", "bias2"],
    "layer_norm": ["x", "gamma", "beta"],
    "layer_norm2d": ["x", "gamma", "beta"],
    "global_response_norm": ["x", "gamma", "beta"],
    "global_response_norm2d": ["x", "gamma", "beta"],
    "attention": ["q", "k", "v"],
    "self_attention": ["x"],
    "layer_scale": ["x", "scales"],
    "layer_scale2d": ["x", "scales"],
    "scale_channels": ["x", "scales"],
}


def arguments_of(case):
    """Names of the arguments of an op that is not a block, in order."""
    return ARGUMENTS.get(case["op"], ["x"]) + (["bias"] if case.get("biased") else [])


def names(case):
    """Names of the differentiable arguments and of the running statistics, in order."""
    if case["op"] != "conv_block":
        return arguments_of(case), ["mean", "var"] if "momentum" in case else []
    arguments, statistics = ["x"], []
    for i, layer in enumerate(case["layers"]):
        arguments.append(f"weight{i}")
        if layer["norm"]:
            arguments += [f"gamma{i}", f"beta{i}"]
            statistics += [f"mean{i}", f"var{i}"]
    return arguments, statistics


def optimize(case, start, grads):
    """The parameters and the optimizer's moments after one step per gradient of `grads`."""
    if case["op"] == "adam" and case["placement"] == "keras":
        lr, beta1, beta2, decay = (case[key] for key in ("lr", "beta1", "beta2", "weight_decay"))
        m, v, end = torch.zeros_like(start), torch.zeros_like(start), start.clone()
        for t, grad in enumerate(grads, 1):
            m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
            alpha = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
            end = end * (1 - lr * decay) - alpha * m / (v.sqrt() + case["epsilon"])
        return {"end": end, "m": m, "v": v}
    param = torch.nn.Parameter(start.clone())
    if case["op"] == "adam":
        betas = (case["beta1"], case["beta2"])
        optimizer = torch.optim.AdamW([param], case["lr"], betas, case["epsilon"], case["weight_decay"])
        moments = {"m": "exp_avg", "v": "exp_avg_sq"}
    else:
        settings = {key: case[key] for key in ("lr", "momentum", "nesterov", "weight_decay")}
        optimizer = torch.optim.SGD([param], **settings)
        moments = {"m": "momentum_buffer"} if case["momentum"] else {}
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
    state = optimizer.state[param]
    return {"end": param.detach(), **{key: state[name] for key, name in moments.items()}}


def results(case, get):
    """All results of the op of `case`; `get` returns an argument by name, a float32 tensor."""
    if case["op"] in ("adam", "sgd"):
        return optimize(case, get("start").double(), get("grads").double())
    arguments, statistics = names(case)
    args = [get(name).double().requires_grad_() for name in arguments]
    running = [get(f"running_{name}").double() for name in statistics]
    y = forward(case, args, running)
    y.backward(get("seed").double())
    out = {"y": y.detach(), **{f"grad_{name}": arg.grad for name, arg in zip(arguments, args)}}
    return {**out, **{f"new_{name}": value for name, value in zip(statistics, running)}}


def main(cases_file, results_file):
    from safetensors import safe_open
    from safetensors.torch import save_file

    out = {}
    with safe_open(cases_file, "pt") as file:
        for case in json.loads(file.metadata()["cases"]):
            name = case["name"]
            for key, value in results(case, lambda key: file.get_tensor(f"{name}.{key}")).items():
                out[f"{name}.{key}"] = value.contiguous()
    save_file(out, results_file, {"made_by": f"PyTorch {torch.__version__}"})


if __name__ == "__main__":
    main(*sys.argv[1:])
