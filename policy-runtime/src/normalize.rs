//! Observation normaliser on slices. Allocation: none. Panics: never.

/// `output = (observation - mean) / std`, channel by channel.
///
/// # Shapes
/// All four are `[observation]`; where one is shorter the remaining outputs are untouched.
pub fn standardize(observation: &[f32], mean: &[f32], std: &[f32], output: &mut [f32]) {
    for (((out, x), mean), std) in output.iter_mut().zip(observation).zip(mean).zip(std) {
        *out = (*x - *mean) / *std;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardize_is_a_shift_and_a_division() {
        let mut output = [9.0; 3];
        standardize(&[3.0, -1.0], &[1.0, -1.0], &[4.0, 0.5], &mut output);
        assert_eq!(output, [0.5, 0.0, 9.0]);
    }
}
