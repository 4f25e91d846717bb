"""Losses of proximal policy optimisation and of GAIL's classifier; tanh networks."""

import math

import torch

from .networks import ACT_DIM, HIDDEN, OBS_DIM, Mlp, f32, gradients, tensor


class Smooth(Mlp):
    """Linear layers with tanh between them."""

    def __call__(self, x):
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index + 1 < len(self.layers):
                x = torch.tanh(x)
        return x


def ppo(rng):
    policy, value = Smooth(rng, [OBS_DIM, HIDDEN, HIDDEN, ACT_DIM]), Smooth(rng, [OBS_DIM, HIDDEN, HIDDEN, 1])
    log_std = tensor(f32([-0.4, 0.2])).requires_grad_()
    clip, value_coefficient, entropy_coefficient, max_grad_norm = float(f32(0.2)), 0.5, 0.01, 0.5

    count = 16
    obs = tensor(f32(rng.uniform(-1.5, 1.5, (count, OBS_DIM))))
    with torch.no_grad():
        mean = policy(obs)
        action = tensor(f32((mean + log_std.exp() * tensor(rng.standard_normal((count, ACT_DIM)))).numpy()))
        distribution = torch.distributions.Normal(mean, log_std.exp())
        now = distribution.log_prob(action).sum(dim=1)
        # Ratios on both sides of both clips, none near one.
        ratio = tensor([0.5, 0.7, 0.9, 0.95, 1.0, 1.05, 1.1, 1.4] * 2)
        old_log_prob = tensor(f32((now - ratio.log()).numpy()))
        shift = tensor([-0.6, -0.3, -0.1, 0.0, 0.1, 0.15, 0.3, 0.6] * 2)
        old_value = tensor(f32((value(obs)[:, 0] - shift).numpy()))
    advantage = tensor(f32(rng.standard_normal(count)))
    advantage = tensor(f32((advantage.sign() * (advantage.abs() + 0.1)).numpy()))
    target = tensor(f32((old_value + tensor(rng.standard_normal(count)) * 2).numpy()))

    distribution = torch.distributions.Normal(policy(obs), log_std.exp())
    log_prob = distribution.log_prob(action).sum(dim=1)
    entropy = distribution.entropy().sum(dim=1).mean()
    ratio = (log_prob - old_log_prob).exp()
    surrogate = torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    policy_loss = -surrogate.mean()
    values = value(obs)[:, 0]
    near = old_value + (values - old_value).clamp(-clip, clip)
    squares, clipped_squares = (values - target) ** 2, (near - target) ** 2
    moved = (values - old_value).abs() > clip
    assert (squares - clipped_squares)[moved].abs().min() > 1e-2
    value_loss = 0.5 * torch.max(squares, clipped_squares).mean()
    plain_value_loss = 0.5 * squares.mean()
    total = policy_loss + value_coefficient * value_loss - entropy_coefficient * entropy

    parameters = [p for net in (policy, value) for p in net.parameters()] + [log_std]
    flat = torch.autograd.grad(total, parameters, retain_graph=True)
    norm = math.sqrt(sum(float(g.square().sum()) for g in flat))
    assert norm > max_grad_norm
    (log_std_gradient,) = torch.autograd.grad(total, [log_std], retain_graph=True)

    return {
        "clip": clip,
        "value_coefficient": value_coefficient,
        "entropy_coefficient": entropy_coefficient,
        "max_grad_norm": max_grad_norm,
        "policy": policy.json(),
        "value": value.json(),
        "log_std": log_std,
        "rows": {
            "obs": obs,
            "action": action,
            "old_log_prob": old_log_prob,
            "old_value": old_value,
            "advantage": advantage,
            "target": target,
        },
        "expected": {
            "log_prob": log_prob,
            "entropy": entropy,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "plain_value_loss": plain_value_loss,
            "total": total,
            "policy_gradients": gradients(total, [policy])[0],
            "value_gradients": gradients(total, [value])[0],
            "log_std_gradient": log_std_gradient,
            "norm": norm,
            # torch.nn.utils.clip_grad_norm_
            "clip_scale": max_grad_norm / (norm + 1e-6),
        },
    }


def gail(rng):
    net = Smooth(rng, [OBS_DIM + ACT_DIM, HIDDEN, HIDDEN, 1])
    coefficient, goal = 10.0, 1.0
    expert, learner = (tensor(f32(rng.uniform(-1.5, 1.5, (8, OBS_DIM + ACT_DIM)))) for _ in range(2))
    u = tensor(f32(rng.uniform(0, 1, (8, 1))))
    # The network gives a cost: the classifier's logit is its negative.
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    logit_expert, logit_learner = -net(expert), -net(learner)
    classification = bce(logit_expert, torch.ones_like(logit_expert)) + bce(
        logit_learner, torch.zeros_like(logit_learner)
    )
    mixed = (u * expert + (1 - u) * learner).requires_grad_()
    (slope,) = torch.autograd.grad(-net(mixed).sum(), [mixed], create_graph=True)
    penalty = (slope.norm(2, dim=1) - goal).square().mean()
    total = classification + coefficient * penalty
    s = torch.sigmoid(logit_learner)
    return {
        "penalty_coefficient": coefficient,
        "penalty_target": goal,
        "network": net.json(),
        "expert": expert,
        "learner": learner,
        "u": u,
        "expected": {
            "classification": classification,
            "penalty": penalty,
            "total": total,
            "reward_learner": s.log() - (1 - s).log(),
            "gradients": gradients(total, [net])[0],
        },
    }
