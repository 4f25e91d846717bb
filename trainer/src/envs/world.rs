//! The boundary between learning and physics: time limit, trembling hand, resets to demonstration states, conversion of
//! actions, and the only place where environment steps are counted.

use super::task::ActionScale;
use super::{Ending, Env, EnvState, Purpose, ResetState, Step, Task, catalogue};
use crate::error::{Error, Result};
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a world adds to its task. The default adds nothing.
#[derive(Debug, Clone, Default)]
pub struct WorldConfig {
    /// Probability that a step executes an action uniform between the bounds instead of the intended one.
    pub tremble: f64,
    /// Episodes that start in demonstration states.
    pub demo_resets: Option<DemoResets>,
}

/// Resets to demonstration states: with probability `alpha` an episode starts at a uniformly drawn state of a uniformly drawn
/// demonstration, and its horizon is shorter by that step's number.
#[derive(Debug, Clone)]
pub struct DemoResets {
    /// The demonstrations, their states in order.
    pub episodes: Arc<[Vec<DemoState>]>,
    /// Probability of such a reset.
    pub alpha: f64,
}

/// A state of a demonstration.
#[derive(Debug, Clone, PartialEq)]
pub struct DemoState {
    /// Steps of the demonstration that came before it.
    pub step: usize,
    /// The state.
    pub state: ResetState,
}

impl DemoResets {
    /// Resets to demonstrations that were recorded state by state from their first.
    pub fn whole(episodes: Vec<Vec<ResetState>>, alpha: f64) -> Self {
        let number = |states: Vec<ResetState>| {
            states.into_iter().enumerate().map(|(step, state)| DemoState { step, state }).collect()
        };
        Self { episodes: episodes.into_iter().map(number).collect(), alpha }
    }
}

/// Steps taken, by purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    /// Uniform random actions before learning.
    pub exploration: u64,
    /// The learning policy's own steps.
    pub policy: u64,
    /// Episodes collected for the discriminator.
    pub discriminator: u64,
    /// Steps replayed to reach a reset state.
    pub replayed_reset: u64,
    /// Evaluation.
    pub evaluation: u64,
}

impl std::ops::AddAssign for StepCounts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl StepCounts {
    /// Steps as the paper counts them: exploration and policy.
    pub fn env_steps(&self) -> u64 {
        self.exploration + self.policy
    }

    /// Steps that a robot would really have taken while learning; evaluation is apart.
    pub fn env_steps_total(&self) -> u64 {
        self.env_steps() + self.discriminator + self.replayed_reset
    }

    /// Every step.
    pub fn all(&self) -> u64 {
        self.env_steps_total() + self.evaluation
    }

    fn add(&mut self, purpose: Purpose) {
        *match purpose {
            Purpose::Exploration => &mut self.exploration,
            Purpose::Policy => &mut self.policy,
            Purpose::Discriminator => &mut self.discriminator,
            Purpose::ReplayedReset => &mut self.replayed_reset,
            Purpose::Evaluation => &mut self.evaluation,
        } += 1;
    }
}

impl std::ops::Add for StepCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            exploration: self.exploration + other.exploration,
            policy: self.policy + other.policy,
            discriminator: self.discriminator + other.discriminator,
            replayed_reset: self.replayed_reset + other.replayed_reset,
            evaluation: self.evaluation + other.evaluation,
        }
    }
}

/// Where the running episode stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    BeforeReset,
    Running,
    Over,
}

/// A task that counts, ends in time, trembles and resets. Evaluation and discriminator rollouts take worlds of their own.
pub struct World {
    env: Box<dyn Env>,
    config: WorldConfig,
    scale: ActionScale,
    bounds: Vec<(f64, f64)>,
    reset_stream: Stream,
    tremble_stream: Stream,
    demo_stream: Stream,
    counts: StepCounts,
    phase: Phase,
    first_step: usize,
    episode_steps: usize,
    observation: Vec<f32>,
    full_observation: Vec<f32>,
    executed_env: Vec<f32>,
}

/// Everything from which a world continues bit for bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldCheckpoint {
    task: String,
    env: EnvState,
    reset_stream: Stream,
    tremble_stream: Stream,
    demo_stream: Stream,
    counts: StepCounts,
    phase: Phase,
    first_step: usize,
    episode_steps: usize,
}

impl World {
    /// A world of the task called `task`, drawing from the streams `{name}/reset`, `{name}/tremble` and `{name}/demo_reset`.
    ///
    /// Errors: an unknown task, a probability outside `[0, 1]`, demonstration states that do not fit the task, MuJoCo missing.
    pub fn new(task: &str, config: WorldConfig, streams: Streams, name: &str) -> Result<Self> {
        let env = catalogue::make(task)?;
        check_config(&config, env.as_ref())?;
        let task = env.task();
        let bounds = task.action_low().into_iter().zip(task.action_high()).map(|(l, h)| (f64::from(l), f64::from(h)));
        let mut world = Self {
            scale: task.action_scale(),
            bounds: bounds.collect(),
            executed_env: vec![0.0; task.action_width()],
            env,
            config,
            reset_stream: streams.stream(&format!("{name}/reset")),
            tremble_stream: streams.stream(&format!("{name}/tremble")),
            demo_stream: streams.stream(&format!("{name}/demo_reset")),
            counts: StepCounts::default(),
            phase: Phase::BeforeReset,
            first_step: 0,
            episode_steps: 0,
            observation: Vec::new(),
            full_observation: Vec::new(),
        };
        world.look();
        Ok(world)
    }

