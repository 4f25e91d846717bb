#!/usr/bin/env python3
"""CPU milliseconds of one SAC gradient step, one thread: Hype against Stable-Baselines3, SBX (JAX) and RLtools (C++), interleaved.

    cargo build --release -p hype-benches --example sac_step
    python3 -m venv venv && venv/bin/pip install torch stable-baselines3 sbx-rl tfp-nightly rltools gymnasium numpy
    apt-get install -y g++ libopenblas-dev          # for RLtools
    taskset -c 1 venv/bin/python benches/python/peers.py [--rounds 5] [--observations 17] [--actions 6] [--hidden 256] [--batch 256]

Every contestant samples from its own replay memory and takes the same step: twin critics, learned temperature, Adam, soft targets. A
round runs each of them once in a process of its own, in alternating order; the table has the median over rounds of each round's
median, and the ratio to Hype, round by round. A peer that is not installed is named and left out. RLtools couples every gradient
step with an environment step; what the same environment steps cost alone is taken off. Time is that of the process, all threads.
"""

import argparse
import functools
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

REPEATS = 60
STEPS = 5


def timed(step, beside=0.0):
    """Median and best of CPU milliseconds per gradient step without what is spent `beside` it; `step` takes STEPS of them."""
    for _ in range(5):
        step()
    taken = []
    for _ in range(REPEATS):
        begin = time.process_time()
        step()
        taken.append((time.process_time() - begin) / STEPS * 1e3 - beside)
    print(json.dumps({"median": statistics.median(taken), "best": min(taken)}))


def noise_environment(sizes):
    """An environment that costs nothing: the same observation for ever."""
    import gymnasium
    import numpy

    class Noise(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (sizes.observations,), numpy.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (sizes.actions,), numpy.float32)
        state = numpy.random.default_rng(0).uniform(-1, 1, sizes.observations).astype(numpy.float32)

        def reset(self, seed=None, options=None):
            return self.state, {}

        def step(self, action):
            return self.state, 0.5, False, False, {}

    return Noise


def stable_baselines(sizes, jax_version):
    if jax_version:
        import jax
        from sbx import SAC
    else:
        import torch
        from stable_baselines3 import SAC

        torch.set_num_threads(1)
    model = SAC("MlpPolicy", noise_environment(sizes)(), batch_size=sizes.batch, learning_starts=300, buffer_size=100_000,
                policy_kwargs={"net_arch": [sizes.hidden] * 2}, device="auto" if jax_version else "cpu")
    model.learn(400)

    def step():
        model.train(gradient_steps=STEPS, batch_size=sizes.batch)
        if jax_version:
            jax.block_until_ready(model.policy.qf_state.params)

    timed(step)


def rltools(sizes):
    import importlib

    import rltools as library

    # rltools 2.2.1 takes the episode's limit but does not hand it to its compiler, without which its source does not compile.
    module = importlib.import_module(library.SAC.__module__)
    module.compile_training = functools.partial(module.compile_training, EPISODE_STEP_LIMIT=1000)
    environment = noise_environment(sizes)
    agent = library.SAC(environment, interface_name="peers", enable_evaluation=False, ACTOR_BATCH_SIZE=sizes.batch, CRITIC_BATCH_SIZE=sizes.batch,
                        ACTOR_HIDDEN_DIM=sizes.hidden, CRITIC_HIDDEN_DIM=sizes.hidden, N_WARMUP_STEPS=300,
                        REPLAY_BUFFER_CAP=100_000, STEP_LIMIT=100_000)
    # Three layers are two hidden ones and the output. Its loop trains by default at every step: actor, critics, temperature.
    state = agent.State(0)
    state.step()
    begin = time.process_time()
    for _ in range(250):
        state.step()
    environment_millis = (time.process_time() - begin) / 250 * 1e3
    for _ in range(200):
        state.step()

    def step():
        for _ in range(STEPS):
            state.step()

    timed(step, environment_millis)


PEERS = {
    "Stable-Baselines3": ("stable_baselines3", lambda sizes: stable_baselines(sizes, False)),
    "SBX": ("sbx", lambda sizes: stable_baselines(sizes, True)),
    "RLtools": ("rltools", rltools),
}


def one(name, sizes):
    root = pathlib.Path(__file__).resolve().parents[2]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "SKYLAKEX", "RAYON_NUM_THREADS": "1",
                  "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    numbers = [str(n) for n in (sizes.observations, sizes.actions, sizes.hidden, sizes.batch)]
    if name == "Hype":
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
        command = [str(target / "release/examples/sac_step"), *numbers, str(REPEATS * STEPS)]
    else:
        command = [sys.executable, __file__, "--peer", name, "--observations", numbers[0], "--actions", numbers[1],
                   "--hidden", numbers[2], "--batch", numbers[3]]
    result = subprocess.run(command, env=os.environ | one_thread, capture_output=True, text=True)
    if result.returncode:
        sys.stderr.write(f"{name} failed:\n{result.stderr[-2000:]}\n")
        return None
    return json.loads(result.stdout.strip().splitlines()[-1])["median"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    for size, default in {"observations": 17, "actions": 6, "hidden": 256, "batch": 256}.items():
        parser.add_argument(f"--{size}", type=int, default=default)
    sizes = parser.parse_args()
    if sizes.peer:
        PEERS[sizes.peer][1](sizes)
        return
    missing = [name for name, (module, _) in PEERS.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    names = ["Hype", *(name for name in PEERS if name not in missing)]
    rounds = {name: [] for name in names}
    for index in range(sizes.rounds):
        for name in names if index % 2 == 0 else reversed(names):
            rounds[name].append(one(name, sizes))
    for name, millis in rounds.items():
        if None in millis:
            print(f"{name:<18} failed")
            continue
        ratios = sorted(theirs / ours for theirs, ours in zip(millis, rounds["Hype"]))
        print(f"{name:<18} {statistics.median(millis):6.2f} ms   {statistics.median(ratios):5.2f} times Hype "
              f"({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
