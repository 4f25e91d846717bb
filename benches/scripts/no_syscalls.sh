#!/usr/bin/env bash
# Proves that neither a step of the native engine nor a tick of a controller around it makes a system call: strace writes down the calls of a process
# that makes many of both, and says where they begin and end; there is none in between. Arguments: model files, or nothing for one feed-forward
# and two recurrent ones of the tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

steps=100000
models=("$@")
[ ${#models[@]} -gt 0 ] || models=(
    trainer/experts/pendulum.onnx
    policy-runtime/tests/foreign/rsl_rl_lstm-legacy11-static.onnx
    policy-runtime/tests/foreign/rsl_rl_gru-legacy17-static.onnx
)
if ! command -v strace >/dev/null; then
    echo "strace is not installed (apt-get install strace)" >&2
    exit 2
fi
# The profile decides about speed, not about system calls.
# With the features that the workspace has, so that its tests and this share what is compiled.
cargo build --quiet --locked --workspace --example steps
program="${CARGO_TARGET_DIR:-target}/debug/examples/steps"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

failed=0
for model in "${models[@]}"; do
    if ! strace -f -o "$log" "$program" "$model" "$steps" 2>/dev/null; then
        echo "strace or the program failed on $model" >&2
        exit 1
    fi
    # A line for each call: process, name, arguments.
    result=$(awk '
        /write\(2, "end / { inside = 0; ended += 1 }
        inside { calls += 1; print > "/dev/stderr" }
        /write\(2, "begin / { inside = 1 }
        END { printf "%d %d", ended, calls }' "$log")
    echo "$model: ${result#* } system calls in $steps steps and as many ticks"
    [ "$result" = "2 0" ] || failed=1
done
[ "$failed" -eq 0 ] || { echo "a step or a tick makes system calls, or did not run"; exit 1; }
