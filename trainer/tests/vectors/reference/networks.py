"""Networks whose weights are `[in, out]`, and rows that stay away from the points where branches switch."""

import math
from itertools import pairwise

import numpy as np
import torch

# Distance that every ReLU, min and clamp keeps from its switching point, so that f32 takes the same branch as f64.
MARGIN = 2e-3

OBS_DIM, ACT_DIM, HIDDEN = 3, 2, 16
CRITIC_SIZES = [OBS_DIM + ACT_DIM, HIDDEN, HIDDEN, 1]


def f32(value):
    """`value` rounded to f32, kept in f64: an f32 implementation starts from the same number."""
    return np.asarray(value, dtype=np.float64).astype(np.float32).astype(np.float64)


def tensor(value):
    return torch.tensor(np.asarray(value, dtype=np.float64), dtype=torch.float64)


def plain(value):
    """Tensors and arrays as nested lists of Python numbers."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().tolist()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


class Linear:
    """`x @ w + b` with `w` as [in, out]."""

    def __init__(self, rng, fan_in, fan_out, gain=1.2):
        self.w = tensor(f32(rng.standard_normal((fan_in, fan_out)) * gain / math.sqrt(fan_in))).requires_grad_()
        self.b = tensor(f32(rng.uniform(-0.5, 0.5, fan_out))).requires_grad_()

    def __call__(self, x):
        return x @ self.w + self.b

    def parameters(self):
        return [self.w, self.b]

    def scale(self, factor):
        self.w = tensor(f32(self.w.detach().numpy() * factor)).requires_grad_()
        self.b = tensor(f32(self.b.detach().numpy() * factor)).requires_grad_()

    def json(self):
        return {"w": self.w, "b": self.b}


class Mlp:
    """Linear layers with ReLU between them; `margin` is the least |pre-activation| of the hidden units per row."""

    def __init__(self, rng, sizes, relu_last=False):
        self.layers = [Linear(rng, a, b) for a, b in pairwise(sizes)]
        self.relu_last = relu_last

    def __call__(self, x):
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index + 1 < len(self.layers) or self.relu_last:
                x = torch.relu(x)
        return x

    def margin(self, x):
        least = torch.full((x.shape[0],), math.inf, dtype=torch.float64)
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index + 1 < len(self.layers) or self.relu_last:
                least = torch.minimum(least, x.abs().min(dim=1).values)
                x = torch.relu(x)
        return least.detach()

    def centre(self, x):
        """Shifts the outputs to a mean of about zero on `x`."""
        last = self.layers[-1]
        shifted = last.b.detach() - self(x).detach().mean(dim=0)
        last.b = tensor(f32(shifted.numpy())).requires_grad_()

    def parameters(self):
        return [p for layer in self.layers for p in layer.parameters()]

    def json(self):
        return [layer.json() for layer in self.layers]


def gradients(loss, modules, retain=True):
    """d loss / d parameters of each module, laid out as its `json()`."""
    result = []
    for module in modules:
        layers = module.layers
        flat = torch.autograd.grad(
            loss, [p for layer in layers for p in layer.parameters()], retain_graph=retain, allow_unused=True
        )
        flat = [torch.zeros_like(p) if g is None else g for g, p in zip(flat, module.parameters(), strict=True)]
        result.append([{"w": flat[2 * i], "b": flat[2 * i + 1]} for i in range(len(layers))])
    return result


def rows_that_keep_away(count, draw, accept):
    """`count` rows from `draw()`, only those that `accept` takes; `draw` gives a dict of 1-d arrays."""
    rows = []
    for _ in range(20000):
        row = draw()
        if accept({key: tensor(value).reshape(1, -1) for key, value in row.items()}):
            rows.append(row)
            if len(rows) == count:
                return {key: tensor(np.stack([r[key] for r in rows])) for key in rows[0]}
    raise RuntimeError("could not find rows far enough from the switching points")
