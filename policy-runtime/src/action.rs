//! From `[-1, 1]` to the actuators' units and back, on slices. Allocation: none. Panics: never.

/// Lowest and highest value of each action channel, in environment units. Both `[action]`.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// Lowest values.
    pub low: &'a [f32],
    /// Highest values.
    pub high: &'a [f32],
}

impl Bounds<'_> {
    /// `value` brought into the bounds of channel `index`; unchanged where the channel has none. NaN stays NaN.
    pub fn clamp(&self, index: usize, value: f32) -> f32 {
        match (self.low.get(index), self.high.get(index)) {
            (Some(low), Some(high)) => clamp(value, *low, *high),
            _ => value,
        }
    }

    /// First channel of `action` that is outside its bounds.
    pub fn first_outside(&self, action: &[f32]) -> Option<usize> {
        (action.iter().zip(self.low).zip(self.high)).position(|((value, low), high)| value < low || value > high)
    }
}

/// `value` brought between `low` and `high` without the panic of [`f32::clamp`] on bounds in the wrong order.
pub fn clamp(value: f32, low: f32, high: f32) -> f32 {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

/// `row = row · scale + offset`: `action_unit` becomes `action_env`.
pub fn env_from_unit(row: &mut [f32], scale: &[f32], offset: &[f32]) {
    for ((value, scale), offset) in row.iter_mut().zip(scale).zip(offset) {
        *value = *value * *scale + *offset;
    }
}

/// `output = (action_env - offset) / scale`: `action_env` becomes `action_unit`.
pub fn unit_from_env(action_env: &[f32], scale: &[f32], offset: &[f32], output: &mut [f32]) {
    for (((out, value), scale), offset) in output.iter_mut().zip(action_env).zip(scale).zip(offset) {
        *out = (*value - *offset) / *scale;
    }
}

/// Every channel brought between its bounds. NaN stays NaN.
pub fn clamp_row(row: &mut [f32], low: &[f32], high: &[f32]) {
    for ((value, low), high) in row.iter_mut().zip(low).zip(high) {
        *value = clamp(*value, *low, *high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_and_environment_units_are_inverse() {
        let (scale, offset) = ([2.0, 0.4], [1.0, 0.0]);
        let mut action = [-1.0, 0.5];
        env_from_unit(&mut action, &scale, &offset);
        assert_eq!(action, [-1.0, 0.2]);
        let mut unit = [0.0; 2];
        unit_from_env(&action, &scale, &offset, &mut unit);
        assert_eq!(unit, [-1.0, 0.5]);
    }

    #[test]
    fn clamp_never_panics_and_keeps_nan() {
        assert_eq!(clamp(2.0, -1.0, 1.0), 1.0);
        assert_eq!(clamp(0.0, 1.0, -1.0), 1.0);
        assert!(clamp(f32::NAN, -1.0, 1.0).is_nan());
        let bounds = Bounds { low: &[-1.0, -1.0], high: &[1.0, 1.0] };
        assert_eq!(bounds.first_outside(&[0.0, 1.5]), Some(1));
        assert_eq!(bounds.first_outside(&[-1.0, 1.0]), None);
    }
}
