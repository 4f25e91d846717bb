#!/usr/bin/env python3
"""Other people's policies: exports a matrix of models as their exporters do, runs each through `hype-policy infer`, and compares with
onnxruntime.

    cargo build --release -p hype-policy-runtime
    python3 -m venv venv && venv/bin/pip install torch onnx onnxscript onnxruntime numpy
    venv/bin/python tests/python/foreign_policies.py FOLDER --binary target/release/hype-policy [--only WORD] [--json REPORT]
    venv/bin/python tests/python/foreign_policies.py FOLDER --record policy-runtime/tests/foreign

The families mimic the modules that these projects export: Stable-Baselines3 (PPO, SAC, TD3), CleanRL (SAC, PPO, DQN), rsl_rl and Isaac
Lab (MLP with normaliser, LSTM, GRU, two layers), Brax and MuJoCo Playground (SiLU), ML-Agents (several inputs and outputs, noise),
and layers that policies have besides. Each is exported by torch's legacy exporter (opset 11, 13, 15, 17, 20; static and dynamic batch)
and by the dynamo exporter (17 static; 18 and 21, static and dynamic). Weights, inputs and noise come from seed 0. A model passes where it
loads and each deterministic output is within 1e-5 of onnxruntime's, relative to the larger of 1 and the output's magnitude, over 8 steps
with state carried. The exit code is 0 where at least --require models passed.

With --record the same families, narrower, become a small set of files with inputs and onnxruntime's outputs, which the crate's own
tests read without Python.
"""

import argparse
import hashlib
import inspect
import json
import pathlib
import subprocess
import sys
import warnings

import numpy
import torch
from torch import nn

STEPS = 8
LEGACY = [(opset, dynamic) for opset in (11, 13, 15, 17, 20) for dynamic in (False, True)]
DYNAMO = [(17, False), (18, False), (18, True), (21, False), (21, True)]
# What --record keeps of each family: opset, dynamic batch, dynamo.
RECORDED = [(17, False, False), (18, True, True)]
ALSO_RECORDED = {
    "sb3_ppo": [(11, True, False), (21, True, True)],
    "rsl_rl_lstm": [(11, False, False), (21, False, True)],
    "rsl_rl_gru": [(11, True, False), (21, True, True)],
    "unity": [(20, True, False), (21, False, True)],
    "playground": [(11, False, False)],
    "layernorm": [(13, False, False), (20, False, False)],
}
# The output that a robot would get.
ACTIONS = {"isaaclab_amp": "reward", "playground": "continuous_actions", "rsl_rl": "actions", "unity": "deterministic_continuous_actions"}
narrow = False


def wide(width):
    """A layer's width, or a sixteenth of it in recorded files."""
    return max(4, width // 16) if narrow else width


def image_side():
    return 14 if narrow else 26


def mlp(widths, activation, last=None):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1], *([last()] if last else []))


class Normaliser(nn.Module):
    """rsl_rl's empirical normalisation: (x - mean) / (std + 0.01)."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.randn(1, width))
        self.register_buffer("std", torch.rand(1, width) + 0.5)

    def forward(self, x):
        return (x - self.mean) / (self.std + 0.01)


class SquashedActor(nn.Module):
    """SAC: trunk, mean, tanh, scale and bias."""

    def __init__(self, widths, outputs, activation=nn.ReLU, scale=None):
        super().__init__()
        self.trunk = nn.Sequential(mlp(widths, activation), activation())
        self.mean, self.log_std = nn.Linear(widths[-1], outputs), nn.Linear(widths[-1], outputs)
        self.register_buffer("scale", torch.tensor(scale or [1.0] * outputs))
        self.register_buffer("bias", torch.linspace(-0.5, 0.5, outputs))

    def forward(self, x):
        return torch.tanh(self.mean(self.trunk(x))) * self.scale + self.bias


class ActorCritic(nn.Module):
    """Stable-Baselines3 PPO by its documentation's recipe: action, value, log probability."""

    def __init__(self, inputs, outputs, activation=nn.Tanh):
        super().__init__()
        self.flatten = nn.Flatten()
        self.actor = mlp([inputs, wide(64), wide(64), outputs], activation)
        self.critic = mlp([inputs, wide(64), wide(64), 1], activation)
        self.log_std = nn.Parameter(torch.randn(outputs) * 0.1)

    def forward(self, x):
        x = self.flatten(x)
        mean = self.actor(x)
        spread = torch.ones_like(mean) * self.log_std.exp()
        log_prob = -((mean - mean) ** 2) / (2 * spread**2) - spread.log() - 0.9189385332
        return mean, self.critic(x), log_prob.sum(dim=1)


