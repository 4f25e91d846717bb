"""Traces of Adam and optimistic Adam."""

import math

import torch

from .networks import f32, tensor


class AdamState:
    def __init__(self, theta, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        self.theta, self.betas, self.eps, self.weight_decay = theta.clone(), betas, eps, weight_decay
        self.m, self.v, self.t = torch.zeros_like(theta), torch.zeros_like(theta), 0

    def step(self, lr, gradient, optimistic):
        """Adam with `eps` added to the uncorrected sqrt(v); optimistic: take back eta m/sqrt(v), then move twice."""
        b1, b2 = self.betas
        self.t += 1
        g = gradient + self.weight_decay * self.theta
        eta = lr * math.sqrt(1 - b2**self.t) / (1 - b1**self.t)
        if optimistic:
            self.theta = self.theta + eta * self.m / (self.v.sqrt() + self.eps)
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        self.theta = self.theta - (2 if optimistic else 1) * eta * self.m / (self.v.sqrt() + self.eps)


def trace(kind, theta0, learning_rates, grads, weight_decay):
    steps = []
    if kind == "adam_torch":
        theta = theta0.clone().requires_grad_()
        optimiser = torch.optim.Adam([theta], lr=learning_rates[0], weight_decay=weight_decay)
        for lr, g in zip(learning_rates, grads, strict=True):
            optimiser.param_groups[0]["lr"] = lr
            theta.grad = g.clone()
            optimiser.step()
            state = optimiser.state[theta]
            steps.append(
                {"theta": theta.detach().clone(), "m": state["exp_avg"].clone(), "v": state["exp_avg_sq"].clone()}
            )
    else:
        adam = AdamState(theta0, weight_decay=weight_decay)
        for lr, g in zip(learning_rates, grads, strict=True):
            adam.step(lr, g, optimistic=kind == "optimistic_adam")
            steps.append({"theta": adam.theta, "m": adam.m, "v": adam.v})
    return steps


def optimistic_adam(rng):
    # The scalar regression traces, known beforehand.
    known = {
        "optimistic_adam": [-0.001999999368, -0.003255862332, -0.003428706562, -0.004396304358],
        "adam_eps_uncorrected": [-0.000999999684, -0.001999999460, -0.002515652757, -0.003233996408],
    }
    for kind, expected in known.items():
        scalar = trace(kind, tensor([0.0]), [1e-3] * 4, [tensor([g]) for g in (1, 1, -0.5, 2)], 0.0)
        for step, value in zip(scalar, expected, strict=True):
            assert abs(step["theta"].item() - value) < 6e-13, (kind, step["theta"].item(), value)

    theta0 = tensor(f32(rng.uniform(-1, 1, 6)))
    grads = tensor(f32(rng.standard_normal((6, 6))))
    grads[:, 3] = 0.0  # moves only through weight decay
    grads[:, 4] = tensor(f32(grads[:, 4].numpy() * 1e-8))  # of the size of eps: shows where eps is added
    grads[2:, 5] = -grads[2:, 5].abs()  # changes its mind
    learning_rates = [1e-3, 1e-3, 1e-3, 4e-4, 4e-4, 2e-3]
    traces = []
    for kind in ("optimistic_adam", "adam_torch", "adam_eps_uncorrected"):
        for weight_decay in (0.0, 0.0625):
            steps = trace(kind, theta0, learning_rates, list(grads), weight_decay)
            traces.append({"algorithm": kind, "weight_decay": weight_decay, "expected": {"steps": steps}})
    return {
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "theta0": theta0,
        "learning_rates": learning_rates,
        "gradients": grads,
        "traces": traces,
        "scalar": {
            "theta0": [0.0],
            "lr": 1e-3,
            "gradients": [1.0, 1.0, -0.5, 2.0],
            "expected": {
                kind: [
                    s["theta"].item()
                    for s in trace(kind, tensor([0.0]), [1e-3] * 4, [tensor([g]) for g in (1, 1, -0.5, 2)], 0.0)
                ]
                for kind in ("optimistic_adam", "adam_torch", "adam_eps_uncorrected")
            },
        },
    }
