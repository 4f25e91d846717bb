//! Matrix times vector on packed weights.
//!
//! The outputs are padded with zeros to a multiple of [`LANE`] and cut into panels of 64, then at most one of 32 and one of
//! 16 columns. A panel holds its weights input by input, `[inputs][columns]`, so that a step reads memory once, in order.

use super::arithmetic::Arithmetic;
use super::vector::Vector;

/// Columns that belong together: one cache line of f32.
pub const LANE: usize = 16;
/// Most lanes of a panel.
const PANEL: usize = 4;
/// Most registers of one pass: a whole panel in registers of 128 bits.
const REGISTERS: usize = 16;

/// Inputs that one turn of the inner loop takes: a multiple of every number of sums.
const UNROLLED: usize = 4;

type Lane = [f32; LANE];

/// `outputs` rounded up to whole lanes.
pub const fn padded(outputs: usize) -> usize {
    outputs.div_ceil(LANE) * LANE
}

/// Appends `weights` `[inputs, outputs]`, row-major, to `packed` in the packed order.
#[cfg(feature = "std")]
pub(super) fn pack(weights: &[f32], inputs: usize, outputs: usize, packed: &mut Vec<f32>) {
    let mut first = 0;
    while first < padded(outputs) {
        let columns = panel_lanes((padded(outputs) - first) / LANE) * LANE;
        for input in 0..inputs {
            let row = weights.get(input * outputs..(input + 1) * outputs).unwrap_or(&[]);
            packed.extend((first..first + columns).map(|column| row.get(column).copied().unwrap_or(0.0)));
        }
        first += columns;
    }
}

/// Lanes of the next panel where `left` lanes are left.
const fn panel_lanes(left: usize) -> usize {
    match left {
        PANEL.. => PANEL,
        2.. => 2,
        _ => 1,
    }
}

/// `output[j] = bias[j] + Σ_i input[i] · weights[i, j]`.
///
/// # Shapes
/// `input`: `[inputs]`; `bias` and `output`: `[padded(outputs)]`; `weights`: packed. Columns without weights are left alone.
#[inline(always)]
pub(super) fn dense<A: Arithmetic>(input: &[f32], weights: &[f32], bias: &[f32], output: &mut [f32]) {
    let (mut weights, _) = weights.as_chunks::<LANE>();
    let (mut bias, _) = bias.as_chunks::<LANE>();
    let (mut output, _) = output.as_chunks_mut::<LANE>();
    while !output.is_empty() {
        let lanes = panel_lanes(output.len());
        let Some((panel, more)) = weights.split_at_checked(input.len() * lanes) else { return };
        let Some((above, rest)) = bias.split_at_checked(lanes) else { return };
        let (sums, left) = output.split_at_mut(lanes);
        match (lanes, A::Vector::LANES) {
            (PANEL, PANEL) if A::SPLIT && A::Vector::CHAINS == 2 => pass::<A, 4, 4, 0, 2>(input, panel, above, sums),
            (PANEL, PANEL) => pass::<A, 4, 4, 0, 1>(input, panel, above, sums),
            (PANEL, 2) => {
                pass::<A, 4, 2, 0, 1>(input, panel, above, sums);
                pass::<A, 4, 2, 2, 1>(input, panel, above, sums);
            }
            (PANEL, _) => {
                pass::<A, 4, 1, 0, 1>(input, panel, above, sums);
                pass::<A, 4, 1, 1, 1>(input, panel, above, sums);
                pass::<A, 4, 1, 2, 1>(input, panel, above, sums);
                pass::<A, 4, 1, 3, 1>(input, panel, above, sums);
            }
            (2, 1) => {
                pass::<A, 2, 1, 0, 1>(input, panel, above, sums);
                pass::<A, 2, 1, 1, 1>(input, panel, above, sums);
            }
            // With few columns the additions would wait for each other: more sums.
            (2, _) if A::SPLIT => pass::<A, 2, 2, 0, 2>(input, panel, above, sums),
            (2, _) => pass::<A, 2, 2, 0, 1>(input, panel, above, sums),
            _ if A::SPLIT => pass::<A, 1, 1, 0, 4>(input, panel, above, sums),
            _ => pass::<A, 1, 1, 0, 1>(input, panel, above, sums),
        }
        (weights, bias, output) = (more, rest, left);
    }
}

/// `LANES` lanes of a panel of `STRIDE` lanes from lane `FIRST` on, summed in `CHAINS` parts over every `CHAINS`-th input.
#[inline(always)]
fn pass<A: Arithmetic, const STRIDE: usize, const LANES: usize, const FIRST: usize, const CHAINS: usize>(
    input: &[f32],
    panel: &[Lane],
    bias: &[Lane],
    output: &mut [Lane],
) {
    let (rows, _) = panel.as_chunks::<STRIDE>();
    let (Some(bias), Some(output)) = (bias.get(FIRST..FIRST + LANES), output.get_mut(FIRST..FIRST + LANES)) else {
        return;
    };
    let columns = A::Vector::COLUMNS;
    let per_lane = LANE / columns;
    // Of the registers the first LANES · per_lane are used; the others vanish when this is compiled.
    let mut sums = [[A::Vector::splat(0.0); REGISTERS]; CHAINS];
    for register in 0..LANES * per_lane {
        sums[0][register] = A::Vector::load(&bias[register / per_lane], register % per_lane * columns);
    }
    let (groups, last_rows) = rows.as_chunks::<UNROLLED>();
    let (values, last_values) = input.as_chunks::<UNROLLED>();
    for (xs, rows) in values.iter().zip(groups) {
        for index in 0..UNROLLED {
            row::<A, STRIDE, LANES, FIRST>(xs[index], &rows[index], &mut sums[index % CHAINS]);
        }
    }
    for (x, last) in last_values.iter().zip(last_rows) {
        row::<A, STRIDE, LANES, FIRST>(*x, last, &mut sums[0]);
    }
    for register in 0..LANES * per_lane {
        let total = sums[1..].iter().fold(sums[0][register], |total, part| total.add(part[register]));
        total.store(&mut output[register / per_lane], register % per_lane * columns);
    }
}

/// Adds one input's products.
#[inline(always)]
fn row<A: Arithmetic, const STRIDE: usize, const LANES: usize, const FIRST: usize>(
    x: f32,
    weights: &[Lane; STRIDE],
    sums: &mut [A::Vector; REGISTERS],
) {
    let columns = A::Vector::COLUMNS;
    let per_lane = LANE / columns;
    let x = A::Vector::splat(x);
    for register in 0..LANES * per_lane {
        let lane = &weights[FIRST + register / per_lane];
        if register.is_multiple_of(per_lane * A::Vector::PREFETCH_EVERY) {
            A::Vector::prefetch(lane);
        }
        let weight = A::Vector::load(lane, register % per_lane * columns);
        sums[register] = A::mul_add(x, weight, sums[register]);
    }
}