class Recurrent(nn.Module):
    """rsl_rl and Isaac Lab: normaliser, recurrent layer over one step, MLP."""

    def __init__(self, kind, inputs, outputs, layers=1):
        super().__init__()
        hidden = wide(64)
        self.normaliser, self.kind = Normaliser(inputs), kind
        self.rnn = (nn.LSTM if kind == "lstm" else nn.GRU)(inputs, hidden, layers)
        self.actor = mlp([hidden, wide(64), outputs], nn.ELU)

    def forward(self, obs, h_in, c_in=None):
        x = self.normaliser(obs)
        if self.kind == "lstm":
            x, (h, c) = self.rnn(x.unsqueeze(0), (h_in, c_in))
            return self.actor(x.squeeze(0)), h, c
        x, h = self.rnn(x.unsqueeze(0), h_in)
        return self.actor(x.squeeze(0)), h


class Playground(nn.Module):
    """Brax and MuJoCo Playground: normaliser, SiLU trunk, location and scale, tanh of the location."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.normaliser = Normaliser(inputs)
        self.trunk = mlp([inputs, wide(128), wide(128), wide(128), 2 * outputs], nn.SiLU)

    def forward(self, obs):
        location, _ = torch.split(self.trunk(self.normaliser(obs)), self.trunk[-1].out_features // 2, dim=-1)
        return torch.tanh(location)


class MlAgents(nn.Module):
    """ML-Agents: a sampled and a deterministic continuous action, constants; with masks or memory where asked."""

    def __init__(self, inputs, outputs, discrete=0, memory=0):
        super().__init__()
        hidden = wide(128)
        self.trunk = nn.Sequential(mlp([inputs + memory, hidden, hidden], nn.SiLU), nn.SiLU())
        self.mean, self.log_std = nn.Linear(hidden, outputs), nn.Parameter(torch.zeros(outputs))
        self.discrete = nn.Linear(hidden, discrete) if discrete else None
        self.memory = nn.Linear(hidden, memory) if memory else None
        self.register_buffer("version_number", torch.tensor([3.0]))
        self.register_buffer("memory_size", torch.tensor([float(memory)]))

    def forward(self, obs_0, *more):
        more = list(more)
        masks = more.pop(0) if self.discrete else None
        features = torch.cat([obs_0, more[0]], dim=1) if self.memory else obs_0
        hidden = self.trunk(features)
        mean = self.mean(hidden)
        sampled = torch.clamp(mean + torch.randn_like(mean) * self.log_std.exp(), -3, 3) / 3
        outputs = [self.version_number * 1, self.memory_size * 1, sampled, torch.clamp(mean, -3, 3) / 3]
        if self.discrete:
            logits = self.discrete(hidden) * masks - 1e7 * (1 - masks)
            outputs.append(torch.argmax(logits, dim=1, keepdim=True))
        if self.memory:
            outputs.append(torch.tanh(self.memory(hidden)))
        return tuple(outputs)


class Blocks(nn.Module):
    """Residual blocks with LayerNorm."""

    def __init__(self, inputs, outputs):
        super().__init__()
        hidden = wide(64)
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.norms = nn.ModuleList([nn.LayerNorm(hidden), nn.LayerNorm(hidden)])
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.norms[0](self.first(x)))
        return self.head(x + torch.nn.functional.mish(self.norms[1](self.second(x))))


class History(nn.Module):
    """Convolution over a history of observations."""

    def __init__(self, channels, outputs):
        super().__init__()
        first, second = wide(32), wide(16)
        self.convolutions = nn.Sequential(nn.Conv1d(channels, first, 3), nn.ELU(), nn.Conv1d(first, second, 3), nn.ELU())
        self.head = nn.Linear(second * 6, outputs)

    def forward(self, history):
        return self.head(self.convolutions(history.transpose(1, 2)).flatten(1))


class Depth(nn.Module):
    """A depth image beside proprioception."""

    def __init__(self, inputs, outputs):
        super().__init__()
        first, second = wide(8), wide(8)
        self.image = nn.Sequential(nn.Conv2d(1, first, 4, 2), nn.ReLU(), nn.Conv2d(first, second, 4, 2), nn.ReLU(), nn.Flatten())
        flat = self.image(torch.zeros(1, 1, image_side(), image_side())).shape[1]
        self.head = mlp([flat + inputs, wide(64), outputs], nn.ELU)

    def forward(self, depth, obs):
        return self.head(torch.cat([self.image(depth), obs], dim=1))


class Attention(nn.Module):
    """A small transformer over a history."""

    def __init__(self, width, outputs):
        super().__init__()
        hidden = wide(32)
        self.embed = nn.Linear(width, hidden)
        self.layer = nn.TransformerEncoderLayer(hidden, 2, 2 * hidden, dropout=0.0, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, history):
        return self.head(self.layer(self.embed(history))[:, -1])


class Normed(nn.Module):
    """BatchNorm inside, as DrQ-like and crossQ critics and actors have."""

    def __init__(self, inputs, outputs):
        super().__init__()
        hidden = nn.Linear(inputs, wide(64)), nn.BatchNorm1d(wide(64)), nn.ReLU()
        self.net = nn.Sequential(nn.BatchNorm1d(inputs), *hidden, nn.Linear(wide(64), outputs), nn.Tanh())
        for module in self.net:
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)

    def forward(self, x):
        return self.net(x)


class Greedy(nn.Module):
    """DQN: the index of the best action."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.network = mlp([inputs, wide(120), wide(84), outputs], nn.ReLU)

    def forward(self, x):
        return torch.argmax(self.network(x), dim=1)


