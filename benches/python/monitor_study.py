#!/usr/bin/env python3
"""Which score tells sooner that a Hopper's body has changed: the learned discriminator, or the Mahalanobis distance?

    python benches/python/monitor_study.py --bundle RUN.bundle --policy POLICY.onnx --demos F.hdf5 -o study.json

`--policy` is the deployed policy (the bundle's own, unless given); the discriminator is the bundle's. Scores and running
statistic are those of policy-runtime/src/monitor.rs. Nominal episodes of the deployed policy come in two halves: mean, deviation
and threshold are fitted to the first (at most one false alarm per 10 minutes), false alarms are counted on the second. Bodies
change at tick CHANGE of an episode and serve for nothing but the test. An alarm before the change, or in a held-out nominal
episode, is a false one. Needs gymnasium[mujoco], onnxruntime, h5py.
"""

import argparse
import json
import math

import gymnasium
import h5py
import numpy as np
import onnxruntime

CHANGE = 250
SETTLE = 125  # ticks of the entry, from rest, that are not watched
HORIZON = 1000
TICKS_IN_TEN_MINUTES = 75_000  # Hopper acts at 125 Hz
SLACK, MOST = 0.5, 10.0
RIDGE, LEAST_VARIANCE = 1e-3, 1e-8


def changes(model):
    """Name and effect of each changed body; `model` is MuJoCo's."""

    def mass(factor):
        model.body_mass[:] *= factor
        model.body_inertia[:] *= factor

    def torso(kilograms):
        model.body_mass[1] += kilograms

    def friction(factor):
        model.geom_friction[:, 0] *= factor

    def stuck(joint):
        model.dof_frictionloss[3 + joint] = 500.0

    def weak(factor):
        model.actuator_gear[:, 0] *= factor

    return {
        "mass x0.8": lambda: mass(0.8),
        "mass x1.2": lambda: mass(1.2),
        "mass x1.5": lambda: mass(1.5),
        "torso +1 kg": lambda: torso(1.0),
        "friction x0.25": lambda: friction(0.25),
        "friction x0.5": lambda: friction(0.5),
        "friction x2": lambda: friction(2.0),
        "thigh stuck": lambda: stuck(0),
        "leg stuck": lambda: stuck(1),
        "foot stuck": lambda: stuck(2),
        "motors x0.7": lambda: weak(0.7),
    }


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def episode(policy, seed, change=None):
    """Pairs `[ticks, 14]` of one episode, in f32; the body named `change` takes effect at tick CHANGE."""
    env = gymnasium.make("Hopper-v5", max_episode_steps=HORIZON)
    observation, _ = env.reset(seed=seed)
    name = policy.get_inputs()[0].name
    pairs = []
    for tick in range(HORIZON):
        if change is not None and tick == CHANGE:
            changes(env.unwrapped.model)[change]()
        seen = observation.astype(np.float32)
        action = policy.run(None, {name: seen[None]})[0][0]
        pairs.append(np.concatenate([seen, action]))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    env.close()
    return np.array(pairs[SETTLE:])


class Mahalanobis:
    def __init__(self, pairs):
        pairs = pairs.astype(np.float64)
        self.mean = pairs.mean(0)
        covariance = np.cov(pairs.T, bias=True)
        covariance += np.diag(np.diag(covariance) * RIDGE + LEAST_VARIANCE)
        self.whitening = np.linalg.inv(np.linalg.cholesky(covariance))

    def __call__(self, pairs):
        return np.log1p((((pairs - self.mean) @ self.whitening.T) ** 2).mean(1))


class Discriminator:
    def __init__(self, path):
        self.model = session(path)

    def __call__(self, pairs):
        inputs = {"observation": pairs[:, :11], "action": pairs[:, 11:]}
        return -self.model.run(None, inputs)[0][:, 0].astype(np.float64)


def cusum(scores, mean, deviation, threshold=math.inf):
    """The running sum after each score."""
    sums, total = [], 0.0
    for step in np.minimum((scores - mean) / deviation - SLACK, MOST):
        total = min(max(total + step, 0.0), 2.0 * threshold)
        sums.append(total)
    return np.array(sums)


