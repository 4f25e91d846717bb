//! How fast a run goes, measured over the last minutes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longer than most fits of a world model, in which no step is taken.
const WINDOW: Duration = Duration::from_secs(300);

/// Rates between the newest progress and the oldest within [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Pace {
    seen: VecDeque<(Instant, u64, u64)>,
}

impl Pace {
    pub(super) fn note(&mut self, now: Instant, env_steps: u64, grad_steps: u64) {
        // A sample per second is enough; the newest one always stands at the end.
        if self.seen.len() > 1
            && self.seen.iter().rev().nth(1).is_some_and(|(at, ..)| now - *at < Duration::from_secs(1))
        {
            self.seen.pop_back();
        }
        self.seen.push_back((now, env_steps, grad_steps));
        // Steps without learning, exploration, say nothing of those that follow.
        while self.seen.len() > 2 && (now - self.seen[0].0 > WINDOW || grad_steps > 0 && self.seen[1].2 == 0) {
            self.seen.pop_front();
        }
    }

    fn rates(&self) -> Option<(f64, f64)> {
        let ((start, env_start, grad_start), (end, env_end, grad_end)) = (self.seen.front()?, self.seen.back()?);
        let secs = (*end - *start).as_secs_f64();
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / secs;
        (secs > 0.1).then(|| (rate(*env_start, *env_end), rate(*grad_start, *grad_end)))
    }

    pub(super) fn grad_steps_per_sec(&self) -> Option<f64> {
        self.rates().map(|(_, grad)| grad)
    }

    pub(super) fn time_for(&self, env_steps: u64) -> Option<Duration> {
        let (env, _) = self.rates()?;
        Duration::try_from_secs_f64(env_steps as f64 / env).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_minutes() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.note(start, 5_000, 10_000);
        assert_eq!(pace.grad_steps_per_sec(), None);
        for secs in 1..=340 {
            let env_steps = 5_000 + if secs <= 40 { 10 * secs } else { 400 + 100 * (secs - 40) };
            pace.note(start + Duration::from_secs(secs), env_steps, 2 * env_steps);
        }
        assert_eq!(pace.grad_steps_per_sec(), Some(200.0));
        assert_eq!(pace.time_for(8_600), Some(Duration::from_secs(86)));
    }

    /// Fits of the world model, in which no step is taken, belong to the pace of what is left.
    #[test]
    fn a_minute_without_steps_is_one_of_many() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut pace = Pace::default();
        for round in 0..10 {
            for (secs, steps) in [(0, 0), (10, 125), (20, 250)] {
                let env_steps = 250 * round + steps;
                pace.note(start + Duration::from_secs(100 * round + secs), env_steps, 20 * env_steps);
            }
        }
        let left = pace.time_for(1_000).unwrap().as_secs();
        assert!((300..=420).contains(&left), "{left} s, at 250 steps in 100 s");
    }

    #[test]
    fn exploration_is_not_taken_for_learning() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut pace = Pace::default();
        for (secs, env_steps, grad_steps) in
            [(0, 0, 0), (2, 5_000, 0), (4, 10_000, 0), (6, 10_020, 20), (8, 10_040, 40)]
        {
            pace.note(start + Duration::from_secs(secs), env_steps, grad_steps);
        }
        assert_eq!(pace.time_for(1_000), Some(Duration::from_secs(100)));
    }
}
