"""Log-densities of the tanh-Gaussian."""

import math

import torch

from .networks import f32, tensor

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
SQUASH_FLOOR = 1e-6


def gaussian_row(mean, log_std, u, scale):
    """Log-densities of one coordinate: Gaussian, squashed with floor, squashed exactly, squashed and scaled."""
    base = torch.distributions.Normal(mean, log_std.exp()).log_prob(u)
    slope = 1 - torch.tanh(u).square()
    exact = base - torch.distributions.TanhTransform().log_abs_det_jacobian(u, torch.tanh(u))
    return {
        "base": base,
        "floored": base - (slope + SQUASH_FLOOR).log(),
        "exact": exact,
        "scaled": base - (scale * slope + SQUASH_FLOOR).log(),
    }


def gaussian(rng):
    scale = float(f32(0.4))
    known = gaussian_row(tensor(0.3), tensor(-0.5), tensor(0.8), 0.4)
    # Values known beforehand.
    for key, value in {
        "base": -0.7587237618,
        "floored": -0.1772184298,
        "exact": -0.1772166411,
        "scaled": 0.7390696189,
    }.items():
        assert abs(float(known[key]) - value) < 6e-11, (key, float(known[key]), value)

    grid = [
        (float(m), float(s), float(u))
        for m in f32([-1.5, -0.3, 0.0, 0.7])
        for s in f32([-3.0, -1.0, 0.0, 0.6])
        for u in f32([-2.5, -0.8, 0.0, 0.3, 1.9])
        if abs(u - m) <= 6 * math.exp(s)
    ]
    mean, log_std, u = (tensor(column) for column in zip(*grid))
    m2, s2, u2 = (f32(x) for x in ([0.3, -0.2], [-0.5, 0.25], [0.8, -1.1]))
    pair = gaussian_row(tensor(m2), tensor(s2), tensor(u2), scale)

    # Sampling form, u = mean + exp(log_std) noise, through the clamp: the base density follows from the noise alone.
    raw = tensor(f32([-25.0, -19.5, -5.0, 1.5, 2.5, 7.0]))
    noise, centre = tensor(f32([1.25, -0.75, 2.0, 0.25, -0.125, 0.0625])), tensor(f32([0.5, -0.4, 0.1, 0.2, 0.3, -0.6]))
    clamped = raw.clamp(LOG_STD_MIN, LOG_STD_MAX)
    sampled = centre + clamped.exp() * noise
    log_base = -noise.square() / 2 - clamped - 0.5 * math.log(2 * math.pi)
    return {
        "squash_floor": SQUASH_FLOOR,
        "scale": scale,
        "grid": {
            "mean": mean,
            "log_std": log_std,
            "u": u,
            "expected": {"action": torch.tanh(u), **gaussian_row(mean, log_std, u, scale)},
        },
        "known_point": {
            "mean": 0.3,
            "log_std": -0.5,
            "u": 0.8,
            "scale": 0.4,
            "expected": known,
        },
        "two_dimensions": {
            "mean": m2,
            "log_std": s2,
            "u": u2,
            "expected": {key: value.sum() for key, value in pair.items()},
        },
        "clamped": {
            "mean": centre,
            "raw_log_std": raw,
            "noise": noise,
            "log_std_min": LOG_STD_MIN,
            "log_std_max": LOG_STD_MAX,
            "expected": {
                "log_std": clamped,
                "u": sampled,
                "action": torch.tanh(sampled),
                "base": log_base,
                "floored": log_base - (1 - torch.tanh(sampled).square() + SQUASH_FLOOR).log(),
            },
        },
    }
