//! Which rows a fit trains on, and which it holds out.

use crate::run::rng::Stream;

/// Rows of a data set, shuffled and parted.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<u32>,
    /// Rows to judge by.
    pub held_out: Vec<u32>,
}

impl Split {
    /// Shuffles `0..count` and holds out the last `share` of it: at least one row, not all.
    pub fn new(count: usize, share: f64, rng: &mut Stream) -> Self {
        let mut train: Vec<u32> = (0..count as u32).collect();
        shuffle(&mut train, rng);
        let trained = ((count as f64 * (1.0 - share)) as usize).clamp(1, count.saturating_sub(1).max(1));
        let held_out = if count < 2 { train.clone() } else { train.split_off(trained) };
        Self { train, held_out }
    }

    /// For each of `members` as many rows as there are to train on, drawn with replacement.
    pub fn bootstrap(&self, members: usize, rng: &mut Stream) -> Vec<Vec<u32>> {
        let mut draw = || (0..self.train.len()).map(|_| self.train[rng.index(self.train.len())]).collect();
        (0..members).map(|_| draw()).collect()
    }
}

/// A uniform permutation of `values`, in place (Fisher and Yates).
pub fn shuffle<T>(values: &mut [T], rng: &mut Stream) {
    for end in (1..values.len()).rev() {
        values.swap(end, rng.index(end + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::rng::Streams;

    #[test]
    fn a_split_parts_all_rows_and_is_shuffled() {
        let split = Split::new(1000, 0.2, &mut Streams::new(3).stream("test"));
        assert_eq!((split.train.len(), split.held_out.len()), (800, 200));
        let mut all = [split.train.clone(), split.held_out.clone()].concat();
        assert!(!all.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<u32>>());
        let old = split.held_out.iter().filter(|row| **row < 500).count();
        assert!((70..130).contains(&old), "{old} of 200 held-out rows are of the older half");
        let two = Split::new(2, 0.2, &mut Streams::new(3).stream("test"));
        assert_eq!((two.train.len(), two.held_out.len()), (1, 1));
    }

    #[test]
    fn members_draw_their_own_rows_with_replacement() {
        let mut rng = Streams::new(3).stream("test");
        let split = Split::new(5000, 0.2, &mut rng);
        let drawn = split.bootstrap(3, &mut rng);
        let held_out: std::collections::HashSet<_> = split.held_out.iter().collect();
        for member in &drawn {
            assert_eq!(member.len(), 4000);
            let unique: std::collections::HashSet<_> = member.iter().collect();
            let share = unique.len() as f64 / 4000.0;
            assert!((share - 0.632).abs() < 0.03, "{share} are unique, not 1 - 1/e");
            assert!(unique.is_disjoint(&held_out), "held-out rows are never trained on");
        }
        assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2]);
    }
}
