#!/usr/bin/env bash
# Proves that neither a step of the native engine nor a tick of a controller around it makes a system call: strace counts the calls of a process
# that makes none and of one that makes many; the numbers are equal. Arguments: model files, or nothing for one feed-forward and two recurrent ones of the tree.
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
cargo build --quiet --locked -p hype-policy-runtime --example steps
program="${CARGO_TARGET_DIR:-target}/debug/examples/steps"
counts="$(mktemp)"
trap 'rm -f "$counts"' EXIT

# Where the heap begins is drawn at random, and decides how often it grows.
fixed=()
! setarch -R true 2>/dev/null || fixed=(setarch -R)

# calls MODEL STEPS: all system calls of all threads.
calls() {
    if ! ${fixed[@]+"${fixed[@]}"} strace -f -c -o "$counts" "$program" "$1" "$2"; then
        echo "strace or the program failed" >&2
        return 1
    fi
    awk '$NF == "total" { print $4 }' "$counts"
}

failed=0
for model in "${models[@]}"; do
    without=$(calls "$model" 0)
    with=$(calls "$model" "$steps")
    echo "$model: $without system calls without a step, $with with $steps steps and as many ticks"
    if [ -z "$with" ] || [ "$with" != "$without" ]; then
        failed=1
        cat "$counts"
    fi
done
[ "$failed" -eq 0 ] || { echo "a step makes system calls"; exit 1; }
