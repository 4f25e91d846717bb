"""Losses of TD3+BC."""

import torch

from .networks import ACT_DIM, CRITIC_SIZES, HIDDEN, MARGIN, OBS_DIM, Mlp, f32, gradients, rows_that_keep_away, tensor


def td3(rng):
    actors = [Mlp(rng, [OBS_DIM, HIDDEN, HIDDEN, ACT_DIM]) for _ in range(2)]
    actor, target_actor = actors
    critics, targets = [Mlp(rng, CRITIC_SIZES) for _ in range(2)], [Mlp(rng, CRITIC_SIZES) for _ in range(2)]
    discount, noise_scale, noise_clip, alpha = float(f32(0.99)), float(f32(0.2)), 0.5, 2.5

    def q(net, obs, action):
        return net(torch.cat([obs, action], dim=1))[:, 0]

    def smoothed(row):
        noise = (noise_scale * row["noise"]).clamp(-noise_clip, noise_clip)
        return torch.tanh(target_actor(row["next_obs"])) + noise

    def draw():
        return {
            "obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM)),
            "action": f32(rng.uniform(-0.95, 0.95, ACT_DIM)),
            "next_obs": f32(rng.uniform(-1.5, 1.5, OBS_DIM)),
            "noise": f32(rng.standard_normal(ACT_DIM) * 1.6),
            "reward": f32(rng.standard_normal(1)),
        }

    def accept(row):
        pi, next_action = torch.tanh(actor(row["obs"])), smoothed(row)
        pairs = [
            (critics, row["obs"], row["action"]),
            (critics[:1], row["obs"], pi),
            (targets, row["next_obs"], next_action.clamp(-1, 1)),
        ]
        next_q = [q(t, row["next_obs"], next_action.clamp(-1, 1)).item() for t in targets]
        return (
            actor.margin(row["obs"]).min() > MARGIN
            and target_actor.margin(row["next_obs"]).min() > MARGIN
            and all(net.margin(torch.cat([s, a], dim=1)).min() > MARGIN for nets, s, a in pairs for net in nets)
            and abs(next_q[0] - next_q[1]) > 10 * MARGIN
            and ((noise_scale * row["noise"]).abs() - noise_clip).abs().min() > MARGIN
            and (next_action.abs() - 1).abs().min() > MARGIN
            and abs(q(critics[0], row["obs"], pi).item()) > MARGIN
        )

    batch = rows_that_keep_away(8, draw, accept)
    batch["reward"] = batch["reward"][:, 0]
    batch["terminated"] = tensor([0, 1, 0, 0, 0, 0, 1, 0])
    assert bool(((noise_scale * batch["noise"]).abs() > noise_clip).any()) and bool((smoothed(batch).abs() > 1).any())

    with torch.no_grad():
        next_action = smoothed(batch).clamp(-1, 1)
        next_q = torch.minimum(*[q(t, batch["next_obs"], next_action) for t in targets])
        target = batch["reward"] + discount * (1 - batch["terminated"]) * next_q
    q_data = [q(c, batch["obs"], batch["action"]) for c in critics]
    critic_loss = sum(torch.nn.functional.mse_loss(values, target) for values in q_data)

    pi = torch.tanh(actor(batch["obs"]))
    q_pi = q(critics[0], batch["obs"], pi)
    scale = alpha / q_pi.abs().mean().detach()
    q_term = -scale * q_pi.mean()
    bc_term = torch.nn.functional.mse_loss(pi, batch["action"])
    variants = {"q_only": q_term, "bc_only": bc_term, "q_and_bc": q_term + bc_term}
    return {
        "discount": discount,
        "noise_scale": noise_scale,
        "noise_clip": noise_clip,
        "alpha": alpha,
        "actor": actor.json(),
        "target_actor": target_actor.json(),
        "critics": [c.json() for c in critics],
        "target_critics": [t.json() for t in targets],
        "batch": batch,
        "expected": {
            "next_action": next_action,
            "target": target,
            "q_data": torch.stack(q_data),
            "critic_loss": critic_loss,
            "critic_gradients": gradients(critic_loss, critics),
            "action_pi": pi,
            "q_pi": q_pi,
            "lambda": scale,
            "actor_loss": variants,
            "actor_gradients": {name: gradients(loss, [actor])[0] for name, loss in variants.items()},
        },
    }
