"""Checks ONNX files with onnx.checker and compares onnxruntime with recorded outputs.

Usage: check_onnx.py CASES.json

CASES.json: a list of {"file", "inputs": {name: rows}, "output", "expected": rows, "tolerance": rows}; rows are lists of
lists of numbers, all with the same first axis. Prints one JSON object; exit code 0 where all is equal, 1 otherwise.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime


def check(case):
    model = onnx.load(case["file"])
    onnx.checker.check_model(model, full_check=True)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": 17} or model.ir_version != 8:
        raise ValueError(f"opset {opsets} and IR version {model.ir_version} instead of 17 and 8")
    session = onnxruntime.InferenceSession(case["file"], providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    if names[0] != "observation" or set(names) != set(case["inputs"]) or session.get_outputs()[0].name != case["output"]:
        raise ValueError(f"inputs {names}, outputs {[value.name for value in session.get_outputs()]}")
    inputs = {name: np.array(rows, dtype=np.float32) for name, rows in case["inputs"].items()}
    expected = np.array(case["expected"], dtype=np.float32)
    tolerance = np.array(case["tolerance"], dtype=np.float32)

    together = session.run(None, inputs)[0]
    single = [session.run(None, {name: rows[i : i + 1] for name, rows in inputs.items()})[0] for i in range(len(expected))]
    worst = 0.0
    for label, found in (("one batch", together), ("batches of one", np.concatenate(single))):
        if found.dtype != np.float32 or found.shape != expected.shape:
            raise ValueError(f"{label}: {found.dtype} {found.shape} instead of float32 {expected.shape}")
        share = np.abs(found - expected) / tolerance
        if not (share <= 1.0).all():
            row, column = np.unravel_index(np.nanargmax(share), share.shape)
            raise ValueError(
                f"{label}: {found[row, column]!r} instead of {expected[row, column]!r} in row {row}, column {column}, "
                f"{share[row, column]:.3g} times the tolerance"
            )
        worst = max(worst, float(share.max()))
    return worst


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    failures, worst = [], 0.0
    for case in cases:
        try:
            worst = max(worst, check(case))
        except Exception as error:  # every case is to be reported
            failures.append(f"{case['file']}: {error}")
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    print(json.dumps({"cases": len(cases), "failures": failures, "worst_share_of_tolerance": worst, **versions}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
