//! Proximal policy optimisation on problems whose solution is known.

use super::gae::Moment;
use super::ppo::{Ppo, Rollout, normalized};
use crate::config::{ObservationMoments, PpoConfig, RateSchedule, TimeLimits};
use crate::envs::Ending;
use crate::nn::Cpu;
use crate::run::rng::{Stream, Streams};

fn config() -> PpoConfig {
    PpoConfig {
        hidden: vec![32],
        initial_log_std: -0.5,
        initial_mean_gain: 1.0,
        observation_moments: ObservationMoments::Learner,
        normalizer_updates: 0,
        discount: 0.9,
        gae_lambda: 0.95,
        rollout_steps: 256,
        epochs: 10,
        minibatches: 4,
        clip: 0.2,
        clip_values: true,
        value_coefficient: 0.5,
        entropy_coefficient: 0.0,
        learning_rate: 3e-3,
        learning_rate_schedule: RateSchedule::Constant,
        max_grad_norm: 0.5,
        time_limits: TimeLimits::Bootstrap,
    }
}

/// A rollout of episodes of `length` steps from `start`, `world(state, action)` giving reward and next state.
fn play(
    ppo: &Ppo<Cpu>,
    rng: &mut Stream,
    steps: usize,
    (length, ending): (usize, Ending),
    world: impl Fn(f64, f64) -> (f64, f64),
) -> Rollout {
    let mut rollout = Rollout::default();
    let mut state = 0.0;
    for step in 0..steps {
        if step % length == 0 {
            state = rng.uniform(-1.5, 1.5);
        }
        let draw = ppo.draw(&[state as f32], rng);
        let (reward, next) = world(state, f64::from(draw.action[0]));
        let ending = if (step + 1) % length == 0 { ending } else { Ending::Continues };
        rollout.moments.push(Moment {
            reward,
            value: f64::from(draw.value),
            next_value: f64::from(ppo.value(&[next as f32])),
            ending,
        });
        rollout.observations.push(state as f32);
        rollout.actions.extend(draw.action);
        rollout.log_probs.push(draw.log_prob);
        state = next;
    }
    rollout
}

#[test]
fn a_bandit_is_solved() {
    let mut ppo = Ppo::<Cpu>::new(&config(), 1, 1, Streams::new(1), &Default::default());
    let rng = &mut Streams::new(1).stream("test");
    for _ in 0..40 {
        let rollout = play(&ppo, rng, 128, (1, Ending::Terminated), |_, action| (-(action - 0.5).powi(2), 0.0));
        ppo.update(&rollout, 3e-3);
    }
    for state in [-0.7, 0.1, 0.8] {
        let action = ppo.policy().act(&[state])[0];
        assert!((action - 0.5).abs() < 0.12, "acts {action} at {state}");
    }
}

/// Scalar LQR: `s' = s + a`, cost `s² + ½ a²` discounted by γ, worth `p s²` by the Riccati equation. Doing nothing costs `10 s²`.
#[test]
fn a_linear_regulator_comes_near_the_riccati_cost() {
    let (discount, effort) = (0.9_f64, 0.5_f64);
    let mut p = 1.0_f64;
    for _ in 0..200 {
        p = 1.0 + discount * p - (discount * p).powi(2) / (effort + discount * p);
    }
    let mut ppo = Ppo::<Cpu>::new(&config(), 1, 1, Streams::new(3), &Default::default());
    let rng = &mut Streams::new(3).stream("test");
    for round in 0..60 {
        let cost = |s: f64, a: f64| (-(s * s + effort * a * a), s + a);
        let rollout = play(&ppo, rng, 256, (4, Ending::Truncated), cost);
        let (metrics, steps) = ppo.update(&rollout, 3e-3 * (1.0 - f64::from(round) / 60.0));
        assert_eq!(steps, 40);
        assert!(metrics.approx_kl.abs() < 0.5, "{metrics:?}");
    }
    for start in [-0.8, -0.4, 0.4, 0.8] {
        let (mut state, mut cost) = (start, 0.0);
        for step in 0..100 {
            let action = f64::from(ppo.policy().act(&[state as f32])[0]);
            cost += discount.powi(step) * (state * state + effort * action * action);
            state += action;
        }
        let best = p * start * start;
        assert!(cost < 1.15 * best && cost > 0.999 * best, "from {start}: {cost}, the best is {best}");
    }
}

#[test]
fn advantages_are_normalised_as_torch_does() {
    let found = normalized(&[1.0, 2.0, 3.0, 6.0]);
    // Mean 3, deviation √(14/3).
    for (found, expected) in found.iter().zip([-0.92582, -0.46291, 0.0, 1.38873]) {
        assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
    }
}
