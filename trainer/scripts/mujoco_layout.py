#!/usr/bin/env python3
"""Writes trainer/src/envs/mujoco/layout.rs: where MuJoCo keeps the few struct fields that Hype reads.

The offsets are what a C compiler says about the headers of the pinned wheel. They hold for that version alone, so the
binding refuses any other library version, and `--check` compares the committed file with a fresh run.

    python3 trainer/scripts/mujoco_layout.py            # writes the file
    python3 trainer/scripts/mujoco_layout.py --check    # exit code 1 if the committed file differs

Needs pip and a C compiler (CC, default cc); nothing that builds or runs Hype needs either.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

VERSION = "3.17.0"
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src/envs/mujoco/layout.rs"

FIELDS = {
    ("mjModel", "MODEL"): ["nq", "nv", "nu", "nbody", "njnt", "opt.timestep", "qpos0", "body_mass", "jnt_qposadr", "jnt_dofadr",
                           "actuator_trnid", "actuator_ctrlrange"],
    ("mjData", "DATA"): ["time", "qpos", "qvel", "ctrl", "qacc_warmstart", "xpos", "xipos", "cinert", "cvel",
                         "qfrc_actuator", "cfrc_ext"],
    ("mjLogMessage", "LOG"): ["level", "subject", "body"],
}
CONSTANTS = ["mjVERSION_HEADER", "mjSTATE_INTEGRATION", "mjOBJ_BODY", "mjOBJ_JOINT", "mjLOG_WARNING", "mjLOG_ERROR"]


def headers(folder: pathlib.Path) -> pathlib.Path:
    """Downloads the wheel and unpacks its C headers."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--implementation", "cp",
         "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--dest", str(folder), f"mujoco=={VERSION}"],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith("mujoco/include/mujoco/mj")
                                    or name == "mujoco/include/mujoco/mujoco.h"])
    return folder / "mujoco/include"


def rust_name(prefix: str, field: str) -> str:
    return f"{prefix}_{field.rsplit('.', 1)[-1].upper()}"


def generate() -> str:
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <mujoco/mujoco.h>", "int main(void) {"]
    for (struct, prefix), fields in FIELDS.items():
        for field in fields:
            lines.append(f'printf("pub(super) const {rust_name(prefix, field)}: usize = %zu;\\n", offsetof({struct}, {field}));')
    for name in CONSTANTS:
        lines.append(f'printf("pub(super) const {name[2:].upper()}: c_int = %d;\\n", (int){name});')
    lines.append("return 0; }")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        include = headers(folder)
        source, program = folder / "layout.c", folder / "layout"
        source.write_text("\n".join(lines))
        subprocess.run([os.environ.get("CC", "cc"), f"-I{include}", str(source), "-o", str(program)], check=True)
        constants = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return (
        f"//! Byte offsets of struct fields and values of constants in MuJoCo {VERSION} (LP64 targets).\n//!\n"
        f"//! Written by `trainer/scripts/mujoco_layout.py` from the headers of the `mujoco=={VERSION}` wheel (Apache-2.0, DeepMind\n"
        "//! Technologies Limited); do not edit. Valid for a library whose `mj_version()` is `VERSION_HEADER` and for no other.\n\n"
        f"use std::ffi::c_int;\n\n{constants}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    text = generate()
    if not arguments.check:
        OUTPUT.write_text(text)
        return 0
    if OUTPUT.read_text() == text:
        print("layout.rs matches the headers")
        return 0
    print("layout.rs differs from the headers: run this script without --check", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
