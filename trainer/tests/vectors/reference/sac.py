"""Losses of soft actor-critic."""

import torch

from .gaussian import LOG_STD_MAX, LOG_STD_MIN, SQUASH_FLOOR
from .networks import (
    ACT_DIM,
    CRITIC_SIZES,
    HIDDEN,
    MARGIN,
    OBS_DIM,
    Linear,
    Mlp,
    f32,
    gradients,
    rows_that_keep_away,
    tensor,
)


class GaussianActor:
    def __init__(self, rng):
        self.trunk = Mlp(rng, [OBS_DIM, HIDDEN, HIDDEN], relu_last=True)
        self.mean, self.log_std = Linear(rng, HIDDEN, ACT_DIM, gain=0.5), Linear(rng, HIDDEN, ACT_DIM, gain=1.5)

    @property
    def layers(self):
        return [*self.trunk.layers, self.mean, self.log_std]

    def parameters(self):
        return [p for layer in self.layers for p in layer.parameters()]

    def heads(self, obs):
        features = self.trunk(obs)
        return self.mean(features), self.log_std(features)

    def sample(self, obs, noise):
        """Squashed action, its log-probability, the action before squashing and the raw log standard deviation."""
        mean, raw = self.heads(obs)
        log_std = raw.clamp(LOG_STD_MIN, LOG_STD_MAX)
        u = mean + log_std.exp() * noise
        action = torch.tanh(u)
        base = torch.distributions.Normal(mean, log_std.exp()).log_prob(u).sum(dim=1)
        log_prob = base - (1 - action.square() + SQUASH_FLOOR).log().sum(dim=1)
        return action, log_prob, u, raw

    def json(self):
        return named_actor([layer.json() for layer in self.layers])


def named_actor(layers):
    return {"trunk": layers[:2], "mean": layers[2], "log_std": layers[3]}


def sac(rng):
    actor = GaussianActor(rng)
    critics, targets = [Mlp(rng, CRITIC_SIZES) for _ in range(2)], [Mlp(rng, CRITIC_SIZES) for _ in range(2)]
    log_alpha = tensor(f32(-0.7)).requires_grad_()
    discount, target_entropy, bc_weight = float(f32(0.98)), -float(ACT_DIM), 0.5

    def q(nets, obs, action):
        return torch.cat([net(torch.cat([obs, action], dim=1)) for net in nets], dim=1)

    def apart(nets, obs, action):
        values = q(nets, obs, action)
        x = torch.cat([obs, action], dim=1)
        return (
            all(net.margin(x).min() > MARGIN for net in nets)
            and (values[:, 0] - values[:, 1]).abs().min() > 10 * MARGIN
        )

    def calm(obs, noise):
        """The actor's branches are far from switching and its action far from saturation."""
        _, _, u, raw = actor.sample(obs, noise)
        return (
            actor.trunk.margin(obs).min() > MARGIN
            and u.abs().max() < 2.0
            and (raw - LOG_STD_MAX).abs().min() > 0.02
            and raw.min() > -5
        )

    wide_rows = [0]

    def draw():
        return {
            "obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM)),
            "action": f32(rng.uniform(-0.95, 0.95, ACT_DIM)),
            "next_obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM)),
            "noise": f32(rng.standard_normal(ACT_DIM) * 0.6),
            "next_noise": f32(rng.standard_normal(ACT_DIM) * 0.6),
            "reward": f32(rng.standard_normal(1)),
        }

    def accept(row):
        good = calm(row["obs"], row["noise"]) and calm(row["next_obs"], row["next_noise"])
        if not good:
            return False
        pi, next_pi = actor.sample(row["obs"], row["noise"])[0], actor.sample(row["next_obs"], row["next_noise"])[0]
        good = (
            apart(critics, row["obs"], row["action"])
            and apart(critics, row["obs"], pi)
            and apart(targets, row["next_obs"], next_pi)
        )
        clamped = bool((actor.sample(row["obs"], row["noise"])[3] > LOG_STD_MAX).any())
        # Two rows, no more, have a clamped log standard deviation.
        if not good or (clamped and wide_rows[0] == 2) or (not clamped and counted[0] == 6):
            return False
        wide_rows[0] += clamped
        counted[0] += not clamped
        return True

    counted = [0]
    batch = rows_that_keep_away(8, draw, accept)
    batch["reward"] = batch["reward"][:, 0]
    batch["terminated"] = tensor([0, 0, 1, 0, 0, 1, 0, 0])
    expert = rows_that_keep_away(
        6,
        lambda: {
            "obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM)),
            "action": f32(rng.uniform(-0.95, 0.95, ACT_DIM)),
            "noise": f32(rng.standard_normal(ACT_DIM) * 0.6),
        },
        lambda row: calm(row["obs"], row["noise"]),
    )

    action_pi, log_prob, u, raw_log_std = actor.sample(batch["obs"], batch["noise"])
    alpha = log_alpha.detach().exp()
    temperature_loss = -(log_alpha * (log_prob + target_entropy).detach()).mean()
    (log_alpha_gradient,) = torch.autograd.grad(temperature_loss, [log_alpha])

    with torch.no_grad():
        next_action, next_log_prob, _, _ = actor.sample(batch["next_obs"], batch["next_noise"])
        next_value = q(targets, batch["next_obs"], next_action).min(dim=1).values - alpha * next_log_prob
        target = batch["reward"] + discount * (1 - batch["terminated"]) * next_value
    q_data = q(critics, batch["obs"], batch["action"])
    critic_loss = 0.5 * sum(torch.nn.functional.mse_loss(q_data[:, i], target) for i in range(2))

    q_pi = q(critics, batch["obs"], action_pi)
    actor_loss = (alpha * log_prob - q_pi.min(dim=1).values).mean()
    expert_action = actor.sample(expert["obs"], expert["noise"])[0]
    bc_loss = torch.nn.functional.mse_loss(expert_action, expert["action"])
    regularised = actor_loss + bc_weight * bc_loss

    return {
        "discount": discount,
        "target_entropy": target_entropy,
        "log_alpha": log_alpha,
        "log_std_min": LOG_STD_MIN,
        "log_std_max": LOG_STD_MAX,
        "squash_floor": SQUASH_FLOOR,
        "bc_weight": bc_weight,
        "actor": actor.json(),
        "critics": [c.json() for c in critics],
        "target_critics": [t.json() for t in targets],
        "batch": batch,
        "expert": expert,
        "expected": {
            "raw_log_std": raw_log_std,
            "action_before_tanh": u,
            "action_pi": action_pi,
            "log_prob": log_prob,
            "next_action": next_action,
            "next_log_prob": next_log_prob,
            "target": target,
            "q_data": q_data.T,
            "q_pi": q_pi.T,
            "critic_loss": critic_loss,
            "critic_gradients": gradients(critic_loss, critics),
            "temperature_loss": temperature_loss,
            "log_alpha_gradient": log_alpha_gradient,
            "actor_loss": actor_loss,
            "actor_gradients": named_actor(gradients(actor_loss, [actor])[0]),
            "bc_action": expert_action,
            "bc_loss": bc_loss,
            "regularised_actor_loss": regularised,
            "regularised_actor_gradients": named_actor(gradients(regularised, [actor])[0]),
        },
    }
