//! Runs a method: budget, evaluation, checkpoints and stop signals, for a cohort of seeds.
//!
//! The seeds of a cohort are dealt into stacks ([`Layout`]); a stack is one method that learns for its seeds in lockstep. Each
//! seed has journals and checkpoints of its own, the same files whatever the layout.

use super::directory::{RunDirectory, Slot};
use super::journal::{JournalLengths, SeedJournals};
use super::rng::Streams;
use super::{checkpoint, parallel, signals};
use crate::config::RunConfig;
use crate::envs::StepCounts;
use crate::error::{Error, Kind, Result};
use crate::eval::{self, Episode};
use crate::methods::{self, Method, Networks, Report};
use crate::observe::{EvaluationLine, Event, MetricsLine, Observer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Environment steps between lines of `metrics.jsonl`, at least.
const METRICS_EVERY: u64 = 1000;

/// How a seed's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The budget is spent.
    Finished,
    /// It was asked to stop; a checkpoint was written.
    Interrupted,
}

/// How the seeds of a cohort share the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Each seed is a stack of its own on a core of its own: what is fastest on a CPU.
    SeedPerCore,
    /// All seeds are one stack, with all cores for their environments: what keeps a GPU busy. Methods that cannot stack run
    /// one seed after the other.
    Stacked,
}

/// The driver's own state of one seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DriverState {
    /// How far the journals had come.
    pub journals: JournalLengths,
    /// Environment steps at the last evaluation; none yet where absent.
    pub evaluated_at: Option<u64>,
    /// Environment steps at the last line of `metrics.jsonl`.
    pub measured_at: u64,
    /// Real steps taken for evaluation.
    pub evaluation_steps: u64,
    /// Best mean return so far, by the true reward.
    pub best_return: Option<f64>,
    /// The budget is spent.
    pub finished: bool,
}

/// What a checkpoint file holds: first what others read ([`Snapshot`]), then everything that learning needs.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint<R> {
    snapshot: Snapshot,
    method: R,
}

/// The beginning of a checkpoint: enough to evaluate and to export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The driver's state.
    pub driver: DriverState,
    /// Environment steps of learning.
    pub env_steps: u64,
    /// All real steps of learning.
    pub env_steps_total: u64,
    /// The networks.
    pub networks: Networks,
}

/// Runs the seeds of `config` that are not finished, in stacks as `layout` says. `build` makes the fresh method of a stack.
pub fn run_cohort<M: Method>(
    config: &RunConfig,
    directory: &RunDirectory,
    observer: &dyn Observer,
    layout: Layout,
    build: impl Fn(&[u64]) -> Result<M> + Sync,
) -> Result<Outcome> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (stacks, workers, threads) = match layout {
        Layout::Stacked if M::STACKS => (stacks_to_resume(config, directory)?, 1, cores),
        Layout::Stacked => (singles(config), 1, 1),
        Layout::SeedPerCore => (singles(config), cores.min(config.seeds.len()), 1),
    };
    let next = AtomicUsize::new(0);
    let work = || -> Result<Outcome> {
        // Tensor code beside the fused kernels may ask for threads: each learner keeps to its own. A thread joins a pool
        // once in its life, so that one pool serves all stacks of this thread.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .use_current_thread()
            .build()
            .map_err(|e| Error::system("cannot start a learner's thread").source(e))?;
        let mut outcome = Outcome::Finished;
        while let Some(seeds) = stacks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ended = pool.install(|| run_stack(config, seeds, directory, observer, &build))?;
            if ended == Outcome::Interrupted {
                outcome = ended;
            }
        }
        Ok(outcome)
    };
    let outcomes: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Error::system("a learner's thread panicked"))))
            .collect()
    });
    let mut all = Outcome::Finished;
    for outcome in outcomes {
        if outcome? == Outcome::Interrupted {
            all = Outcome::Interrupted;
        }
    }
    match all {
        Outcome::Finished => directory.finish()?,
        Outcome::Interrupted => directory.merge()?,
    }
    Ok(all)
}

fn singles(config: &RunConfig) -> Vec<Vec<u64>> {
    config.seeds.iter().map(|seed| vec![*seed]).collect()
}

/// One stack, except where seeds have come differently far (a cohort that was stopped on the CPU): lockstep needs stacks of
/// equal steps.
fn stacks_to_resume(config: &RunConfig, directory: &RunDirectory) -> Result<Vec<Vec<u64>>> {
    let mut stacks: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for seed in &config.seeds {
        let path = directory.checkpoint(Slot::Last, *seed)?;
        let env_steps = if path.exists() { read_snapshot(&path)?.env_steps } else { 0 };
        stacks.entry(env_steps).or_default().push(*seed);
    }
    Ok(stacks.into_values().collect())
}