def fit(episodes):
    scores = np.concatenate(episodes)
    mean, deviation = scores.mean(), scores.std()
    peaks = []
    for one in episodes:
        peak = 0.0
        for total in cusum(one, mean, deviation):
            if total == 0.0:
                peaks.append(peak)
                peak = 0.0
            peak = max(peak, total)
        peaks.append(peak)
    peaks.sort(reverse=True)
    allowed = int(len(scores) / TICKS_IN_TEN_MINUTES)
    return mean, deviation, max(1.1 * peaks[allowed], MOST)


def alarms(sums, threshold):
    """Ticks at which the sum rises above the threshold."""
    above = sums > threshold
    return np.flatnonzero(above & ~np.concatenate([[False], above[:-1]]))


def area(nominal, changed):
    """Area under the ROC curve: how often a changed episode's figure is above a nominal one's."""
    nominal, changed = np.asarray(nominal), np.asarray(changed)
    wins = (changed[:, None] > nominal[None]).mean() + 0.5 * (changed[:, None] == nominal[None]).mean()
    return float(wins)


def study(name, score, nominal, held_out, tests):
    mean, deviation, threshold = fit([score(one) for one in nominal])
    quiet = [cusum(score(one), mean, deviation, threshold) for one in held_out]
    ticks = sum(map(len, quiet))
    false = sum(len(alarms(one, threshold)) for one in quiet)
    change_at = CHANGE - SETTLE

    def peak(one):
        """The sum starts again at the change, in changed and nominal episodes alike, so that its past decides nothing."""
        return cusum(score(one[change_at:]), mean, deviation).max()

    quiet_peaks = [peak(one) for one in held_out if len(one) > change_at]
    rows = {}
    for change, episodes in tests.items():
        peaks, delays, falls = [], [], 0
        for one in episodes:
            if len(one) <= change_at:
                continue
            sums = cusum(score(one), mean, deviation, threshold)
            raised = np.flatnonzero(sums[change_at:] > threshold)
            falls += len(one) < HORIZON - SETTLE
            delays.append(int(raised[0]) if len(raised) else None)
            peaks.append(peak(one))
        found = sorted(delay for delay in delays if delay is not None)
        rows[change] = {
            "episodes": len(delays),
            "falls": falls,
            "detected": len(found),
            "auc": round(area(quiet_peaks, peaks), 3),
            "median_delay_ticks": found[len(found) // 2] if found else None,
        }
    nominal_minutes = ticks / 125 / 60
    return {
        "score": name,
        "mean": mean,
        "deviation": deviation,
        "threshold": threshold,
        "held_out_minutes": round(nominal_minutes, 1),
        "false_alarms_per_10_minutes": round(false / nominal_minutes * 10, 2),
        "mean_auc": round(float(np.mean([row["auc"] for row in rows.values()])), 3),
        "detected_share": round(sum(r["detected"] for r in rows.values()) / sum(r["episodes"] for r in rows.values()), 3),
        "changes": rows,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--policy")
    parser.add_argument("--demos", required=True)
    parser.add_argument("--nominal", type=int, default=160, help="nominal episodes to fit to")
    parser.add_argument("--held-out", type=int, default=80)
    parser.add_argument("--tests", type=int, default=16, help="episodes of each changed body")
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()

    policy = session(args.policy or f"{args.bundle}/policy.onnx")
    with h5py.File(args.demos) as file:
        demos = np.concatenate([file["observations"][:], file["actions"][:]], 1).astype(np.float32)
    nominal = [episode(policy, 10_000 + seed) for seed in range(args.nominal)]
    held_out = [episode(policy, 20_000 + seed) for seed in range(args.held_out)]
    names = changes(gymnasium.make("Hopper-v5").unwrapped.model)
    tests = {name: [episode(policy, 30_000 + seed, name) for seed in range(args.tests)] for name in names}
    told = {
        "policy": args.policy or "the bundle's",
        "nominal_ticks": float(np.mean([len(one) for one in nominal])),
        "results": [
            study("mahalanobis", Mahalanobis(demos), nominal, held_out, tests),
            study("mahalanobis from nominal episodes", Mahalanobis(np.concatenate(nominal)), nominal, held_out, tests),
            study("discriminator", Discriminator(f"{args.bundle}/discriminator.onnx"), nominal, held_out, tests),
        ],
    }
    with open(args.output, "w") as file:
        json.dump(told, file, indent=1)
    for result in told["results"]:
        print({key: value for key, value in result.items() if key != "changes"})
        for change, row in result["changes"].items():
            print(f"  {change:<16}{row}")


if __name__ == "__main__":
    main()
