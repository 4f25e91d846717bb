"""Records the reference vectors beside this file from PyTorch in float64; README.md says how and what they hold.

python record.py            write every file
python record.py --check    regenerate, compare with the committed files, exit 1 on any difference
"""

import argparse
import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch

from reference.discriminator import discriminator
from reference.gaussian import gaussian
from reference.gsde import gsde
from reference.iq import iq
from reference.networks import plain
from reference.optimisers import optimistic_adam
from reference.ppo import gail, ppo
from reference.sac import sac
from reference.td3 import td3

HERE = Path(__file__).resolve().parent
SCRIPT = "trainer/tests/vectors/record.py"
SEED = 20240208

# --check: inputs must be equal, computed numbers may differ by the order of summation on another machine.
TOLERANCE = 1e-11

FILES = {
    "optimistic_adam.json": optimistic_adam,
    "discriminator.json": discriminator,
    "sac.json": sac,
    "td3.json": td3,
    "gaussian.json": gaussian,
    "iq.json": iq,
    "ppo.json": ppo,
    "gail.json": gail,
    "gsde.json": gsde,
}


def digest(payload):
    """sha256 of the payload's content, whatever its formatting; README.md gives the rule."""
    hasher = hashlib.sha256()

    def feed(value):
        if isinstance(value, dict):
            hasher.update(b"{")
            for key in sorted(value):
                hasher.update(key.encode() + b":")
                feed(value[key])
            hasher.update(b"}")
        elif isinstance(value, list):
            hasher.update(b"[")
            for item in value:
                feed(item)
            hasher.update(b"]")
        elif isinstance(value, str):
            hasher.update(value.encode() + b";")
        elif value is None:
            hasher.update(b"n")
        else:
            hasher.update(struct.pack("<d", float(value)))

    feed(payload)
    return hasher.hexdigest()


def document(name, index):
    payload = plain(FILES[name](np.random.default_rng([SEED, index])))
    return {
        "script": SCRIPT,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "seed": [SEED, index],
        "digest": digest(payload),
        "payload": payload,
    }


def text(value, depth=0):
    """JSON with objects spread over lines and number lists on one line each."""
    pad = " " * (depth + 1)
    if isinstance(value, dict):
        items = ",\n".join(f"{pad}{json.dumps(key)}: {text(value[key], depth + 1)}" for key in value)
        return "{\n" + items + "\n" + " " * depth + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(pad + text(item, depth + 1) for item in value) + "\n" + " " * depth + "]"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def differences(committed, fresh, path="", computed=False):
    """Where two payloads differ: exactly outside `expected`, by more than TOLERANCE inside."""
    if isinstance(fresh, dict) and isinstance(committed, dict):
        if committed.keys() != fresh.keys():
            return [f"{path}: keys {sorted(committed)} against {sorted(fresh)}"]
        return [
            line
            for key in fresh
            for line in differences(committed[key], fresh[key], f"{path}/{key}", computed or key == "expected")
        ]
    if isinstance(fresh, list) and isinstance(committed, list):
        if len(committed) != len(fresh):
            return [f"{path}: {len(committed)} entries against {len(fresh)}"]
        return [
            line
            for index, (a, b) in enumerate(zip(committed, fresh))
            for line in differences(a, b, f"{path}/{index}", computed)
        ]
    if computed and isinstance(fresh, float) and isinstance(committed, (int, float)):
        near = abs(committed - fresh) <= TOLERANCE * max(1.0, abs(fresh))
    else:
        near = committed == fresh
    return [] if near else [f"{path}: committed {committed}, regenerated {fresh}"]


def check():
    wrong = 0
    for index, name in enumerate(FILES):
        committed = json.loads((HERE / name).read_text())
        fresh = document(name, index)
        lines = differences(committed["payload"], fresh["payload"])
        if digest(committed["payload"]) != committed["digest"]:
            lines.insert(0, "the digest does not belong to the payload")
        if committed["seed"] != fresh["seed"] or committed["script"] != SCRIPT:
            lines.insert(0, "seed or script differ")
        wrong += bool(lines)
        print(f"{name}: " + ("same" if not lines else f"{len(lines)} differences"))
        for line in lines[:5]:
            print("  " + line)
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    if parser.parse_args().check:
        return check()
    for index, name in enumerate(FILES):
        content = text(document(name, index)) + "\n"
        (HERE / name).write_text(content)
        print(f"{name}: {len(content) // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
