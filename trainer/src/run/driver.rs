//! Runs a method: budget, evaluation, checkpoints and stop signals, for one seed and for a cohort on threads.

use super::directory::{RunDirectory, Slot};
use super::journal::{JournalLengths, SeedJournals};
use super::rng::Streams;
use super::{checkpoint, signals};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::eval;
use crate::methods::{Method, Networks, Report};
use crate::observe::{EvaluationLine, Event, MetricsLine, Observer};
use serde::{Deserialize, Serialize};
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

/// The driver's own state.
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

/// Runs the seeds of `config` that are not finished, as many at a time as there are cores. `build` makes a seed's fresh
/// method. Returns whether all are finished.
pub fn run_cohort<M: Method>(
    config: &RunConfig,
    directory: &RunDirectory,
    observer: &dyn Observer,
    build: impl Fn(u64) -> Result<M> + Sync,
) -> Result<Outcome> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(config.seeds.len());
    let work = || -> Result<Outcome> {
        // Tensor code beside the fused kernels may ask for threads: each learner keeps to its own. A thread joins a pool
        // once in its life, so that one pool serves all seeds of this thread.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .use_current_thread()
            .build()
            .map_err(|e| Error::system("cannot start a learner's thread").source(e))?;
        let mut outcome = Outcome::Finished;
        while let Some(seed) = config.seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ended = pool.install(|| run_seed(config, *seed, directory, observer, &build))?;
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

/// Runs one seed from its last checkpoint, or from the start.
fn run_seed<M: Method>(
    config: &RunConfig,
    seed: u64,
    directory: &RunDirectory,
    observer: &dyn Observer,
    build: &(impl Fn(u64) -> Result<M> + Sync),
) -> Result<Outcome> {
    let path = directory.checkpoint(Slot::Last, seed)?;
    let mut method = build(seed)?;
    let mut state = DriverState::default();
    if path.exists() {
        let saved: Checkpoint<M::Record> = checkpoint::load(&path)?;
        if saved.snapshot.driver.finished {
            return Ok(Outcome::Finished);
        }
        state = saved.snapshot.driver;
        method.restore(saved.method)?;
    }
    let journals = directory.journals(seed, state.journals)?;
    let mut run = SeedRun { config, seed, directory, observer, method, state, journals };
    let outcome = run.finish();
    if outcome.is_err() {
        // What was evaluated before the failure stays readable.
        run.journals.sync().ok();
    }
    outcome
}

struct SeedRun<'a, M: Method> {
    config: &'a RunConfig,
    seed: u64,
    directory: &'a RunDirectory,
    observer: &'a dyn Observer,
    method: M,
    state: DriverState,
    journals: SeedJournals,
}

impl<M: Method> SeedRun<'_, M> {
    fn finish(&mut self) -> Result<Outcome> {
        let (seed, budget) = (self.seed, self.config.env_steps);
        let mut env_steps = self.method.counts().env_steps();
        self.observer.observe(&Event::Started { seed, env_steps, budget });
        let mut saved = now();
        while env_steps < budget {
            if signals::stop_requested() {
                self.save(Slot::Last)?;
                self.observer.observe(&Event::Ended { seed, env_steps, finished: false });
                return Ok(Outcome::Interrupted);
            }
            let report = self.method.advance()?;
            env_steps = report.env_steps;
            self.note(&report)?;
            if self.evaluation_is_due(env_steps) {
                self.evaluate(env_steps)?;
            }
            if now().duration_since(saved) >= Duration::from_secs(self.config.checkpoint_every_secs) {
                self.save(Slot::Last)?;
                saved = now();
            }
        }
        if self.state.evaluated_at != Some(env_steps) {
            self.evaluate(env_steps)?;
        }
        self.state.finished = true;
        self.save(Slot::Last)?;
        self.observer.observe(&Event::Ended { seed, env_steps, finished: true });
        Ok(Outcome::Finished)
    }

    /// Due at the first step at or after each multiple of `eval.every`.
    fn evaluation_is_due(&self, env_steps: u64) -> bool {
        let every = self.config.eval.every;
        env_steps / every > self.state.evaluated_at.unwrap_or(0) / every
    }

    fn note(&mut self, report: &Report) -> Result<()> {
        let env_steps_total = self.method.counts().env_steps_total();
        self.observer.observe(&Event::Learned { seed: self.seed, env_steps_total, report: *report });
        if report.discriminator.is_none() && report.env_steps - self.state.measured_at < METRICS_EVERY {
            return Ok(());
        }
        self.state.measured_at = report.env_steps;
        self.journals.metrics.append(&MetricsLine {
            seed: self.seed,
            env_steps: report.env_steps,
            env_steps_total,
            grad_steps: report.grad_steps,
            expert_ratio: report.expert_ratio,
            sac: report.sac,
            discriminator: report.discriminator,
        })
    }

    fn evaluate(&mut self, env_steps: u64) -> Result<()> {
        let (config, method, seed) = (self.config, &self.method, self.seed);
        let name = format!("env/evaluation/{env_steps}");
        let act = |observation: &[f32]| Ok(method.act(observation));
        let (episodes, counts) =
            eval::play(&config.task, &config.env, Streams::new(seed), &name, config.eval.episodes, act)?;
        let env_steps_total = method.counts().env_steps_total();
        for (index, episode) in (0..).zip(&episodes) {
            self.journals.eval.append(&EvaluationLine {
                seed,
                env_steps,
                env_steps_total,
                episode: index,
                episode_return: episode.total_reward,
                length: episode.length,
            })?;
        }
        self.state.evaluated_at = Some(env_steps);
        self.state.evaluation_steps += counts.evaluation;
        let mean_return = eval::mean_return(&episodes);
        self.observer.observe(&Event::Evaluated { seed, env_steps, env_steps_total, episodes });
        if self.state.best_return.is_none_or(|best| mean_return > best) {
            self.state.best_return = Some(mean_return);
            self.save_snapshot(Slot::Best)?;
        }
        self.directory.merge()
    }

    fn snapshot(&self) -> Snapshot {
        let counts = self.method.counts();
        Snapshot {
            driver: self.state,
            env_steps: counts.env_steps(),
            env_steps_total: counts.env_steps_total(),
            networks: self.method.networks(),
        }
    }

    fn save(&mut self, slot: Slot) -> Result<()> {
        self.state.journals = self.journals.sync()?;
        let path = self.directory.checkpoint(slot, self.seed)?;
        let snapshot = self.snapshot();
        let env_steps = snapshot.env_steps;
        checkpoint::save(&path, &Checkpoint { snapshot, method: self.method.record() })?;
        self.observer.observe(&Event::Saved { seed: self.seed, env_steps });
        Ok(())
    }

    /// The networks alone: a best checkpoint is for export and evaluation, not for resuming.
    fn save_snapshot(&mut self, slot: Slot) -> Result<()> {
        self.state.journals = self.journals.sync()?;
        let path = self.directory.checkpoint(slot, self.seed)?;
        checkpoint::save(&path, &Checkpoint { snapshot: self.snapshot(), method: () })
    }
}

/// Reads the beginning of a checkpoint.
pub fn read_snapshot(path: &std::path::Path) -> Result<Snapshot> {
    checkpoint::load_start(path)
}

#[allow(clippy::disallowed_methods, reason = "the wall clock decides when to write a checkpoint, nothing else")]
fn now() -> Instant {
    Instant::now()
}