    /// The task's constants.
    pub fn task(&self) -> &Task {
        self.env.task()
    }

    /// Starts an episode: from the task's start distribution, or from a demonstration state.
    pub fn reset(&mut self) -> Result<()> {
        self.first_step = 0;
        let horizon = self.env.task().horizon;
        let from_demo = match &self.config.demo_resets {
            Some(resets) if self.demo_stream.unit() < resets.alpha => {
                let episode = &resets.episodes[self.demo_stream.index(resets.episodes.len())];
                let within_horizon = episode.partition_point(|state| state.step < horizon);
                let start = &episode[self.demo_stream.index(within_horizon)];
                self.first_step = start.step;
                Some(&start.state)
            }
            _ => None,
        };
        match from_demo {
            Some(state) => {
                self.env.reset_to(state)?;
                self.env.show_contact()?;
            }
            None => self.env.reset(&mut self.reset_stream)?,
        }
        self.begin();
        Ok(())
    }

    /// Starts an episode from `state` as [`Env::reset_to`] says, with `first_step` steps of the horizon already used.
    pub fn reset_to(&mut self, state: &ResetState, first_step: usize) -> Result<()> {
        self.env.reset_to(state)?;
        self.first_step = first_step;
        self.begin();
        Ok(())
    }

    /// Lets an episode that is over run on, as the published code's environments do when nobody starts another (hyper.md 2): where
    /// its time was up, the next step ends it again.
    pub fn run_on(&mut self) {
        if self.phase == Phase::Over {
            self.phase = Phase::Running;
        }
    }

    /// The current observation, raw, rounded to f32 here and nowhere else.
    pub fn observation(&self) -> &[f32] {
        &self.observation
    }

    /// The observation of the full task of which a `-truncated` task shows the beginning (what its expert acts on); else the
    /// observation.
    pub fn full_observation(&self) -> &[f32] {
        if self.full_observation.is_empty() { &self.observation } else { &self.full_observation }
    }

    /// One step with an action in `[-1, 1]` (clamped to it): converted to environment units as [`ActionScale::to_env`] says,
    /// perhaps replaced by the trembling hand, executed, counted. Callers store the action that they intended.
    ///
    /// Errors: no running episode, wrong width, a value that is not finite.
    pub fn step(&mut self, action_unit: &[f32], purpose: Purpose) -> Result<Step> {
        self.check_action(action_unit)?;
        self.scale.to_env(action_unit, &mut self.executed_env)?;
        if self.config.tremble > 0.0 && self.tremble_stream.unit() < self.config.tremble {
            for (executed, (low, high)) in self.executed_env.iter_mut().zip(&self.bounds) {
                *executed = self.tremble_stream.uniform(*low, *high) as f32;
            }
        }
        self.execute(purpose)
    }

    /// One step with an action in environment units, executed exactly as it is: no clamping, no trembling. For replaying
    /// demonstrations.
    pub fn step_env(&mut self, action_env: &[f32], purpose: Purpose) -> Result<Step> {
        self.check_action(action_env)?;
        self.executed_env.copy_from_slice(action_env);
        self.execute(purpose)
    }

    /// The action last executed, in environment units.
    pub fn executed_action_env(&self) -> &[f32] {
        &self.executed_env
    }

    /// Steps taken in this world, by purpose.
    pub fn counts(&self) -> StepCounts {
        self.counts
    }

    /// Continues counting from `counts`.
    pub fn set_counts(&mut self, counts: StepCounts) {
        self.counts = counts;
    }

    /// Position coordinates.
    pub fn qpos(&self) -> &[f64] {
        self.env.qpos()
    }

    /// Velocity coordinates.
    pub fn qvel(&self) -> &[f64] {
        self.env.qvel()
    }

    /// The present state, as a later episode may start from it.
    pub fn reset_state(&self) -> ResetState {
        let warmstart = self.env.warmstart();
        ResetState {
            qpos: self.qpos().to_vec(),
            qvel: self.qvel().to_vec(),
            warmstart: (!warmstart.is_empty()).then(|| warmstart.to_vec()),
        }
    }

    /// Steps taken since the episode's start. An episode from a demonstration state at step `t` is truncated after
    /// `horizon - t` of them.
    pub fn episode_steps(&self) -> usize {
        self.episode_steps
    }

