#!/bin/sh
# Draws every figure of this folder again from the evaluations kept beside them: sh docs/results/figures.sh [HYPE]
# HYPE is the program, target/release/hype where none is named.
set -eu
hype=$(realpath "${1:-$(dirname "$0")/../../target/release/hype}")
cd "$(dirname "$0")"

draw() { # TASK FIGURE [--reference FILE] METHOD=FILE…
    task=$1 figure=$2
    shift 2
    "$hype" plot --task "$task" -o "$figure" "$@"
}

h=hopper
both="hype=$h/hype-hopper-12.eval.jsonl hype=$h/hype-hopper.eval.jsonl mm=$h/mm-hopper-12.eval.jsonl mm=$h/mm-hopper.eval.jsonl"
draw hopper hopper.svg --reference $h/published.jsonl $both
draw hopper hopper-family.svg --reference $h/published.jsonl $both \
    filter=$h/filter-hopper.eval.jsonl \
    hype-resets=$h/hype-resets-hopper.eval.jsonl bc-reg=$h/bc-reg-hopper.eval.jsonl bc=$h/bc-hopper.eval.jsonl
draw hopper hopper-others.svg --reference $h/published.jsonl hype=$h/hype-hopper-12.eval.jsonl hype=$h/hype-hopper.eval.jsonl \
    sqil=$h/sqil-hopper.eval.jsonl adril=$h/adril-hopper.eval.jsonl iq-learn=$h/iq-learn-hopper.eval.jsonl \
    gail=$h/gail-hopper.eval.jsonl bc=$h/bc-hopper.eval.jsonl

w=walker2d
draw walker2d walker2d.svg --expert-return 3674.5 --reference $w/published.jsonl $(for m in hype mm filter; do
    for seed in 0 1 2; do echo $m=$w/$m-$seed.eval.jsonl; done
done) bc=$w/bc.eval.jsonl

draw pendulum pendulum.svg hype=pendulum/hype.eval.jsonl mm=pendulum/mm.eval.jsonl
for demos in 64 5 1 n05 n10; do
    draw pendulum demonstrations/$demos.svg $(for m in hype mm bc; do echo $m=demonstrations/$m-$demos.eval.jsonl; done)
done
for units in 3 8; do
    draw pendulum small-learners/$units.svg $(for m in hype mm bc; do echo $m=small-learners/$m-$units-long.eval.jsonl; done)
done

# HyPER's lines on Hopper, and the first 60,000 steps of HyPE's and MM's.
begun=$(mktemp -d)
trap 'rm -r "$begun"' EXIT
for m in hype mm; do
    cat $h/$m-hopper.eval.jsonl $h/$m-hopper-12.eval.jsonl | awk -F'"env_steps":' '{ split($2, at, ","); if (at[1] <= 61000) print }' > "$begun/$m.jsonl"
done
y=hyper
o=$y/hopper
draw hopper $o.svg --reference $y/published.jsonl hyper=$o-0.eval.jsonl hyper=$o-1.eval.jsonl hyper=$o-2.eval.jsonl \
    "HyPER, policy buffer=$o-buffer-0.eval.jsonl" "HyPER, policy buffer=$o-buffer-1.eval.jsonl" "HyPER, policy buffer=$o-buffer-2.eval.jsonl" \
    "HyPER, single steps=$o-one-step-0.eval.jsonl" "HyPER, single steps=$o-one-step-1.eval.jsonl" "HyPER, single steps=$o-one-step-2.eval.jsonl" \
    "hype=$begun/hype.jsonl" "mm=$begun/mm.jsonl"
a=half-cheetah
draw half-cheetah $y/$a.svg "hyper=$y/$a-small-0.eval.jsonl" "hyper=$y/$a-small-1.eval.jsonl" "hyper=$y/$a-small-2.eval.jsonl" \
    "hype=$a/hype.eval.jsonl" "mm=$a/mm.eval.jsonl"
b=$y/hopper-mbpo
draw hopper $b.svg "one step=$b-real-0.eval.jsonl" "eight steps=$b-eight-0.eval.jsonl" "eight steps, seed 1=$b-eight-1.eval.jsonl" \
    "one step, perfect=$b-perfect-0.eval.jsonl" "eight steps, perfect=$b-perfect-eight-0.eval.jsonl"

p=$y/pendulum
draw pendulum $p-resets.svg "never=$p-ra-0.0.eval.jsonl" "a quarter=$p-ra-0.25.eval.jsonl" "half=$p-base.eval.jsonl" \
    "three quarters=$p-ra-0.75.eval.jsonl" "always=$p-ra-1.0.eval.jsonl"
draw pendulum $p-resets-often.svg "rollouts of 1=$p-ra-len-1.eval.jsonl" "to 5=$p-base.eval.jsonl" "to 20=$p-ra-len-20.eval.jsonl"
draw pendulum $p-worse-models.svg "as fitted=$p-base.eval.jsonl" "noise 0.1=$p-wm-noise-0.1.eval.jsonl" \
    "noise 0.3=$p-wm-noise-0.3.eval.jsonl" "a tenth of the data=$p-wm-data-0.1.eval.jsonl"
draw pendulum $p-demonstrations.svg "five=$p-base.eval.jsonl" "one=$p-dm-1.eval.jsonl" "five, thinned=$p-dm-thin.eval.jsonl" \
    "five, noise 0.5=$p-dm-n05.eval.jsonl" "five, noise 1=$p-dm-n10.eval.jsonl" "five, of a poor policy=$p-dm-sub.eval.jsonl"
draw pendulum $p-accounting.svg "two episodes=$p-base.eval.jsonl" "one episode=$p-acc-1.eval.jsonl" \
    "policy buffer=$p-acc-buffer.eval.jsonl"
draw pendulum $p-pessimism.svg "none=$p-base.eval.jsonl" "pessimism 1=$p-pess-1.eval.jsonl" "margin 1=$p-wide.eval.jsonl" \
    "pessimism 1, margin 1=$p-pess-1-wide.eval.jsonl"
