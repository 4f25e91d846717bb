//! Generalised advantage estimation (Schulman et al. 2016), on the host.

use crate::config::TimeLimits;
use crate::envs::Ending;

/// One step of a rollout as the estimator sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Reward of the step.
    pub reward: f64,
    /// `V(s)`.
    pub value: f64,
    /// `V(s')` of the state that really followed, never the one after a reset. Read where the episode or the rollout ends;
    /// elsewhere it is the next moment's `value`.
    pub next_value: f64,
    /// What the step did to the episode.
    pub ending: Ending,
}

/// Advantages `A_t = δ_t + γλ A_{t+1}`, `δ_t = r_t + γ V(s_{t+1}) - V(s_t)`; nothing flows across an episode's end. A terminal
/// state is worth nothing; what a state at the time limit is worth, `time_limits` says.
pub fn advantages(moments: &[Moment], discount: f64, lambda: f64, time_limits: TimeLimits) -> Vec<f64> {
    let mut found = vec![0.0; moments.len()];
    let mut after = 0.0;
    for (moment, found) in moments.iter().zip(&mut found).rev() {
        let bootstrapped = moment.reward + discount * moment.next_value - moment.value;
        *found = match (moment.ending, time_limits) {
            (Ending::Continues, _) => bootstrapped + discount * lambda * after,
            (Ending::Truncated, TimeLimits::Bootstrap) => bootstrapped,
            (Ending::Truncated, TimeLimits::Skip) => 0.0,
            (Ending::Terminated, _) | (Ending::Truncated, TimeLimits::Terminal) => moment.reward - moment.value,
        };
        after = *found;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISCOUNT: f64 = 0.9;
    const LAMBDA: f64 = 0.8;

    fn moments(ending: Ending) -> Vec<Moment> {
        // The second step ends an episode; V(s') = 5 is the state cut off, not the next episode's first (2).
        [(1.0, 3.0, 4.0, Ending::Continues), (2.0, 4.0, 5.0, ending), (0.5, 2.0, 6.0, Ending::Continues)]
            .map(|(reward, value, next_value, ending)| Moment { reward, value, next_value, ending })
            .to_vec()
    }

    #[track_caller]
    fn check(ending: Ending, time_limits: TimeLimits, expected: [f64; 3]) {
        for (found, expected) in advantages(&moments(ending), DISCOUNT, LAMBDA, time_limits).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
        }
    }

    /// By hand: δ₁ = 1 + 0.9·4 - 3 = 1.6, δ₃ = 0.5 + 0.9·6 - 2 = 3.9, γλ = 0.72.
    #[test]
    fn advantages_follow_the_trace_on_paper() {
        // δ₂ = 2 + 0.9·5 - 4 = 2.5; A₂ = 2.5 + 0.72·3.9 = 5.308; A₁ = 1.6 + 0.72·5.308 = 5.42176.
        check(Ending::Continues, TimeLimits::Bootstrap, [5.421_76, 5.308, 3.9]);
        // Terminal: A₂ = 2 - 4 = -2, A₁ = 1.6 - 1.44 = 0.16.
        check(Ending::Terminated, TimeLimits::Bootstrap, [0.16, -2.0, 3.9]);
        // Cut by time: A₂ = δ₂ = 2.5, A₁ = 1.6 + 1.8 = 3.4.
        check(Ending::Truncated, TimeLimits::Bootstrap, [3.4, 2.5, 3.9]);
    }

    /// The two published treatments of a time limit give other numbers: terminal (hype.md 1), and the step left out.
    #[test]
    fn the_switches_for_time_limits_differ() {
        check(Ending::Truncated, TimeLimits::Terminal, [0.16, -2.0, 3.9]);
        check(Ending::Truncated, TimeLimits::Skip, [1.6, 0.0, 3.9]);
    }

    /// A reward of 1 for ever, valued rightly at 1/(1-γ), surprises nobody at a time limit; called terminal it does.
    #[test]
    fn a_right_value_has_no_advantage_at_a_time_limit() {
        let value = 1.0 / (1.0 - DISCOUNT);
        let moment = |ending| Moment { reward: 1.0, value, next_value: value, ending };
        let moments = [moment(Ending::Continues), moment(Ending::Truncated)];
        for found in advantages(&moments, DISCOUNT, LAMBDA, TimeLimits::Bootstrap) {
            assert!(found.abs() < 1e-12);
        }
        assert!(advantages(&moments, DISCOUNT, LAMBDA, TimeLimits::Terminal)[0] < -6.0);
    }
}