    /// Everything from which this world continues bit for bit.
    pub fn checkpoint(&self) -> WorldCheckpoint {
        WorldCheckpoint {
            task: self.task().id.clone(),
            env: self.env.save(),
            reset_stream: self.reset_stream.clone(),
            tremble_stream: self.tremble_stream.clone(),
            demo_stream: self.demo_stream.clone(),
            counts: self.counts,
            phase: self.phase,
            first_step: self.first_step,
            episode_steps: self.episode_steps,
        }
    }

    /// Puts back what [`World::checkpoint`] returned, from this or another world of the same task and configuration.
    pub fn restore(&mut self, checkpoint: &WorldCheckpoint) -> Result<()> {
        if checkpoint.task != self.task().id {
            return Err(Error::data("environment checkpoint of another task")
                .expected(&self.task().id)
                .found(&checkpoint.task));
        }
        self.env.load(&checkpoint.env)?;
        self.reset_stream = checkpoint.reset_stream.clone();
        self.tremble_stream = checkpoint.tremble_stream.clone();
        self.demo_stream = checkpoint.demo_stream.clone();
        self.counts = checkpoint.counts;
        self.phase = checkpoint.phase;
        self.first_step = checkpoint.first_step;
        self.episode_steps = checkpoint.episode_steps;
        self.look();
        Ok(())
    }

    /// What the simulator's own clock says about this episode.
    #[cfg(test)]
    pub(super) fn simulated_secs(&self) -> f64 {
        self.env.save().physics[0]
    }

    fn begin(&mut self) {
        self.phase = Phase::Running;
        self.episode_steps = 0;
        self.look();
    }

    fn execute(&mut self, purpose: Purpose) -> Result<Step> {
        let mut step = self.env.step(&self.executed_env)?;
        self.counts.add(purpose);
        self.episode_steps += 1;
        let out_of_time = self.first_step + self.episode_steps >= self.env.task().horizon;
        if step.ending == Ending::Continues && out_of_time {
            step.ending = Ending::Truncated;
        }
        if step.ending != Ending::Continues {
            self.phase = Phase::Over;
        }
        self.look();
        Ok(step)
    }

    fn look(&mut self) {
        let rounded = |values: &[f64], into: &mut Vec<f32>| {
            into.clear();
            into.extend(values.iter().map(|value| *value as f32));
        };
        rounded(self.env.observation(), &mut self.observation);
        if self.env.full_observation().len() != self.observation.len() {
            rounded(self.env.full_observation(), &mut self.full_observation);
        }
    }

    fn check_action(&self, action: &[f32]) -> Result<()> {
        let id = &self.env.task().id;
        if self.phase != Phase::Running {
            let state = if self.phase == Phase::Over { "the episode is over" } else { "no episode has begun" };
            return Err(Error::config(format!("step of {id} refused: {state}")).hint("call reset first"));
        }
        if action.len() != self.executed_env.len() {
            return Err(Error::data(format!("action for {id} of the wrong width"))
                .expected(self.executed_env.len())
                .found(action.len()));
        }
        match action.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Error::data(format!("action for {id} that is not finite")).found(format!(
                "{} in channel {}",
                action[index],
                self.env.task().action[index].name
            ))),
        }
    }
}

fn check_config(config: &WorldConfig, env: &dyn Env) -> Result<()> {
    let probability = |what: &str, value: f64| {
        if (0.0..=1.0).contains(&value) {
            return Ok(());
        }
        Err(Error::config(format!("{what} is not a probability")).expected("0 to 1").found(value))
    };
    probability("env.tremble", config.tremble)?;
    let Some(resets) = &config.demo_resets else { return Ok(()) };
    probability("the share of resets to demonstration states", resets.alpha)?;
    let horizon = env.task().horizon;
    let within_horizon = |states: &Vec<DemoState>| states.first().is_some_and(|state| state.step < horizon);
    if resets.episodes.is_empty() || !resets.episodes.iter().all(within_horizon) {
        return Err(Error::data("demonstrations without states to reset to")
            .expected(format!("in each a state before step {horizon}, the horizon of {}", env.task().id)));
    }
    let (nq, nv) = (env.qpos().len(), env.qvel().len());
    let fits = |state: &ResetState| {
        let finite =
            state.qpos.iter().chain(&state.qvel).chain(state.warmstart.iter().flatten()).all(|v| v.is_finite());
        let warmstart_fits = state.warmstart.as_ref().is_none_or(|w| w.len() == env.warmstart().len());
        state.qpos.len() == nq && state.qvel.len() == nv && warmstart_fits && finite
    };
    match resets
        .episodes
        .iter()
        .enumerate()
        .find_map(|(e, states)| Some((e, states.iter().position(|s| !fits(&s.state))?)))
    {
        None => Ok(()),
        Some((episode, step)) => {
            Err(Error::data(format!("demonstration state {step} of episode {episode} does not fit {}", env.task().id))
                .expected(format!("{nq} finite positions and {nv} finite velocities")))
        }
    }
}
