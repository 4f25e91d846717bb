//! Exponential, logarithm, tanh and sigmoid in f32 as plain arithmetic, so that loops over them become vector code and give the
//! same bits at every vector width. Polynomials from the Cephes library (S. Moshier: `expf`, `logf`, `tanhf`).

/// `e^x`; saturates beyond ±87, within 2 units in the last place elsewhere.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = f32::from_bits((((n as i32) + 127) as u32) << 23);
    (p * r * r + r + 1.0) * power
}

/// Natural logarithm of a positive, normal number.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = ((bits >> 23) as i32 - 126) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let small = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let exponent = if small { exponent - 1.0 } else { exponent };
    let m = if small { mantissa + mantissa - 1.0 } else { mantissa - 1.0 };
    let z = m * m;
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_8e-1;
    let p = p * m + 2.000_071_4e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333e-1;
    let y = p * m * z - exponent * 2.121_944_4e-4 - 0.5 * z;
    m + y + exponent * 0.693_359_4
}

/// `tanh(x)`.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
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
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(super) fn softplus(x: f32) -> f32 {
    x.max(0.0) + ln(1.0 + exp(-x.abs()))
}

#[cfg(test)]
mod tests {
    fn agrees(name: &str, ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, from: f32, to: f32) {
        for step in 0..=100_000 {
            let x = from + (to - from) * (step as f32 / 100_000.0);
            let (found, expected) = (f64::from(ours(x)), exact(f64::from(x)));
            assert!(
                (found - expected).abs() <= 4e-7 * expected.abs().max(1e-3),
                "{name}({x}) = {found}, not {expected}"
            );
        }
    }

    #[test]
    fn they_agree_with_the_standard_library_in_f64() {
        agrees("exp", super::exp, f64::exp, -80.0, 80.0);
        agrees("ln", super::ln, f64::ln, 1e-6, 3.0);
        agrees("ln", super::ln, f64::ln, 3.0, 1e6);
        agrees("tanh", super::tanh, f64::tanh, -20.0, 20.0);
        agrees("tanh", super::tanh, f64::tanh, -1.0, 1.0);
        agrees("sigmoid", super::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -30.0, 30.0);
        agrees("softplus", super::softplus, |x| x.exp().ln_1p(), -1.0, 60.0);
        assert_eq!((super::tanh(-100.0), super::tanh(100.0)), (-1.0, 1.0));
    }
}
