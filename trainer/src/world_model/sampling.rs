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
    pub fn bootstrap(&self, members: usize, weights: &Weights<'_>, rng: &mut Stream) -> Vec<Vec<u32>> {
        let urn = weights.urn(&self.train);
        (0..members).map(|_| (0..self.train.len()).map(|_| urn.draw(rng)).collect()).collect()
    }

    /// The held-out rows as they count: where both kinds have their share, as many draws of them.
    pub fn judges(&self, weights: &Weights<'_>, rng: &mut Stream) -> Vec<u32> {
        let urn = weights.urn(&self.held_out);
        match urn.learners {
            None => urn.rows,
            Some(_) => self.held_out.iter().map(|_| urn.draw(rng)).collect(),
        }
    }
}

/// How often rows of the learner are drawn beside demonstrated ones.
pub struct Weights<'a> {
    /// Whether a row is the learner's.
    pub is_learners: &'a dyn Fn(u32) -> bool,
    /// The share of the draws that are, where there are rows of both kinds; none: all rows are alike.
    pub learner_share: Option<f64>,
}

impl Weights<'_> {
    fn urn(&self, rows: &[u32]) -> Urn {
        let alike = Urn { rows: rows.to_vec(), learners: None };
        let Some(share) = self.learner_share else { return alike };
        let (learners, others): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| (self.is_learners)(**row));
        if learners.is_empty() || others.is_empty() {
            alike
        } else {
            Urn { rows: others, learners: Some((learners, share)) }
        }
    }
}

/// Rows to draw from.
struct Urn {
    rows: Vec<u32>,
    /// Others, and how often one of them is drawn instead.
    learners: Option<(Vec<u32>, f64)>,
}

impl Urn {
    fn draw(&self, rng: &mut Stream) -> u32 {
        let rows = match &self.learners {
            Some((learners, share)) if rng.unit() < *share => learners,
            _ => &self.rows,
        };
        rows[rng.index(rows.len())]
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
        let alike = Weights { is_learners: &|row| row >= 4500, learner_share: None };
        assert_eq!(split.judges(&alike, &mut rng), split.held_out);
        let drawn = split.bootstrap(3, &alike, &mut rng);
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

    #[test]
    fn rows_of_the_learner_have_their_share() {
        let mut rng = Streams::new(3).stream("test");
        let split = Split::new(&(0..5000).collect::<Vec<u32>>(), 0.2, &mut rng);
        let of_learner = |row: u32| row >= 4500;
        let weights = Weights { is_learners: &of_learner, learner_share: Some(0.5) };
        let held_out: HashSet<_> = split.held_out.iter().copied().collect();
        for drawn in split.bootstrap(2, &weights, &mut rng) {
            let share = drawn.iter().filter(|row| of_learner(**row)).count() as f64 / 4000.0;
            assert!(drawn.len() == 4000 && (share - 0.5).abs() < 0.04, "{share}, a tenth are the learner's");
            assert!(drawn.iter().all(|row| !held_out.contains(row)));
        }
        let judges = split.judges(&weights, &mut rng);
        let share = judges.iter().filter(|row| of_learner(**row)).count() as f64 / 1000.0;
        assert!(judges.len() == 1000 && (share - 0.5).abs() < 0.07, "{share}");
        assert!(judges.iter().all(|row| held_out.contains(row)));
        let alone = Weights { is_learners: &|_| false, learner_share: Some(0.5) };
        assert_eq!(split.judges(&alone, &mut rng), split.held_out, "there is one kind of rows only");
        assert_eq!(split.bootstrap(1, &alone, &mut rng)[0].len(), 4000);
    }
}