class Clipped(nn.Module):
    """CleanRL PPO for continuous actions: clipped observation and action."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.normaliser, self.actor = Normaliser(inputs), mlp([inputs, wide(64), wide(64), outputs], nn.Tanh)

    def forward(self, x):
        return torch.clamp(self.actor(torch.clamp(self.normaliser(x), -10, 10)), -1, 1)


def state(layers):
    return torch.zeros(layers, 1, wide(64))


def families():
    """Name, module, inputs by name with their example, outputs, state inputs."""
    row = lambda width: torch.randn(1, width)
    ppo = ["action", "value", "log_prob"]
    yield "sb3_ppo", ActorCritic(17, 6), {"input": row(17)}, ppo, []
    yield "sb3_ppo_relu", ActorCritic(11, 3, nn.ReLU), {"input": row(11)}, ppo, []
    yield "sb3_sac", SquashedActor([17, wide(256), wide(256)], 6), {"input": row(17)}, ["action"], []
    yield "sb3_td3", mlp([11, wide(400), wide(300), 3], nn.ReLU, nn.Tanh), {"input": row(11)}, ["action"], []
    yield "cleanrl_sac", SquashedActor([27, wide(256), wide(256)], 8, scale=[2.0] * 8), {"obs": row(27)}, ["action"], []
    yield "cleanrl_ppo", Clipped(17, 6), {"obs": row(17)}, ["action"], []
    yield "cleanrl_dqn", Greedy(4, 2), {"obs": row(4)}, ["action"], []
    rsl = nn.Sequential(Normaliser(48), mlp([48, wide(256), wide(128), wide(64), 12], nn.ELU))
    yield "rsl_rl_mlp", rsl, {"obs": row(48)}, ["actions"], []
    lstm, gru = ["actions", "h_out", "c_out"], ["actions", "h_out"]
    yield "rsl_rl_lstm", Recurrent("lstm", 48, 12), {"obs": row(48), "h_in": state(1), "c_in": state(1)}, lstm, ["h_in", "c_in"]
    yield "rsl_rl_lstm2", Recurrent("lstm", 48, 12, 2), {"obs": row(48), "h_in": state(2), "c_in": state(2)}, lstm, ["h_in", "c_in"]
    yield "rsl_rl_gru", Recurrent("gru", 48, 12), {"obs": row(48), "h_in": state(1)}, gru, ["h_in"]
    yield "isaaclab_amp", mlp([60, wide(128), wide(64), 1], nn.ReLU), {"obs": row(60)}, ["reward"], []
    yield "playground", Playground(48, 12), {"obs": row(48)}, ["continuous_actions"], []
    unity = ["version_number", "memory_size", "continuous_actions", "deterministic_continuous_actions"]
    yield "unity", MlAgents(20, 4), {"obs_0": row(20)}, unity, []
    masked = {"obs_0": row(20), "action_masks": torch.ones(1, 3)}
    yield "unity_discrete", MlAgents(20, 4, discrete=3), masked, unity + ["discrete_actions"], []
    memory = {"obs_0": row(20), "recurrent_in": torch.zeros(1, wide(32))}
    yield "unity_memory", MlAgents(20, 4, memory=wide(32)), memory, unity + ["recurrent_out"], ["recurrent_in"]
    yield "layernorm", Blocks(30, 5), {"obs": row(30)}, ["action"], []
    yield "leaky", mlp([12, wide(64), wide(64), 4], nn.LeakyReLU, nn.Hardtanh), {"obs": row(12)}, ["action"], []
    yield "selu", mlp([12, wide(64), wide(64), 4], nn.SELU, nn.Softsign), {"obs": row(12)}, ["action"], []
    yield "batchnorm", Normed(16, 4), {"obs": row(16)}, ["action"], []
    yield "history", History(20, 6), {"history": torch.randn(1, 10, 20)}, ["action"], []
    yield "depth", Depth(24, 6), {"depth": torch.rand(1, 1, image_side(), image_side()), "obs": row(24)}, ["action"], []
    yield "transformer", Attention(20, 6), {"history": torch.randn(1, 8, 20)}, ["action"], []


def export(module, inputs, outputs, states, path, opset, dynamo, dynamic):
    arguments, names = tuple(inputs.values()), list(inputs)
    options = {"input_names": names, "output_names": outputs, "opset_version": opset, "dynamo": dynamo}
    if dynamo:
        options["external_data"] = False
        if dynamic:
            batch = torch.export.Dim("batch", max=64)
            axes = [{1 if name in states and inputs[name].dim() == 3 else 0: batch} for name in names]
            # An example of batch 1 would be taken for a constant.
            arguments = tuple(torch.cat([value, value], dim=next(iter(axis))) for value, axis in zip(arguments, axes))
            code = module.forward.__code__
            fixed = code.co_argcount - 1
            starred = code.co_flags & inspect.CO_VARARGS
            options["dynamic_shapes"] = (*axes[:fixed], tuple(axes[fixed:])) if starred and axes[fixed:] else tuple(axes)
    elif dynamic:
        axes = {name: {1 if value.dim() == 3 and name in states else 0: "batch"} for name, value in inputs.items()}
        options["dynamic_axes"] = {**axes, **{name: {0: "batch"} for name in outputs if not name.endswith(("_out", "number", "size"))}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, arguments, str(path), **options)


def recorded(inputs, states, generator):
    arrays = {}
    for name, value in inputs.items():
        if name in states:
            continue
        shape = (STEPS, *value.shape)
        drawn = generator.standard_normal(shape).astype(numpy.float32)
        arrays[name] = numpy.ones(shape, numpy.float32) if name == "action_masks" else drawn
    return arrays


def reference(path, arrays, states, steps=STEPS):
    """onnxruntime's outputs, step by step, state carried."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {port.name: [size if isinstance(size, int) else 1 for size in port.shape] for port in session.get_inputs()}
    carried = {name: numpy.zeros(given[name], numpy.float32) for name in states if name in given}
    results = {name: [] for name in names}
    for step in range(steps):
        feed = {name: array[step] for name, array in arrays.items() if name in given}
        outputs = dict(zip(names, session.run(names, {**feed, **carried})))
        for name, value in outputs.items():
            results[name].append(value)
        carried = {name: outputs[name.replace("_in", "_out")] for name in carried}
    return {name: numpy.stack(values) for name, values in results.items()}, given


