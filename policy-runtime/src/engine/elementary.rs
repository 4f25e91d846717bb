//! Exponential, tanh and sigmoid in f32 as plain arithmetic without branches, so that loops over them become vector code and
//! cost the same whatever the values. Polynomials from the Cephes library (S. Moshier: `expf`, `tanhf`).

/// `e^x`, saturating beyond ±87; within 2 units in the last place elsewhere. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding it leaves the nearest whole number in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (p * r * r + r + 1.0) * power
}

/// `tanh(x)`.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_908_8e-2;
    let p = p * z - 5.373_971_6e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let near = p * z * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0)).copysign(x);
    if magnitude < 0.625 { near } else { far }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    fn agrees(name: &str, ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, reach: f32) {
        for step in -50_000..=50_000 {
            let x = reach * (step as f32 / 50_000.0);
            let (found, expected) = (f64::from(ours(x)), exact(f64::from(x)));
            let tolerance = 4e-7 * expected.abs().max(1e-3);
            assert!((found - expected).abs() <= tolerance, "{name}({x}) = {found}, not {expected}");
        }
    }

    #[test]
    fn they_agree_with_the_standard_library_in_f64() {
        agrees("exp", super::exp, f64::exp, 80.0);
        agrees("tanh", super::tanh, f64::tanh, 20.0);
        agrees("tanh", super::tanh, f64::tanh, 1.0);
        agrees("sigmoid", super::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 30.0);
        assert_eq!((super::tanh(-100.0), super::tanh(100.0)), (-1.0, 1.0));
        assert_eq!((super::tanh(f32::NEG_INFINITY), super::sigmoid(f32::INFINITY)), (-1.0, 1.0));
    }

    #[test]
    fn they_keep_nan_and_stay_normal_numbers() {
        for function in [super::exp, super::tanh, super::sigmoid] {
            assert!(function(f32::NAN).is_nan());
        }
        for x in [-1e30_f32, -1e3, -90.0] {
            assert!(super::exp(x).is_normal() && super::sigmoid(x).is_normal());
        }
    }
}
