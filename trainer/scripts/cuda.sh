#!/usr/bin/env bash
# Training on a GPU machine that is at hand for minutes and has no network: build everything elsewhere, check it there.
#
#   trainer/scripts/cuda.sh build [FOLDER]   where the network is: builds `hype` with CUDA and packs it with all that it needs
#   FOLDER/cuda.sh check [OUT]               on the GPU machine: does the GPU learn what the CPU learns, and how fast?
#
# FOLDER (default target/cuda-check) gets this script, hype.tar.xz and, for comparison, torch_sac_step.py. The archive holds the
# stripped program, NVIDIA's run-time compiler and headers from PyPI (CUDA 13.0: drivers from 580 on take what it
# makes), MuJoCo with its models, and demonstrations of pendulum and hopper.
#
# check writes JSON lines to OUT (default ./cuda-results): device.jsonl and cpu.jsonl from `hype device-check`,
# trainings.jsonl with the times of short HyPE and HyPER runs on both devices, torch.jsonl where PyTorch is there. Each part has a time limit; one
# that fails does not keep the next from running. Seconds per part: HYPE_CHECK_SECS (default 120).
set -euo pipefail

CUDA=13.0
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

say() { printf '== %s\n' "$*" >&2; }

build() {
    local root folder work python
    root="$(cd "$here/../.." && pwd)"
    folder="${1:-$root/target/cuda-check}"
    python="${PYTHON:-python3}"
    mkdir -p "$folder"
    folder="$(cd "$folder" && pwd)"
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/hype/cuda" "$work/wheels"

    say "program"
    (cd "$root" && CUDARC_CUDA_VERSION=13000 cargo build --release -p hype-trainer --features cuda)
    local target="${CARGO_TARGET_DIR:-$root/target}"
    strip -o "$work/hype/hype" "$target/release/hype"

    say "CUDA $CUDA: run-time compiler and headers"
    local wheel
    for wheel in nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-crt; do
        "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --platform manylinux2010_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
            --dest "$work/wheels" "$wheel==$CUDA.*"
    done
    for wheel in "$work"/wheels/*.whl; do
        "$python" -m zipfile -e "$wheel" "$work/wheels/unpacked"
    done
    local toolkit="$work/wheels/unpacked/nvidia/cu13"
    cp -r "$toolkit/include" "$work/hype/cuda/"
    mkdir "$work/hype/cuda/lib"
    cp "$toolkit/lib/libnvrtc.so.13" "$toolkit"/lib/libnvrtc-builtins.so.* "$work/hype/cuda/lib/"

    say "MuJoCo, models, demonstrations"
    local hype="$work/hype/hype"
    export HYPE_CACHE="$work/hype/cache"
    "$hype" demos collect pendulum --episodes 5 -o "$work/hype/pendulum.hdf5" >&2
    "$hype" demos collect hopper --episodes 5 -o "$work/hype/hopper.hdf5" >&2

    say "archive"
    tar -C "$work" -cf - hype | xz -T0 -6 >"$folder/hype.tar.xz"
    cp "$here/cuda.sh" "$here/torch_sac_step.py" "$folder/"
    (cd "$work/hype" && du -sh hype cuda cache) >&2
    local bytes
    bytes="$(du -cb "$folder"/* | tail -n 1 | cut -f 1)"
    say "$folder: $bytes bytes, hype $(stat -c %s "$hype") bytes"
    if [ "$bytes" -gt $((64 << 20)) ]; then
        say "that is more than 64 MiB"
    fi
}

# part NAME COMMAND...: runs it for a limited time; a failure is noted, not fatal.
part() {
    local name="$1" begin=$SECONDS code=0
    shift
    say "$name"
    timeout -k 10 "$limit_secs" "$@" || code=$?
    printf '{"kind":"part","name":"%s","exit_code":%d,"secs":%d}\n' "$name" "$code" $((SECONDS - begin)) \
        >>"$out/parts.jsonl"
}

# training METHOD TASK SEEDS ENV_STEPS DEVICE [SETTING...]: a short run; its time, and its evaluations beside it.
training() {
    local method="$1" task="$2" seeds="$3" env_steps="$4" device="$5" name begin code=0
    shift 5
    name="$method-$task-$seeds-$device"
    local run="$work/$name"
    begin="$(date +%s.%N)"
    "$hype" train "$method" "$task" --demos "$bundle/$task.hdf5" --seeds "0..$seeds" --env-steps "$env_steps" \
        --device "$device" --set eval.episodes=3 "$@" -o "$run" || code=$?
    local secs
    secs="$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f", b - a }')"
    printf '{"kind":"training","method":"%s","task":"%s","seeds":%d,"env_steps":%d,"device":"%s","exit_code":%d,"secs":%s}\n' \
        "$method" "$task" "$seeds" "$env_steps" "$device" "$code" "$secs" >>"$out/trainings.jsonl"
    [ ! -f "$run/eval.jsonl" ] || cp "$run/eval.jsonl" "$out/$name.jsonl"
    return "$code"
}

check() {
    out="${1:-cuda-results}"
    mkdir -p "$out"
    out="$(cd "$out" && pwd)"
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    limit_secs="${HYPE_CHECK_SECS:-120}"
    bundle="$work/hype"
    tar -C "$work" -xJf "$here/hype.tar.xz" 2>/dev/null || python3 -m tarfile -e "$here/hype.tar.xz" "$work"
    chmod +x "$bundle/hype"
    hype="$bundle/hype"
    export HYPE_CACHE="$bundle/cache" CUDA_PATH="$bundle/cuda"
    # The compiler of this archive, before whatever the machine has.
    export LD_LIBRARY_PATH="$bundle/cuda/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export -f training
    export out work bundle hype

    local device="${HYPE_CHECK_DEVICE:-cuda}"
    nvidia-smi >"$out/nvidia-smi.txt" 2>&1 || true
    "$hype" doctor --json >"$out/doctor.json" || true
    part "device" "$hype" device-check --device "$device" -o "$out/device.jsonl" ${HYPE_CHECK_ARGUMENTS:-}
    part "cpu" "$hype" device-check --device cpu -o "$out/cpu.jsonl" --steps 1 --stacks 1 ${HYPE_CHECK_ARGUMENTS:-}
    local steps="${HYPE_CHECK_ENV_STEPS:-3000}"
    part "pendulum, one seed" bash -c "training hype pendulum 1 $steps $device --set eval.every=1000"
    part "pendulum, ten seeds" bash -c "training hype pendulum 10 $steps $device --set eval.every=1000"
    part "pendulum, ten seeds on the CPU" bash -c "training hype pendulum 10 $steps cpu --set eval.every=1000"
    part "hopper, ten seeds" bash -c "training hype hopper 10 $((2 * steps)) $device --set eval.every=2000"
    local hyper="--preset small --set sac.exploration_steps=200 --set eval.every=200"
    part "hyper on hopper" bash -c "training hyper hopper 1 $((steps / 5)) $device $hyper"
    part "hyper on hopper on the CPU" bash -c "training hyper hopper 1 $((steps / 10)) cpu $hyper"
    if python3 -c 'import torch' 2>/dev/null; then
        part "torch" python3 "$here/torch_sac_step.py" "$device" "$out/torch.jsonl"
    else
        say "no PyTorch here: nothing to compare with"
    fi
    say "results in $out"
    cat "$out/parts.jsonl"
}

case "${1:-}" in
build | check) "$@" ;;
*)
    sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
