//! Rollouts in an imagined world, all start states side by side.

use super::dynamics::Dynamics;
use super::normalizer::Bounds;
use crate::config::OutOfBounds;
use crate::envs::Termination;
use crate::error::{Error, Result};
use crate::replay::Transition;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// What rollouts counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imagination {
    /// Imagined steps that were kept.
    pub imagined_steps: u64,
    /// Those that end in a terminal state.
    pub imagined_terminals: u64,
    /// Steps whose state was not a number; never kept.
    pub imagined_not_finite: u64,
    /// Steps whose state lay beyond the data.
    pub imagined_out_of_bounds: u64,
}

impl AddAssign for Imagination {
    fn add_assign(&mut self, other: Self) {
        self.imagined_steps += other.imagined_steps;
        self.imagined_terminals += other.imagined_terminals;
        self.imagined_not_finite += other.imagined_not_finite;
        self.imagined_out_of_bounds += other.imagined_out_of_bounds;
    }
}

/// Rules of a rollout.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// When the task ends an episode.
    pub termination: &'a Termination,
    /// Where the data lies.
    pub bounds: &'a Bounds,
    /// What happens to states beyond.
    pub out_of_bounds: OutOfBounds,
}

/// Takes up to `length` steps from each of `starts` (`[rows, observation]`), and hands every one to `keep`. `act` gives the
/// actions in [-1, 1] for all rows of a step. Rollouts end with terminal states; time limits do not exist here.
///
/// Errors: what `world` says; where most of the states of a step are no numbers, since such a world is worth nothing; and where
/// the rules leave no step at all.
pub fn imagine<W: Dynamics + ?Sized>(
    world: &mut W,
    starts: Vec<f32>,
    length: u64,
    rules: Rules<'_>,
    mut act: impl FnMut(&[f32]) -> Vec<f32>,
    mut keep: impl FnMut(&mut W, Steps<'_>),
    width: usize,
) -> Result<Imagination> {
    let mut counted = Imagination::default();
    let mut observations = starts;
    for _ in 0..length {
        let rows = observations.len() / width;
        if rows == 0 {
            break;
        }
        let actions = act(&observations);
        let imagined = world.step(&observations, &actions)?;
        let (mut next, actuators) = (imagined.next_observations, actions.len() / rows);
        let mut ends = Vec::with_capacity(rows);
        let mut not_finite = 0;
        for (row, state) in next.chunks_exact_mut(width).enumerate() {
            let reward_is_finite = imagined.task_rewards.get(row).is_none_or(|reward| reward.is_finite());
            if !reward_is_finite || state.iter().any(|x| !x.is_finite()) {
                not_finite += 1;
                ends.push(None);
                continue;
            }
            // The task judges where the model leads, not what the bounds leave of it: a fall that no data holds is a fall.
            let terminal = rules.termination.ends(state);
            if !rules.bounds.contain(state) {
                counted.imagined_out_of_bounds += 1;
                match rules.out_of_bounds {
                    OutOfBounds::Drop if !terminal => {
                        ends.push(None);
                        continue;
                    }
                    OutOfBounds::Clip => rules.bounds.clip(state),
                    OutOfBounds::Keep | OutOfBounds::Drop => {}
                }
            }
            ends.push(Some(terminal));
        }
        counted.imagined_not_finite += not_finite;
        if not_finite * 2 > rows as u64 {
            return Err(Error::diverged("the world model diverged: most states that it imagines are not finite")
                .found(format!("{not_finite} of {rows}"))
                .hint(
                    "set world_model.mean_clip=40 or imagination.out_of_bounds=clip, or shorten imagination.lengths",
                ));
        }
        counted.imagined_steps += ends.iter().flatten().count() as u64;
        counted.imagined_terminals += ends.iter().flatten().filter(|terminal| **terminal).count() as u64;
        let steps = Steps {
            observations: &observations,
            actions: &actions,
            next_observations: &next,
            task_rewards: &imagined.task_rewards,
            ends: &ends,
            widths: (width, actuators),
        };
        keep(world, steps);
        observations = alive(&next, &ends, width);
    }
    if counted.imagined_steps == 0 {
        return Err(Error::diverged("nothing that the world model imagines is worth keeping")
            .found(format!("{} steps, all beyond the data", counted.imagined_out_of_bounds))
            .hint("set imagination.out_of_bounds=clip, or a greater imagination.margin"));
    }
    Ok(counted)
}

fn alive(states: &[f32], ends: &[Option<bool>], width: usize) -> Vec<f32> {
    let goes_on = states.chunks_exact(width).zip(ends).filter(|(_, end)| **end == Some(false));
    goes_on.flat_map(|(state, _)| state).copied().collect()
}

/// One step of all rollouts.
#[derive(Debug, Clone, Copy)]
pub struct Steps<'a> {
    /// `[rows, observation]`.
    pub observations: &'a [f32],
    /// `[rows, action]`.
    pub actions: &'a [f32],
    next_observations: &'a [f32],
    task_rewards: &'a [f32],
    ends: &'a [Option<bool>],
    widths: (usize, usize),
}

impl<'a> Steps<'a> {
    /// The rows worth keeping, with their numbers.
    pub fn kept(self) -> impl Iterator<Item = (usize, Transition<'a>)> {
        let (width, actuators) = self.widths;
        self.ends.iter().enumerate().filter_map(move |(row, end)| {
            let terminated = (*end)?;
            let transition = Transition {
                observation: &self.observations[row * width..][..width],
                action_unit: &self.actions[row * actuators..][..actuators],
                task_reward: self.task_rewards.get(row).copied().unwrap_or(f32::NAN),
                next_observation: &self.next_observations[row * width..][..width],
                terminated,
            };
            Some((row, transition))
        })
    }
}
