"""State-dependent exploration: actions, densities and gradients of a policy whose noise is a function of its features."""

import torch

from .gaussian import SQUASH_FLOOR
from .networks import ACT_DIM, HIDDEN, MARGIN, OBS_DIM, Linear, Mlp, f32, rows_that_keep_away, tensor

MEAN_CLIP, VARIANCE_FLOOR = 2.0, 1e-6


def gsde(rng):
    trunk, mean = Mlp(rng, [OBS_DIM, HIDDEN, HIDDEN], relu_last=True), Linear(rng, HIDDEN, ACT_DIM, gain=1.6)
    log_std = tensor(f32(rng.uniform(-2.5, -1.0, (HIDDEN, ACT_DIM)))).requires_grad_()
    noise = tensor(f32(rng.standard_normal((HIDDEN, ACT_DIM))))
    alpha, direction = float(f32(0.4)), tensor(f32(rng.standard_normal(ACT_DIM)))

    def sample(obs):
        """Squashed action, its log-probability, the action before squashing and the raw mean."""
        features, std = trunk(obs), log_std.exp()
        raw = mean(features)
        centre, deviation = raw.clamp(-MEAN_CLIP, MEAN_CLIP), (features.square() @ std.square() + VARIANCE_FLOOR).sqrt()
        u = centre + features @ (std * noise)
        action = torch.tanh(u)
        base = torch.distributions.Normal(centre, deviation).log_prob(u).sum(dim=1)
        return action, base - (1 - action.square() + SQUASH_FLOOR).log().sum(dim=1), u, raw

    clipped = [0]

    def accept(row):
        _, _, u, raw = sample(row["obs"])
        far = (raw.abs() - MEAN_CLIP).abs().min() > 0.02 and trunk.margin(row["obs"]).min() > MARGIN
        beyond = bool((raw.abs() > MEAN_CLIP).any())
        # Three rows of eight, no more, have a clipped mean.
        if not far or u.abs().max() > 2.6 or (beyond and clipped[0] == 3) or (not beyond and counted[0] == 5):
            return False
        clipped[0] += beyond
        counted[0] += not beyond
        return True

    counted = [0]
    obs = rows_that_keep_away(8, lambda: {"obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM))}, accept)["obs"]
    action, log_prob, u, _ = sample(obs)
    loss = (alpha * log_prob - action @ direction).mean()
    parameters = [*trunk.parameters(), *mean.parameters(), log_std]
    *of_layers, of_log_std = torch.autograd.grad(loss, parameters)
    layers = [{"w": of_layers[2 * i], "b": of_layers[2 * i + 1]} for i in range(3)]
    return {
        "mean_clip": MEAN_CLIP,
        "variance_floor": VARIANCE_FLOOR,
        "squash_floor": SQUASH_FLOOR,
        "alpha": alpha,
        "direction": direction,
        "trunk": trunk.json(),
        "mean": mean.json(),
        "log_std": log_std,
        "noise": noise,
        "obs": obs,
        "expected": {
            "action_before_tanh": u,
            "action": action,
            "log_prob": log_prob,
            "mode": torch.tanh(mean(trunk(obs)).clamp(-MEAN_CLIP, MEAN_CLIP)),
            "loss": loss,
            "gradients": {"trunk": layers[:2], "mean": layers[2], "log_std": of_log_std},
        },
    }
