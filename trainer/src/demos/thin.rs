//! Demonstrations with holes: a share of the steps removed at random.

use super::Demonstrations;
use crate::error::{Error, Result};
use crate::run::rng::Stream;

impl Demonstrations {
    /// Removes `fraction` of all steps, drawn uniformly without replacement. What is left stays true row by row: its next observation
    /// is the one that followed, its physics state the one before it, its number the one that it had in its episode
    /// ([`Demonstrations::step_numbers`]). An episode whose last step went counts as cut after the last one that is left; one
    /// without any step left is gone.
    ///
    /// # Errors
    /// When `fraction` is not from 0 to below 1, or nothing would be left.
    pub fn drop_states(self, fraction: f64, random: &mut Stream) -> Result<Self> {
        if !(0.0..1.0).contains(&fraction) {
            return Err(Error::config("the share of steps to drop").expected("0 to below 1").found(fraction));
        }
        let dropped = (fraction * self.len() as f64).round() as usize;
        if dropped == 0 {
            return Ok(self);
        }
        if dropped == self.len() {
            return Err(Error::config(format!("dropping {fraction} of {} steps leaves none", self.len()))
                .hint("collect more episodes, or drop fewer steps"));
        }
        let mut rows: Vec<usize> = (0..self.len()).collect();
        for drawn in 0..dropped {
            rows.swap(drawn, drawn + random.index(self.len() - drawn));
        }
        let mut kept = rows.split_off(dropped);
        kept.sort_unstable();
        Ok(self.with_rows(&kept))
    }

    /// The given rows, ascending.
    fn with_rows(self, kept: &[usize]) -> Self {
        let mut step_numbers = Vec::with_capacity(kept.len());
        let mut timeouts = Vec::with_capacity(kept.len());
        let mut episodes = Vec::new();
        let mut left = kept;
        for episode in &self.episodes {
            let (rows, later) = left.split_at(left.partition_point(|row| *row < episode.end));
            left = later;
            let Some(last) = rows.last() else { continue };
            let start = step_numbers.len();
            step_numbers.extend(rows.iter().map(|row| self.step_number(episode, *row)));
            timeouts.extend(rows.iter().map(|row| row == last && !self.terminals[*row]));
            episodes.push(start..step_numbers.len());
        }
        let states = self.states.as_ref().map(|states| super::PhysicsStates {
            nq: states.nq,
            nv: states.nv,
            qpos: pick(&states.qpos, states.nq, kept),
            qvel: pick(&states.qvel, states.nv, kept),
        });
        Self {
            observations: pick(&self.observations, self.obs_dim, kept),
            actions_env: pick(&self.actions_env, self.act_dim, kept),
            next_observations: pick(&self.next_observations, self.obs_dim, kept),
            rewards: pick(&self.rewards, 1, kept),
            terminals: pick(&self.terminals, 1, kept),
            timeouts,
            episodes,
            states,
            step_numbers: Some(step_numbers),
            ..self
        }
    }
}

fn pick<T: Copy>(values: &[T], width: usize, rows: &[usize]) -> Vec<T> {
    rows.iter().flat_map(|row| &values[row * width..][..width]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::small;
    use super::super::{read, write};
    use crate::run::rng::Streams;

    #[test]
    fn what_is_left_stays_true_row_by_row() {
        let whole = small();
        let mut random = Streams::new(1).stream("test");
        for fraction in [0.2, 0.4, 0.6, 0.8] {
            let thin = whole.clone().drop_states(fraction, &mut random).unwrap();
            assert_eq!(thin.len(), 5 - (5.0 * fraction).round() as usize);
            for (number, rows) in thin.episodes.iter().enumerate() {
                for row in rows.clone() {
                    let x = thin.observation(row)[0];
                    // In `small`, the first entry is ten times the episode's number plus the step's.
                    let step = thin.step_number(rows, row);
                    assert_eq!(x as usize % 10, step, "episode {number}");
                    assert_eq!(thin.next_observation(row), [x + 1.0, -x - 1.0]);
                    assert_eq!(thin.state(row).unwrap().0, [f64::from(x) + 0.1, -f64::from(x)]);
                    assert_eq!(thin.terminals[row], x == 2.0);
                    assert_eq!(thin.timeouts[row], row + 1 == rows.end && x != 2.0);
                }
            }
        }
    }

    #[test]
    fn holes_survive_the_file_and_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thin.hdf5");
        let mut random = Streams::new(3).stream("test");
        let thin = small().drop_states(0.4, &mut random).unwrap();
        write(&path, &thin).unwrap();
        let back = read(&path).unwrap();
        assert_eq!((&back.step_numbers, &back.episodes), (&thin.step_numbers, &thin.episodes));
        assert_eq!((&back.timeouts, &back.states), (&thin.timeouts, &thin.states));
        let rows = back.episodes[0].len();
        assert_eq!(back.limit(1).unwrap().step_numbers.unwrap().len(), rows);
    }

    #[test]
    fn impossible_shares_are_refused() {
        let mut random = Streams::new(0).stream("test");
        assert_eq!(small().drop_states(0.0, &mut random).unwrap(), small());
        for fraction in [-0.1, 1.0, f64::NAN, 0.95] {
            assert_eq!(small().drop_states(fraction, &mut random).unwrap_err().exit_code(), 2, "{fraction}");
        }
    }
}