/// Runs a stack of seeds from their last checkpoints, or from the start.
fn run_stack<M: Method>(
    config: &RunConfig,
    seeds: &[u64],
    directory: &RunDirectory,
    observer: &dyn Observer,
    build: &(impl Fn(&[u64]) -> Result<M> + Sync),
) -> Result<Outcome> {
    let mut method = build(seeds)?;
    let mut states = vec![DriverState::default(); seeds.len()];
    let mut saved = Vec::new();
    for (seed, state) in seeds.iter().zip(&mut states) {
        let path = directory.checkpoint(Slot::Last, *seed)?;
        if path.exists() {
            let checkpoint: Checkpoint<M::Record> = checkpoint::load(&path)?;
            *state = checkpoint.snapshot.driver;
            saved.push(checkpoint.method);
        }
    }
    if states.iter().all(|state| state.finished) {
        return Ok(Outcome::Finished);
    }
    if !saved.is_empty() {
        method.restore(saved)?;
    }
    let seeds = seeds.iter().zip(states).map(|(seed, state)| {
        let journals = directory.journals(*seed, state.journals)?;
        Ok(SeedRun { seed: *seed, state, journals })
    });
    let mut run = StackRun { config, directory, observer, method, seeds: seeds.collect::<Result<_>>()? };
    let outcome = run.finish();
    if outcome.is_err() {
        // What was evaluated before the failure stays readable.
        run.seeds.iter().for_each(|seed| _ = seed.journals.sync());
    }
    outcome
}

struct StackRun<'a, M: Method> {
    config: &'a RunConfig,
    directory: &'a RunDirectory,
    observer: &'a dyn Observer,
    method: M,
    seeds: Vec<SeedRun>,
}

/// What the driver keeps of one seed of a stack.
struct SeedRun {
    seed: u64,
    state: DriverState,
    journals: SeedJournals,
}

