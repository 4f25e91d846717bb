"""Losses of IQ-Learn."""

import math

import torch

from .networks import ACT_DIM, CRITIC_SIZES, HIDDEN, MARGIN, OBS_DIM, Mlp, f32, gradients, rows_that_keep_away, tensor

LOG_STD_BOUNDS = -5.0, 2.0
OBJECTIVES = "value", "value-expert", "v0"
DIVERGENCES = "chi2", "hellinger", "kl", "kl-fix", "js"


def sample(actor, obs, noise):
    """Squashed action with its exact log-probability, through torch.distributions."""
    mean, raw = actor(obs).chunk(2, dim=1)
    low, high = LOG_STD_BOUNDS
    log_std = low + 0.5 * (high - low) * (torch.tanh(raw) + 1)
    u = mean + log_std.exp() * noise
    transform = torch.distributions.TanhTransform()
    base = torch.distributions.Normal(mean, log_std.exp()).log_prob(u)
    log_prob = (base - transform.log_abs_det_jacobian(u, torch.tanh(u))).sum(dim=1)
    return torch.tanh(u), log_prob, u


def weight(divergence, reward):
    if divergence == "hellinger":
        return 1 / (1 + reward) ** 2
    if divergence == "kl":
        return torch.exp(-reward - 1)
    if divergence == "kl-fix":
        return torch.exp(-reward)
    if divergence == "js":
        return torch.exp(-reward) / (2 - torch.exp(-reward))
    return torch.ones_like(reward)


def iq(rng):
    actor = Mlp(rng, [OBS_DIM, HIDDEN, HIDDEN, 2 * ACT_DIM])
    critics, targets = [Mlp(rng, CRITIC_SIZES) for _ in range(2)], [Mlp(rng, CRITIC_SIZES) for _ in range(2)]
    discount, temperature, alpha = float(f32(0.99)), float(f32(0.05)), 0.5

    def q(nets, obs, action):
        return torch.cat([net(torch.cat([obs, action], dim=1)) for net in nets], dim=1)

    def draw():
        return {
            "obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM)),
            "action": f32(rng.uniform(-0.95, 0.95, ACT_DIM)),
            "next_obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM)),
            "noise": f32(rng.standard_normal(ACT_DIM) * 0.6),
            "next_noise": f32(rng.standard_normal(ACT_DIM) * 0.6),
        }

    def calm(nets, obs, action):
        x = torch.cat([obs, action], dim=1)
        values = q(nets, obs, action)
        apart = (values[:, 0] - values[:, 1]).abs().min() > 10 * MARGIN
        return all(net.margin(x).min() > MARGIN for net in nets) and apart

    def accept(row):
        action, _, u = sample(actor, row["obs"], row["noise"])
        next_action, _, next_u = sample(actor, row["next_obs"], row["next_noise"])
        if actor.margin(row["obs"]).min() < MARGIN or actor.margin(row["next_obs"]).min() < MARGIN:
            return False
        if max(u.abs().max(), next_u.abs().max()) > 2 or min(u.abs().min(), next_u.abs().min()) < MARGIN:
            return False
        # The weights of Hellinger and Jensen-Shannon have poles at R = -1 and R = -log 2.
        own, value = q(critics, row["obs"], row["action"]), q(targets, row["next_obs"], next_action)
        rewards = torch.cat([own, own - discount * value, own - discount * value.flip(1)])
        return (
            calm(critics, row["obs"], row["action"])
            and calm(critics, row["obs"], action)
            and calm(targets, row["next_obs"], next_action)
            and rewards.min() > -0.4
            and rewards.max() < 2.5
        )

    sides = {}
    for name in ("expert", "policy"):
        sides[name] = rows_that_keep_away(6, draw, accept)
        sides[name]["terminated"] = tensor([0, 0, 1, 0, 0, 0])
    starts = rows_that_keep_away(4, draw, accept)

    def parts(side, count):
        """Own and sampled critic values, V(s) and y of one side, with `count` critics."""
        own = q(critics[:count], side["obs"], side["action"])
        action, log_prob, _ = sample(actor, side["obs"], side["noise"])
        sampled = q(critics[:count], side["obs"], action.detach())
        value = sampled.min(dim=1).values - temperature * log_prob.detach()
        with torch.no_grad():
            next_action, next_log_prob, _ = sample(actor, side["next_obs"], side["next_noise"])
            next_value = q(targets[:count], side["next_obs"], next_action).min(dim=1).values
            y = (1 - side["terminated"]) * discount * (next_value - temperature * next_log_prob)
        return own, sampled, value, y

    def loss(case):
        count = case["critics"]
        expert, policy = parts(sides["expert"], count), parts(sides["policy"], count)
        action, log_prob, _ = sample(actor, starts["obs"], starts["noise"])
        v0 = q(critics[:count], starts["obs"], action.detach()).min(dim=1).values - temperature * log_prob.detach()
        total = 0
        for i in range(count):
            reward = expert[0][:, i] - expert[3]
            one = -(weight(case["divergence"], reward).detach() * reward).mean()
            if case["objective"] == "value":
                one = one + torch.cat([expert[2] - expert[3], policy[2] - policy[3]]).mean()
            elif case["objective"] == "value-expert":
                one = one + (expert[2] - expert[3]).mean()
            else:
                one = one + (1 - discount) * v0.mean()
            if case["expert_penalty"]:
                one = one + (reward**2).mean() / (4 * alpha)
            if case["penalty"]:
                of_policy = policy[1] if case["penalty_rows"] == "policy" else policy[0]
                both = torch.cat([reward, of_policy[:, i] - policy[3]])
                one = one + (both**2).mean() / (4 * alpha)
            total = total + one / count
        return total

    cases = []

    def record(objective="value", divergence="chi2", penalty=True, expert_penalty=False, rows="replay", count=1):
        case = {
            "objective": objective,
            "divergence": divergence,
            "penalty": penalty,
            "expert_penalty": expert_penalty,
            "penalty_rows": rows,
            "critics": count,
        }
        total = loss(case)
        assert math.isfinite(total.item())
        cases.append({**case, "expected": {"loss": total, "critic_gradients": gradients(total, critics[:count])}})

    for objective in OBJECTIVES:
        record(objective)
    for divergence in DIVERGENCES[1:]:
        record("value", divergence, penalty=False)
    record("value-expert", expert_penalty=True, penalty=False)
    record("v0", rows="policy")
    record("v0", "js", expert_penalty=True, count=2)

    obs = torch.cat([sides["expert"]["obs"], sides["policy"]["obs"]])
    noise = torch.cat([sides["expert"]["noise"], sides["policy"]["noise"]])
    action, log_prob, _ = sample(actor, obs, noise)
    actor_loss = (temperature * log_prob - q(critics[:1], obs, action)[:, 0]).mean()
    return {
        "discount": discount,
        "temperature": temperature,
        "alpha": alpha,
        "actor": actor.json(),
        "critics": [critic.json() for critic in critics],
        "target_critics": [target.json() for target in targets],
        "expert": sides["expert"],
        "policy": sides["policy"],
        "starts": {key: starts[key] for key in ("obs", "noise")},
        "cases": cases,
        "expected": {
            "action": action,
            "log_prob": log_prob,
            "actor_loss": actor_loss,
            "actor_gradients": gradients(actor_loss, [actor])[0],
        },
    }
