#!/usr/bin/env bash
# Every fuzz target, one after the other: fuzz/run.sh [MINUTES PER TARGET, 10 unless given] [TARGET ...]
#
# The corpus in the tree is only read. What a run finds new goes to ${XDG_CACHE_HOME:-~/.cache}/hype-fuzz/corpus, and is read again by the
# next. Ends with 1 where a target failed; its input lies in the folder that is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes="${1:-10}"
[ $# -gt 0 ] && shift
seconds=$(awk -v minutes="$minutes" 'BEGIN { printf "%d", minutes * 60 + 0.5 }')
[ "$seconds" -gt 0 ] || { echo "minutes per target, such as 10 or 0.5, not '$minutes'" >&2; exit 2; }
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(frames manifest robot_file signature blob onnx)

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is not installed (cargo install cargo-fuzz --locked)" >&2
    exit 2
fi
if ! rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    echo "there is no nightly toolchain (rustup toolchain install nightly --profile minimal)" >&2
    exit 2
fi

kept="${XDG_CACHE_HOME:-$HOME/.cache}/hype-fuzz"
export CARGO_TARGET_DIR="${HYPE_FUZZ_TARGET_DIR:-$kept/target}"
# The versions that the workspace has.
[ -f fuzz/Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
failed=()
for target in "${targets[@]}"; do
    features=()
    # tract takes minutes to compile with a fuzzer's instrumentation.
    [ "$target" != onnx ] || features=(--features onnx)
    found="$kept/corpus/$target" artifacts="$kept/artifacts/$target"
    mkdir -p "$found" "$artifacts"
    echo "==== $target, $minutes min"
    if ! cargo +nightly fuzz run "$target" ${features[@]+"${features[@]}"} "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="$artifacts/"; then
        failed+=("$target")
        echo "FAILED $target; its inputs are in $artifacts"
    fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
echo "good: ${targets[*]}, $minutes min each"