impl<M: Method> StackRun<'_, M> {
    fn finish(&mut self) -> Result<Outcome> {
        let budget = self.config.env_steps;
        let mut env_steps = self.method.spent(0);
        self.tell(|seed| Event::Started { seed, env_steps, budget });
        let mut saved = now();
        while env_steps < budget {
            if signals::stop_requested() {
                self.save()?;
                self.tell(|seed| Event::Ended { seed, env_steps, finished: false });
                return Ok(Outcome::Interrupted);
            }
            let reports = match self.method.advance() {
                Ok(reports) => reports,
                Err(error) => return Err(self.explained(error)?),
            };
            if let Some(progress) = reports[0].fitting {
                let env_steps = reports[0].env_steps;
                self.tell(|seed| Event::Fitting { seed, env_steps, progress });
            }
            if !reports[0].unfinished {
                env_steps = reports[0].env_steps;
                for (place, report) in reports.iter().enumerate() {
                    report.check()?;
                    self.note(place, report)?;
                }
                if self.evaluation_is_due(env_steps) {
                    self.evaluate(env_steps)?;
                }
            }
            if now().duration_since(saved) >= Duration::from_secs(self.config.checkpoint_every_secs) {
                self.save()?;
                saved = now();
            }
        }
        if self.seeds[0].state.evaluated_at != Some(env_steps) {
            self.evaluate(env_steps)?;
        }
        self.seeds.iter_mut().for_each(|seed| seed.state.finished = true);
        self.save()?;
        self.tell(|seed| Event::Ended { seed, env_steps, finished: true });
        Ok(Outcome::Finished)
    }

    /// What a method that cannot go on says, or what is behind it. Where networks are not finite the last checkpoint stays as it is.
    fn explained(&mut self, error: Error) -> Result<Error> {
        if self.method.networks().iter().any(|networks| !networks.are_finite()) {
            return Ok(methods::diverged("parameters of its networks that are not").source(error));
        }
        if error.kind() == Kind::Diverged {
            // The method is what it was before the step that diverged: what it learned until then is worth keeping.
            if let Err(unsaved) = self.save() {
                return Ok(error.hint(format!("no checkpoint of it could be written either: {unsaved}")));
            }
        }
        Ok(error)
    }

    fn tell(&self, event: impl Fn(u64) -> Event) {
        self.seeds.iter().for_each(|seed| self.observer.observe(&event(seed.seed)));
    }

    /// Due at the first step at or after each multiple of `eval.every`.
    fn evaluation_is_due(&self, env_steps: u64) -> bool {
        let every = self.config.eval.every;
        env_steps / every > self.seeds[0].state.evaluated_at.unwrap_or(0) / every
    }

    fn note(&mut self, place: usize, report: &Report) -> Result<()> {
        let env_steps_total = self.method.counts(place).env_steps_total();
        let SeedRun { seed, state, journals } = &mut self.seeds[place];
        self.observer.observe(&Event::Learned { seed: *seed, env_steps_total, report: Box::new(*report) });
        if report.discriminator.is_none() && report.env_steps - state.measured_at < METRICS_EVERY {
            return Ok(());
        }
        state.measured_at = report.env_steps;
        journals.metrics.append(&MetricsLine {
            seed: *seed,
            env_steps: report.env_steps,
            env_steps_total,
            grad_steps: report.grad_steps,
            expert_ratio: report.expert_ratio,
            sac: report.sac,
            td3_bc: report.td3_bc,
            cloning: report.cloning,
            discriminator: report.discriminator,
            iq: report.iq,
            ppo: report.ppo,
            world_model: report.world_model,
            imagination: report.imagination,
            rollout_length: report.rollout_length,
        })
    }

    fn evaluate(&mut self, env_steps: u64) -> Result<()> {
        let config = self.config;
        let name = format!("env/evaluation/{env_steps}");
        let policies: Vec<_> = (0..self.seeds.len()).map(|place| self.method.policy(place)).collect();
        let played = parallel::each(&mut self.seeds, |place, seed| {
            let act = |observation: &[f32]| Ok(policies[place](observation));
            eval::play(&config.task, &config.env, Streams::new(seed.seed), &name, config.eval.episodes, act)
        });
        drop(policies);
        let mut improved = Vec::new();
        for (place, played) in played.into_iter().enumerate() {
            let (episodes, counts) = played?;
            if self.note_evaluation(place, env_steps, episodes, counts)? {
                improved.push(place);
            }
        }
        if !improved.is_empty() {
            self.save_best(&improved)?;
        }
        self.directory.merge()
    }

    /// Writes down one seed's evaluation; returns whether it is its best.
    fn note_evaluation(
        &mut self,
        place: usize,
        env_steps: u64,
        episodes: Vec<Episode>,
        counts: StepCounts,
    ) -> Result<bool> {
        let env_steps_total = self.method.counts(place).env_steps_total();
        let SeedRun { seed, state, journals } = &mut self.seeds[place];
        let seed = *seed;
        for (index, episode) in (0..).zip(&episodes) {
            journals.eval.append(&EvaluationLine {
                seed,
                env_steps,
                env_steps_total,
                episode: index,
                episode_return: episode.total_reward,
                length: episode.length,
            })?;
        }
        state.evaluated_at = Some(env_steps);
        state.evaluation_steps += counts.evaluation;
        let mean_return = eval::mean_return(&episodes);
        let best = state.best_return.is_none_or(|best| mean_return > best);
        if best {
            state.best_return = Some(mean_return);
        }
        self.observer.observe(&Event::Evaluated { seed, env_steps, env_steps_total, episodes });
        Ok(best)
    }

    fn snapshot(&self, place: usize, networks: Networks) -> Snapshot {
        let counts = self.method.counts(place);
        Snapshot {
            driver: self.seeds[place].state,
            env_steps: self.method.spent(place),
            env_steps_total: counts.env_steps_total(),
            networks,
        }
    }

    fn save(&mut self) -> Result<()> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for seed in &mut self.seeds {
            seed.state.journals = seed.journals.sync()?;
            paths.push(self.directory.checkpoint(Slot::Last, seed.seed)?);
        }
        let parts = self.method.networks().into_iter().zip(self.method.record()).enumerate();
        let checkpoint = |(place, (networks, method))| Checkpoint { snapshot: self.snapshot(place, networks), method };
        checkpoint::save_all(&paths, &parts.map(checkpoint).collect::<Vec<_>>())?;
        let env_steps = self.method.counts(0).env_steps();
        self.tell(|seed| Event::Saved { seed, env_steps });
        Ok(())
    }

    /// The networks alone: a best checkpoint is for export and evaluation, not for resuming.
    fn save_best(&mut self, places: &[usize]) -> Result<()> {
        let mut networks = self.method.networks();
        for place in places.iter().rev() {
            let seed = &mut self.seeds[*place];
            seed.state.journals = seed.journals.sync()?;
            let path = self.directory.checkpoint(Slot::Best, seed.seed)?;
            let snapshot = self.snapshot(*place, networks.swap_remove(*place));
            checkpoint::save(&path, &Checkpoint { snapshot, method: () })?;
        }
        Ok(())
    }
}

/// Reads what the method of a run wrote into a checkpoint.
pub fn read_method<R: serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<R> {
    checkpoint::load::<Checkpoint<R>>(path).map(|checkpoint| checkpoint.method)
}

/// Reads the beginning of a checkpoint.
pub fn read_snapshot(path: &std::path::Path) -> Result<Snapshot> {
    checkpoint::load_start(path)
}

#[allow(clippy::disallowed_methods, reason = "the wall clock decides when to write a checkpoint, nothing else")]
fn now() -> Instant {
    Instant::now()
}
