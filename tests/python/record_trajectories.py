#!/usr/bin/env python3
"""Records what Gymnasium does with known actions, for tests/tests/gymnasium_parity.rs.

    python3 -m venv V && V/bin/pip install 'gymnasium[mujoco]==1.4.0' 'mujoco==3.17.0'
    V/bin/python tests/python/record_trajectories.py --write tests/data/gymnasium   # the committed files
    V/bin/python tests/python/record_trajectories.py --compact Hopper-v5            # one of them, to standard output
    V/bin/python tests/python/record_trajectories.py --full Hopper-v5               # every number, one JSON line a step

A run takes STEPS steps. Actions come from a 64-bit generator that the Rust side repeats (`Actions`); an episode that ends
is followed by one from the next of STARTS recorded start states. A committed file holds the start states, three whole
observations, and every DIGEST_EVERY steps a digest of each observation, reward and termination so far, bit by bit (zero's
sign aside). Numbers are shortest round-trip decimals: they read back as the same f64.
"""

import argparse
import json
import os
import pathlib
import platform
import struct
import sys
import tempfile

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

STEPS = 1000
STARTS = 4
SEED = 20240213
DIGEST_EVERY = 50
SAMPLES = (1, 500, 1000)
MASK = (1 << 64) - 1
ROBOTS = ["Hopper", "Walker2d", "HalfCheetah", "Ant", "Humanoid"]
IDS = [f"{robot}-{version}" for version in ("v5", "v4") for robot in ROBOTS] + ["Pendulum-v1"]


class Actions:
    """SplitMix64; the top 24 bits make a float32 in [-1, 1), scaled by the bound."""

    def __init__(self, seed: int):
        self.state = seed

    def next(self, width: int, bound: float) -> np.ndarray:
        values = []
        for _ in range(width):
            self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
            z = self.state
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
            z ^= z >> 31
            values.append(np.float32((z >> 40) / 2**23 - 1.0) * np.float32(bound))
        return np.array(values, dtype=np.float32)


class Digest:
    """Multiply-and-fold over the bits of each f64."""

    def __init__(self):
        self.value = 0xCBF29CE484222325

    def add(self, numbers) -> None:
        for number in numbers:
            (bits,) = struct.unpack("<Q", struct.pack("<d", float(number) + 0.0))
            self.value = ((self.value ^ bits) * 0x9E3779B97F4A7C15) & MASK
            self.value ^= self.value >> 32


def start_again(env, start) -> np.ndarray:
    """Puts the environment into a start state in the way in which its own reset does."""
    if isinstance(env, MujocoEnv):
        mujoco.mj_resetData(env.model, env.data)
        env.set_state(np.array(start["qpos"]), np.array(start["qvel"]))
    else:
        env.state = np.array([start["qpos"][0], start["qvel"][0]])
    return env._get_obs()


def draw_starts(env) -> list:
    starts = []
    for index in range(STARTS):
        env.reset(seed=SEED + index)
        if isinstance(env, MujocoEnv):
            qpos, qvel = env.data.qpos, env.data.qvel
        else:
            qpos, qvel = env.state[:1], env.state[1:]
        starts.append({"qpos": [float(x) for x in qpos], "qvel": [float(x) for x in qvel]})
    return starts


def play(name: str):
    """Yields ("start", index, observation) and ("step", number, observation, reward, terminated)."""
    env = gymnasium.make(name).unwrapped
    starts = draw_starts(env)
    yield ("starts", starts)
    bound = float(env.action_space.high[0])
    actions = Actions(SEED)
    episode, age = 0, 0
    yield ("start", 0, start_again(env, starts[0]))
    for number in range(1, STEPS + 1):
        observation, reward, terminated, _, _ = env.step(actions.next(env.action_space.shape[0], bound))
        yield ("step", number, observation, float(reward), bool(terminated))
        age += 1
        if terminated or (name.startswith("Pendulum") and age == 200):
            episode, age = episode + 1, 0
            yield ("start", episode % STARTS, start_again(env, starts[episode % STARTS]))


def compact(name: str) -> dict:
    digest, digests, samples, rewards, terminations = Digest(), [], {}, [], 0
    for event in play(name):
        if event[0] == "starts":
            starts = event[1]
        elif event[0] == "start":
            digest.add(event[2])
        else:
            _, number, observation, reward, terminated = event
            digest.add(observation)
            digest.add([reward, float(terminated)])
            terminations += terminated
            if number in SAMPLES:
                samples[str(number)] = [float(x) for x in observation]
                rewards.append(reward)
            if number % DIGEST_EVERY == 0:
                digests.append(f"{digest.value:016x}")
    return {
        "certificate": {
            "script": "tests/python/record_trajectories.py",
            "gymnasium": gymnasium.__version__,
            "mujoco": mujoco.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
            "seed": SEED,
            "digest": digests[-1],
        },
        "id": name,
        "terminations": terminations,
        "starts": starts,
        "observations": samples,
        "rewards": rewards,
        "digests": digests,
    }


def full(name: str) -> None:
    for event in play(name):
        if event[0] == "starts":
            line = {"starts": event[1]}
        elif event[0] == "start":
            line = {"start": event[1], "observation": [float(x) for x in event[2]]}
        else:
            line = {"observation": [float(x) for x in event[2]], "reward": event[3], "terminated": event[4]}
        print(json.dumps(line), file=OUTPUT)


def dump(record: dict) -> str:
    return json.dumps(record, separators=(",", ":")).replace(',"', ',\n"') + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=pathlib.Path, metavar="FOLDER")
    what.add_argument("--compact", choices=IDS)
    what.add_argument("--full", choices=IDS)
    arguments = parser.parse_args()
    folder = arguments.write and arguments.write.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # MuJoCo's Python binding leaves MUJOCO_LOG.TXT where it runs
        if folder:
            for name in IDS:
                (folder / f"{name}.json").write_text(dump(compact(name)))
        elif arguments.compact:
            OUTPUT.write(dump(compact(arguments.compact)))
        else:
            full(arguments.full)
        OUTPUT.flush()
        os.chdir("/")


if __name__ == "__main__":
    OUTPUT = sys.stdout
    main()
