#!/usr/bin/env python3
"""Gradient steps per second of a stacked soft actor-critic in PyTorch, for comparison with `hype device-check`.

torch_sac_step.py DEVICE OUT.jsonl [SECONDS]

The same step on the same sizes (17 observations, 6 actions, 2 x 256, batch 256): seeds and twin critics side by side in
batched products, fused Adam, targets by Polyak averaging. Batches are drawn on the device, which spares PyTorch the
transfer that Hype makes. Eager, and replayed as a CUDA graph where there is a GPU.
"""

import json
import sys
import time

import torch

OBS, ACT, WIDTH, BATCH = 17, 6, 256, 256
DISCOUNT, POLYAK, RATE = 0.98, 0.02, 7.3e-4


def network(members, inputs, outputs, device):
    params = []
    for fan_in, fan_out in [(inputs, WIDTH), (WIDTH, WIDTH), (WIDTH, outputs)]:
        bound = fan_in**-0.5
        params.append(torch.empty(members, fan_in, fan_out, device=device).uniform_(-bound, bound))
        params.append(torch.zeros(members, 1, fan_out, device=device))
    return params


def forward(params, x):
    for layer in range(0, len(params), 2):
        x = torch.baddbmm(params[layer + 1], x, params[layer])
        if layer + 2 < len(params):
            x = torch.relu(x)
    return x


def sample(head):
    mean, log_std = head.chunk(2, -1)
    log_std = log_std.clamp(-20, 2)
    noise = torch.randn_like(mean)
    action = torch.tanh(mean + log_std.exp() * noise)
    log_prob = -0.5 * noise**2 - log_std - 0.9189385 - torch.log(1 - action**2 + 1e-6)
    return action, log_prob.sum(-1, keepdim=True)


class Stack:
    def __init__(self, seeds, device):
        self.seeds = seeds
        self.actor = network(seeds, OBS, 2 * ACT, device)
        self.critics = network(2 * seeds, OBS + ACT, 1, device)
        self.targets = [p.clone() for p in self.critics]
        self.log_alpha = torch.zeros(seeds, 1, 1, device=device)
        for p in [*self.actor, *self.critics, self.log_alpha]:
            p.requires_grad_()
        adam = {"lr": RATE, "fused": True, "capturable": device != "cpu"}
        self.optimizers = [torch.optim.Adam(p, **adam) for p in ([self.log_alpha], self.critics, self.actor)]
        rows = 100_000
        self.store = [torch.randn(rows, w, device=device) for w in (OBS, ACT, OBS, 1)]
        self.rows, self.device = rows, device

    def values(self, params, observation, action):
        pairs = torch.cat([observation, action], -1).repeat_interleave(2, 0)
        return forward(params, pairs).view(self.seeds, 2, BATCH)

    def step(self):
        index = torch.randint(self.rows, (self.seeds * BATCH,), device=self.device)
        observation, action, following, reward = [
            part[index].view(self.seeds, BATCH, -1) for part in self.store
        ]
        action = torch.tanh(action)
        temperature, critics, actor = self.optimizers
        alpha = self.log_alpha.detach().exp()
        drawn, log_prob = sample(forward(self.actor, observation))
        temperature.zero_grad()
        loss = -(self.log_alpha * (log_prob.detach() - ACT)).mean((1, 2)).sum()
        loss.backward()
        temperature.step()
        with torch.no_grad():
            next_action, next_log_prob = sample(forward(self.actor, following))
            smaller = self.values(self.targets, following, next_action).amin(1).unsqueeze(-1)
            target = reward + DISCOUNT * (smaller - alpha * next_log_prob)
        critics.zero_grad()
        q = self.values(self.critics, observation, action)
        (0.5 * (q - target.view(self.seeds, 1, BATCH)) ** 2).mean(2).sum().backward()
        critics.step()
        actor.zero_grad()
        frozen = [p.detach() for p in self.critics]
        smaller = self.values(frozen, observation, drawn).amin(1).unsqueeze(-1)
        (alpha * log_prob - smaller).mean((1, 2)).sum().backward()
        actor.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.targets, self.critics, POLYAK)


def finish(device):
    if device != "cpu":
        torch.cuda.synchronize()


def rate(step, device, seconds):
    for _ in range(10):
        step()
    finish(device)
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for _ in range(16):
            step()
        finish(device)
        steps += 16
    return steps / (time.perf_counter() - begin)


def graphed(stack):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            stack.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stack.step()
    return graph.replay


def main():
    device, path = sys.argv[1], sys.argv[2]
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 3.0
    torch.set_float32_matmul_precision("highest")
    with open(path, "w") as out:
        for seeds in (1, 4, 10, 32):
            for how in ("eager", "graph") if device != "cpu" else ("eager",):
                line = {"kind": "torch", "torch": torch.__version__, "seeds": seeds, "how": how}
                try:
                    stack = Stack(seeds, device)
                    step = stack.step if how == "eager" else graphed(stack)
                    steps = rate(step, device, seconds)
                    line |= {"grad_steps_per_sec": steps, "seed_steps_per_sec": steps * seeds}
                except RuntimeError as error:
                    line["error"] = str(error)[:300]
                print(json.dumps(line), file=out, flush=True)
                print(json.dumps(line), file=sys.stderr)


if __name__ == "__main__":
    main()
