//! Logarithm and softplus in f32 as plain arithmetic, so that loops over them become vector code and give the same bits at every
//! vector width; exponential, tanh and sigmoid are the runtime's. Polynomial from the Cephes library (S. Moshier: `logf`).

pub(super) use policy_runtime::engine::elementary::{exp, sigmoid, tanh};

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
