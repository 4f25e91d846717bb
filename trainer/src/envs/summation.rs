//! Sums in NumPy's order of additions, on which the last bits of a reward depend.

use std::ops::Add;

/// The sum as `numpy.sum` computes it for fewer than 129 contiguous values: one after the other below eight values; else
/// eight running sums, combined in pairs, and the remainder one after the other.
pub(super) fn numpy_sum<T: Copy + Default + Add<Output = T>>(values: impl ExactSizeIterator<Item = T>) -> T {
    let count = values.len();
    let mut values = values;
    if count < 8 {
        return values.fold(T::default(), |sum, value| sum + value);
    }
    let mut r = [T::default(); 8];
    for slot in &mut r {
        *slot = values.next().unwrap_or_default();
    }
    for _ in 1..count / 8 {
        for slot in &mut r {
            *slot = *slot + values.next().unwrap_or_default();
        }
    }
    let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    values.fold(sum, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::numpy_sum;

    #[test]
    fn order_of_additions_is_numpys() {
        // NumPy 2.4.6: np.sum([1e16, 1, 1, -1e16, 0, 0, 0, 0, 1]) is 1; one after the other the ones in front are lost too,
        // but np.sum([1, 1e16, 1, 1, -1e16, 1, 1, 1]) is 4 where one after the other gives 3.
        let pairs_first = [1.0, 1e16, 1.0, 1.0, -1e16, 1.0, 1.0, 1.0];
        assert_eq!(numpy_sum([1e16, 1.0, 1.0, -1e16, 0.0, 0.0, 0.0, 0.0, 1.0].into_iter()), 1.0);
        assert_eq!(numpy_sum(pairs_first.into_iter()), 4.0);
        assert_eq!(pairs_first.iter().fold(0.0, |sum, value| sum + value), 3.0);
    }

    #[test]
    fn short_sums_are_sequential_and_long_ones_complete() {
        assert_eq!(numpy_sum([0.1f32, 0.2, 0.3].into_iter()), 0.1 + 0.2 + 0.3);
        assert_eq!(numpy_sum((1..85).map(f64::from)), 84.0 * 85.0 / 2.0);
        assert_eq!(numpy_sum((1..18).map(f64::from)), 17.0 * 9.0);
    }
}
