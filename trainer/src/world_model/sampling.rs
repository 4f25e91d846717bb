//! Which rows a fit trains on, and which it holds out.

use crate::run::rng::Stream;
use std::collections::HashSet;

/// Rows of a data set, parted.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<u32>,
    /// Rows to judge by.
    pub held_out: Vec<u32>,
}

impl Split {
    /// Shuffles the different steps of which the rows are copies (`origins`, one per row) and holds out the rows of the last
    /// `share` of them: of one step at least, not of all where there are two.
    pub fn new(origins: &[u32], share: f64, rng: &mut Stream) -> Self {
        let mut steps = origins.to_vec();
        steps.sort_unstable();
        steps.dedup();
        shuffle(&mut steps, rng);
        let count = steps.len();
        let trained = ((count as f64 * (1.0 - share)) as usize).clamp(1, count.saturating_sub(1).max(1));
        let of_held_out: HashSet<u32> = steps[trained.min(count.saturating_sub(1))..].iter().copied().collect();
        let rows = 0..origins.len() as u32;
        let (held_out, mut train): (Vec<u32>, Vec<u32>) =
            rows.partition(|row| of_held_out.contains(&origins[*row as usize]));
        if train.is_empty() {
            train.clone_from(&held_out);
        }
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
    fn a_split_parts_all_rows_at_random() {
        let each: Vec<u32> = (0..1000).collect();
        let split = Split::new(&each, 0.2, &mut Streams::new(3).stream("test"));
        assert_eq!((split.train.len(), split.held_out.len()), (800, 200));
        let mut all = [split.train.clone(), split.held_out.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, each);
        let old = split.held_out.iter().filter(|row| **row < 500).count();
        assert!((70..130).contains(&old), "{old} of 200 held-out rows are of the older half");
        let two = Split::new(&[0, 1], 0.2, &mut Streams::new(3).stream("test"));
        assert_eq!((two.train.len(), two.held_out.len()), (1, 1));
        let one = Split::new(&[7], 0.2, &mut Streams::new(3).stream("test"));
        assert_eq!((one.train, one.held_out), (vec![0], vec![0]));
    }

    #[test]
    fn a_held_out_step_has_no_copy_among_the_others() {
        let origins: Vec<u32> = (0..3000).map(|row| row * 7 % 500).collect();
        let split = Split::new(&origins, 0.2, &mut Streams::new(3).stream("test"));
        assert_eq!((split.train.len(), split.held_out.len()), (2400, 600));
        let of = |rows: &[u32]| rows.iter().map(|row| origins[*row as usize]).collect::<HashSet<u32>>();
        assert!(of(&split.train).is_disjoint(&of(&split.held_out)));
    }

    #[test]
    fn members_draw_their_own_rows_with_replacement() {
        let mut rng = Streams::new(3).stream("test");
        let split = Split::new(&(0..5000).collect::<Vec<u32>>(), 0.2, &mut rng);
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
