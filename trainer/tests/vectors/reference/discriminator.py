"""The discriminator's loss with its gradient penalty, by double backward."""

import numpy as np
import torch

from .networks import ACT_DIM, CRITIC_SIZES, MARGIN, OBS_DIM, Mlp, f32, gradients, plain, rows_that_keep_away, tensor

PENALTY_COEFFICIENT = 10.0
PENALTY_TARGET = float(f32(0.4))


def discriminator_case(name, rng, members, clip, rows):
    def raw(x):
        return torch.cat([member(x) for member in members], dim=1)

    def clipped(values):
        return values.clamp(-clip, clip) if clip is not None else values

    def cost(x):
        return clipped(raw(x)).min(dim=1).values

    def far_from_switches(x):
        values = raw(x)
        if any(member.margin(x).min() < MARGIN for member in members):
            return False
        if clip is not None and ((values.abs() - clip).abs().min() < 0.5):
            return False
        ordered = clipped(values).sort(dim=1).values
        return len(members) == 1 or bool((ordered[:, 1] - ordered[:, 0]).min() > 10 * MARGIN)

    def draw():
        return {
            "expert": f32(rng.uniform(-1.5, 1.5, OBS_DIM + ACT_DIM)),
            "learner": f32(rng.uniform(-1.5, 1.5, OBS_DIM + ACT_DIM)),
            "u": f32(rng.uniform(0, 1, 1)),
        }

    def interpolate(row):
        return row["u"] * row["expert"] + (1 - row["u"]) * row["learner"]

    batch = rows_that_keep_away(
        rows, draw, lambda row: all(far_from_switches(x) for x in (row["expert"], row["learner"], interpolate(row)))
    )
    expert, learner = batch["expert"], batch["learner"]
    interpolated = interpolate(batch).requires_grad_()
    cost_interpolated = cost(interpolated)
    (input_gradient,) = torch.autograd.grad(cost_interpolated.sum(), interpolated, create_graph=True)
    norm = (input_gradient.square().sum(dim=1) + 1e-12).sqrt()
    penalty = (norm - PENALTY_TARGET).square().mean()
    cost_expert, cost_learner = cost(expert), cost(learner)
    moment = cost_expert.mean() - cost_learner.mean()
    total = moment + PENALTY_COEFFICIENT * penalty

    zero_bias = torch.autograd.grad(
        penalty, [layer.b for m in members for layer in m.layers], retain_graph=True, allow_unused=True
    )
    assert all(g is None or g.abs().max() == 0 for g in zero_bias), "the penalty has no bias gradient"

    result = {
        "name": name,
        "clip": clip,
        "penalty_coefficient": PENALTY_COEFFICIENT,
        "penalty_target": PENALTY_TARGET,
        "norm_floor": 1e-12,
        "members": [member.json() for member in members],
        "expert": expert,
        "learner": learner,
        "u": batch["u"][:, 0],
        "expected": {
            "cost_expert": cost_expert,
            "cost_learner": cost_learner,
            "cost_interpolated": cost_interpolated,
            "cost_interpolated_members": clipped(raw(interpolated)).T,
            "interpolated": interpolated,
            "input_gradient": input_gradient,
            "gradient_norm": norm,
            "moment": moment,
            "penalty": penalty,
            "total": total,
            "penalty_gradients": gradients(penalty, members),
            "total_gradients": gradients(total, members),
        },
    }

    # The double backward agrees with central differences of the same loss.
    def numeric(parameter, index, h=1e-6):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[index] += sign * h
            x = interpolate(batch).requires_grad_()
            (g,) = torch.autograd.grad(cost(x).sum(), x)
            gp = ((g.square().sum(dim=1) + 1e-12).sqrt() - PENALTY_TARGET).square().mean()
            with torch.no_grad():
                values.append(float(cost(expert).mean() - cost(learner).mean() + PENALTY_COEFFICIENT * gp))
            with torch.no_grad():
                parameter.view(-1)[index] -= sign * h
        return (values[0] - values[1]) / (2 * h)

    for member, layers in zip(members, result["expected"]["total_gradients"], strict=True):
        exact_gradients = [layer[key] for layer in layers for key in ("w", "b")]
        for parameter, gradient in zip(member.parameters(), exact_gradients, strict=True):
            for index in range(0, parameter.numel(), 29):
                exact, approximate = float(gradient.view(-1)[index]), numeric(parameter, index)
                assert abs(exact - approximate) < 1e-5 * max(1.0, abs(exact)), (name, exact, approximate)
    return result


def discriminator(rng):
    single = discriminator_case("single", rng, [Mlp(rng, CRITIC_SIZES)], None, 8)

    wide = Mlp(rng, CRITIC_SIZES)
    wide.layers[-1].scale(70.0)
    clipped = discriminator_case("clipped", rng, [wide], 40.0, 8)
    at_limit = [abs(abs(v) - 40.0) < 1e-12 for v in plain(clipped["expected"]["cost_interpolated"])]
    assert any(at_limit) and not all(at_limit)

    members = [Mlp(rng, CRITIC_SIZES) for _ in range(3)]
    probe = tensor(rng.uniform(-1.5, 1.5, (256, OBS_DIM + ACT_DIM)))
    for member in members:
        member.centre(probe)
    ensemble = discriminator_case("ensemble", rng, members, None, 12)
    chosen = np.argmin(np.array(plain(ensemble["expected"]["cost_interpolated_members"])), axis=0)
    assert len(set(chosen.tolist())) == 3, "every member should be the minimum somewhere"
    return {"cases": [single, clipped, ensemble]}
