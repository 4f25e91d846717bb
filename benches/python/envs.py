#!/usr/bin/env python3
"""Steps per second of CPU time, one thread: Hype's environments against Gymnasium's, interleaved.

    cargo build --release -p hype-benches --example env_throughput
    PYTHON benches/python/envs.py [--rounds 7] [--require 1.25]

PYTHON has gymnasium[mujoco]==1.4.0 and mujoco==3.17.0 (`hype doctor` prints how to get one). Both sides take the same number
of steps with uniform random actions drawn beforehand, reset when an episode ends, and are measured from after construction.
Gymnasium's side is the bare environment without its wrappers, which is its fastest form. Each round measures every task on
both sides, one after the other, in alternating order; the table shows medians, and the range of the ratio over rounds.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import gymnasium
import numpy as np

TASKS = {"hopper": ("Hopper-v5", 20000), "walker2d": ("Walker2d-v5", 15000), "half-cheetah": ("HalfCheetah-v5", 40000),
         "ant": ("Ant-v5", 8000), "humanoid": ("Humanoid-v5", 7000)}
HORIZON = 1000


def gymnasium_steps_per_sec(env, steps: int, seed: int) -> float:
    bound = env.action_space.high[0]
    actions = np.random.default_rng(seed).uniform(-bound, bound, (steps, *env.action_space.shape)).astype(np.float32)
    env.reset(seed=seed)
    age = 0
    start = time.thread_time()
    for action in actions:
        _, _, terminated, _, _ = env.step(action)
        age += 1
        if terminated or age == HORIZON:
            env.reset()
            age = 0
    return steps / (time.thread_time() - start)


def hype_steps_per_sec(program: pathlib.Path, task: str, steps: int) -> float:
    return float(subprocess.run([program, task, str(steps)], check=True, capture_output=True, text=True).stdout)


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[2]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")).resolve()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--require", type=float, help="exit code 1 if a median ratio is below this")
    parser.add_argument("--program", type=pathlib.Path, default=target / "release/examples/env_throughput")
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    if not program.exists():
        parser.error(f"{program} is not built: cargo build --release -p hype-benches --example env_throughput")
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # MuJoCo's Python binding leaves MUJOCO_LOG.TXT where it runs
        envs = {task: gymnasium.make(name).unwrapped for task, (name, _) in TASKS.items()}
        ours, theirs = {task: [] for task in TASKS}, {task: [] for task in TASKS}
        for number in range(arguments.rounds):
            for task, (_, steps) in TASKS.items():
                measures = [lambda: ours[task].append(hype_steps_per_sec(program, task, steps)),
                            lambda: theirs[task].append(gymnasium_steps_per_sec(envs[task], steps, number))]
                for measure in measures if number % 2 == 0 else reversed(measures):
                    measure()
        os.chdir("/")
    print(f"{'task':<14}{'Gymnasium':>12}{'Hype':>12}{'ratio':>8}   range of {arguments.rounds} rounds")
    worst = float("inf")
    for task in TASKS:
        ratios = [a / b for a, b in zip(ours[task], theirs[task])]
        ratio = statistics.median(ratios)
        worst = min(worst, ratio)
        print(f"{task:<14}{statistics.median(theirs[task]):>12,.0f}{statistics.median(ours[task]):>12,.0f}{ratio:>8.2f}"
              f"   {min(ratios):.2f}-{max(ratios):.2f}")
    return int(arguments.require is not None and worst < arguments.require)


if __name__ == "__main__":
    sys.exit(main())