def short(array):
    """Numbers whose decimal form is the shortest that gives the same f32."""
    return [float(str(value)) for value in numpy.asarray(array, numpy.float32).reshape(-1)]


def record(work, folder):
    """Writes the small set: ONNX files without comments, and vectors.json."""
    import onnx
    import onnxruntime

    folder.mkdir(parents=True, exist_ok=True)
    given_by_family, cases = {}, []
    for family, module, inputs, outputs, states in families():
        module.eval()
        arrays = recorded(inputs, states, numpy.random.default_rng(0))
        arrays = {key: array[:4].round(2) for key, array in arrays.items()}
        given_by_family[family] = {key: short(array) for key, array in arrays.items()}
        for opset, dynamic, dynamo in RECORDED + ALSO_RECORDED.get(family, []):
            name = f"{family}-{'dynamo' if dynamo else 'legacy'}{opset}-{'dynamic' if dynamic else 'static'}"
            path = folder / f"{name}.onnx"
            export(module, inputs, outputs, states, work / path.name, opset, dynamo, dynamic)
            model = onnx.load(work / path.name)
            for thing in [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
                thing.ClearField("doc_string")
                thing.ClearField("metadata_props")
            model.graph.ClearField("value_info") if not dynamo else None
            onnx.save(model, path)
            expected, given = reference(path, arrays, states, 4)
            action = next((output for word, output in ACTIONS.items() if family.startswith(word)), "action")
            cases.append({
                "file": path.name,
                "family": family,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "action": action,
                "states": [state for state in states if state in given],
                "inputs": [key for key in arrays if key in given],
                "outputs": {key: short(array) for key, array in expected.items() if family.split("_")[0] != "unity" or key != "continuous_actions"},
            })
    certificate = {
        "script": "tests/python/foreign_policies.py --record", "seed": 0, "torch": torch.__version__, "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__, "steps": 4,
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (folder / "vectors.json").write_text(f'{{"certificate":{json.dumps(certificate)},\n"inputs":{json.dumps(given_by_family, separators=(",", ":"))},\n"cases":[\n{lines}\n]}}\n')
    print(f"{len(cases)} models, {sum(file.stat().st_size for file in folder.iterdir()) / 1024:.0f} KiB")


def judge(binary, path, arrays, states):
    """None where all is well, otherwise why not; and the engine."""
    expected, given = reference(path, arrays, states)
    recording, answer = path.with_suffix(".in.npz"), path.with_suffix(".out.npz")
    numpy.savez(recording, **{name: array for name, array in arrays.items() if name in given})
    command = [binary, "infer", path, "--inputs", recording, "-o", answer, "--json"]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    if run.returncode != 0:
        return run.stderr.strip(), None
    report = json.loads(run.stdout)
    found = numpy.load(answer)
    left_out = set(report["sampled_outputs_left_out"])
    for name, wanted in expected.items():
        if name in left_out:
            continue
        difference = numpy.abs(found[name].reshape(wanted.shape).astype(numpy.float64) - wanted)
        limit = 1e-5 * max(1.0, float(numpy.abs(wanted).max()))
        if not float(difference.max()) <= limit:
            return f"{name} is off by {difference.max():.2e}", report["engine"]
    return None, report["engine"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--binary", default="hype-policy")
    arguments.add_argument("--only", default="", help="families whose name has this word")
    arguments.add_argument("--require", type=int, default=0)
    arguments.add_argument("--json", type=pathlib.Path)
    arguments.add_argument("--record", type=pathlib.Path, help="write the crate's small set there, and compare nothing")
    arguments = arguments.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if arguments.record:
        global narrow
        narrow = True
        record(arguments.folder, arguments.record)
        return 0
    exported, passed, cases = 0, 0, []
    for family, module, inputs, outputs, states in families():
        if arguments.only not in family:
            continue
        module.eval()
        plans = [(opset, dynamic, False) for opset, dynamic in LEGACY] + [(opset, dynamic, True) for opset, dynamic in DYNAMO]
        for opset, dynamic, dynamo in plans:
            name = f"{family}-{'dynamo' if dynamo else 'legacy'}{opset}-{'dynamic' if dynamic else 'static'}"
            path = arguments.folder / f"{name}.onnx"
            case = {"name": name, "engine": None}
            try:
                if not path.exists():
                    export(module, inputs, outputs, states, path, opset, dynamo, dynamic)
                exported += 1
            except Exception as error:  # what the exporter cannot do is no fault of the runtime
                path.unlink(missing_ok=True)
                cases.append({**case, "result": "not exported", "reason": str(error).strip().split("\n")[0][:200]})
                continue
            try:
                arrays = recorded(inputs, states, numpy.random.default_rng(0))
                reason, case["engine"] = judge(arguments.binary, path, arrays, states)
            except Exception as error:
                reason = f"onnxruntime or the comparison: {str(error).strip()[:200]}"
            passed += reason is None
            cases.append({**case, "result": "passed" if reason is None else "failed", "reason": reason})
            if reason is not None:
                print(f"{name}: {reason}", file=sys.stderr)
    native = sum(case["engine"] == "native" for case in cases)
    print(f"{passed} of {exported} exported models pass, {native} of them with the native engine")
    if arguments.json:
        arguments.json.write_text(json.dumps(cases, indent=1))
    return 0 if passed >= arguments.require else 1


if __name__ == "__main__":
    sys.exit(main())
