//! `hype device-check`: does a device learn what the CPU learns, and how fast? Made for the minutes in which a GPU is at hand.
//!
//! Everything is written as lines of JSON. `machine` says what was measured. `agreement`: three seeds learn on the CPU one by one
//! and on the device side by side, from the same rows and noise. Rounding alone makes two such runs drift apart, so that a
//! third is there to judge by: on the CPU, one observation of its first batch nudged by 1e-6 of its size. `speed`: gradient
//! steps, replay sampling and relabelling included, and discriminator steps, for growing stacks. `model_agreement` and `model_speed`
//! say the same of HyPER's ensemble.

mod world_model;

use super::train::Device;
use crate::backend;
use crate::config::{Optimizer, RateSchedule, Reduction, RewardConfig, SacConfig, TurnRate};
use crate::error::{Error, Result};
use crate::learners::block::Block;
use crate::learners::sac::{Sac, SacMetrics};
use crate::nn::{Cpu, Train};
use crate::observe::progress_line;
use crate::replay::{ReplayBuffer, Rows, Transition};
use crate::reward::Reward;
use crate::reward::discriminator::{Discriminator, Pairs, Turn};
use crate::run::rng::{Stream, Streams};
use crate::run::{Journal, Provenance, parallel};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Arguments of `hype device-check`.
#[derive(Debug, clap::Args)]
pub struct DeviceCheck {
    /// What to check
    #[arg(long, value_enum, default_value_t)]
    pub device: Device,
    /// File of JSON lines to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// Gradient steps of the comparison
    #[arg(long, default_value_t = 1000)]
    pub steps: u64,
    /// Stacks to time
    #[arg(long, value_delimiter = ',', default_value = "1,4,10,32")]
    pub stacks: Vec<usize>,
    /// Seconds that each timing takes, warming up apart
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Hidden width
    #[arg(long, default_value_t = 256)]
    pub width: usize,
}

/// Widths of the half-cheetah, on which the benches stand too.
const OBSERVATIONS: usize = 17;
const ACTIONS: usize = 6;
const BATCH: usize = 256;
/// Gradient steps between two looks at the device, as in the presets of HyPE.
const BLOCK: usize = 64;
/// The seeds of the comparison.
const SEEDS: [u64; 3] = [0, 1, 2];
/// The first figures may differ by this share: single-precision sums in another order, or a GPU's 10-bit products.
const FIRST_TOLERANCE: f64 = 5e-3;
/// After that a run may differ by this many times what a nudge of 1e-6 comes to in the same steps.
const DRIFT_TOLERANCE: f64 = 10.0;

/// Runs the check and writes its lines.
///
/// # Errors
/// When the device is not there, or does not agree with the CPU.
pub fn device_check(arguments: &DeviceCheck) -> Result<()> {
    let machine = machine(arguments.device)?;
    let mut lines = Lines(Journal::open(&arguments.output, 0)?);
    lines.add(&machine)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .use_current_thread()
        .build()
        .map_err(|e| Error::system("cannot start threads").source(e))?;
    let agrees = pool.install(|| match arguments.device {
        Device::Cpu => check::<Cpu>(arguments, &mut lines, &Default::default()),
        Device::Cuda => check_gpu(arguments, &mut lines),
    })?;
    if agrees {
        return Ok(());
    }
    Err(Error::verification("the device does not learn what the CPU learns")
        .expected("every line of an agreement with \"agrees\": true")
        .hint(format!("read {}", arguments.output.display())))
}

#[cfg(feature = "cuda")]
fn check_gpu(arguments: &DeviceCheck, lines: &mut Lines) -> Result<bool> {
    check::<crate::nn::Gpu>(arguments, lines, &Default::default())
}

#[cfg(not(feature = "cuda"))]
fn check_gpu(_: &DeviceCheck, _: &mut Lines) -> Result<bool> {
    Err(backend::not_built())
}

/// Lines go to the file one by one, so that a check that is cut short leaves what it found.
struct Lines(Journal);

impl Lines {
    fn add(&mut self, line: &Value) -> Result<()> {
        progress_line(format_args!("{line}"));
        self.0.append(line)
    }
}

fn machine(device: Device) -> Result<Value> {
    let here = Provenance::detect();
    let gpu = match device {
        Device::Cpu => Value::Null,
        Device::Cuda => {
            let gpu = backend::gpu()?;
            json!({
                "name": gpu.name,
                "memory_mib": gpu.memory_mib,
                "driver": backend::version(gpu.driver),
                "compiler": backend::version(gpu.compiler),
            })
        }
    };
    Ok(json!({
        "kind": "machine", "hype_version": here.hype_version, "commit": here.commit, "cpu": here.cpu,
        "cpu_threads": here.cpu_threads, "gpu": gpu,
    }))
}

fn check<B: Train>(arguments: &DeviceCheck, lines: &mut Lines, device: &B::Device) -> Result<bool> {
    let agrees = agreement::<B>(arguments, lines, device)?;
    let model = world_model::agreement::<B>(arguments, device)?;
    lines.add(&model)?;
    for seeds in &arguments.stacks {
        lines.add(&speed::<B>(arguments, *seeds, device)?)?;
    }
    lines.add(&world_model::speed::<B>(arguments, device)?)?;
    Ok(agrees && model["agrees"] == true)
}

/// A learner and its discriminator on made-up experience.
struct Trial<B: Train> {
    sac: Sac<B>,
    discriminator: Discriminator<B>,
    replay: ReplayBuffer,
    expert: Pairs,
    learners: Vec<Pairs>,
    rows: Vec<Stream>,
    device: B::Device,
}

fn sac_config(width: usize) -> SacConfig {
    SacConfig {
        hidden: vec![width, width],
        actor_hidden: None,
        discount: 0.98,
        polyak_rate: 0.02,
        target_every: 1,
        batch_size: BATCH,
        replay_capacity: 100_000,
        train_every: BLOCK as u64,
        grad_steps: BLOCK as u64,
        exploration_steps: 0,
        learning_rate: 7.3e-4,
        learning_rate_schedule: RateSchedule::Constant,
        initial_temperature: 1.0,
        learn_temperature: true,
        target_entropy: None,
        optimizer: Optimizer::OptimisticAdam,
        gsde: false,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    }
}

fn reward_config(width: usize) -> RewardConfig {
    RewardConfig {
        hidden: vec![width, width],
        members: 1,
        reduction: Reduction::Min,
        clip: None,
        learning_rate: 8e-4,
        learning_rate_schedule: TurnRate::Harmonic,
        weight_decay: 0.0,
        batch_size: 4096,
        grad_steps: 1,
        gradient_penalty: 10.0,
        gradient_target: 0.4,
        update_every: 1,
        rollout_episodes: 1,
        absorbing: false,
        normalized: false,
        from: None,
    }
}

impl<B: Train> Trial<B> {
    fn new(width: usize, seeds: &[u64], experience: usize, device: &B::Device) -> Self {
        let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
        let pairs = |mut rng: Stream| {
            let mut pairs = Pairs::new(OBSERVATIONS + ACTIONS);
            pairs.values.resize(4000 * pairs.width, 0.0);
            rng.fill_normal(&mut pairs.values);
            pairs
        };
        Self {
            sac: Sac::new(&sac_config(width), OBSERVATIONS, ACTIONS, &streams, device),
            discriminator: Discriminator::new(&reward_config(width), OBSERVATIONS + ACTIONS, &streams, device),
            replay: experience_of(experience),
            expert: pairs(Streams::new(0).stream("check/expert")),
            learners: streams.iter().map(|streams| pairs(streams.stream("check/pairs"))).collect(),
            rows: streams.iter().map(|streams| streams.stream("replay")).collect(),
            device: device.clone(),
        }
    }

    /// `steps` gradient steps from rows sent together; returns what the last one measured.
    fn block(&mut self, steps: usize, nudge: f32) -> Vec<SacMetrics> {
        let replay = &self.replay;
        let rows = parallel::each(&mut self.rows, |_, stream| {
            let mut rows = Rows::default();
            replay.sample_into(steps * BATCH, stream, &mut rows);
            rows.observations[0] *= 1.0 + nudge;
            rows
        });
        let sizes = vec![BATCH; steps];
        let noise = self.sac.draw_noise(&sizes, 0);
        let block = Block::new(rows, sizes, &self.device);
        let reward = Reward::Learned(&self.discriminator);
        let mut metrics = None;
        for (index, noise) in noise.into_iter().enumerate() {
            metrics = self.sac.step(&reward.label(block.batch(index)), noise, None, 7.3e-4, index + 1 == steps);
        }
        metrics.unwrap_or_default()
    }

    fn ascend(&mut self, iteration: u64) -> f64 {
        self.discriminator.ascend(&self.expert, &self.learners, Turn { number: iteration, over: 0.0 })[0].disc_loss
    }

    /// The mean actions of each seed at fixed observations.
    fn actions(&self) -> Vec<Vec<f32>> {
        let mut rng = Streams::new(0).stream("check/probe");
        let mut probes = vec![0.0; 64 * OBSERVATIONS];
        rng.fill_normal(&mut probes);
        let at = |policy: &crate::learners::actor::Actor| {
            probes.chunks_exact(OBSERVATIONS).flat_map(|row| policy.act(row, None)).collect()
        };
        self.sac.policies().iter().map(at).collect()
    }
}

fn experience_of(rows: usize) -> ReplayBuffer {
    let mut rng = Streams::new(0).stream("check/replay");
    let mut replay = ReplayBuffer::new(rows, OBSERVATIONS, ACTIONS);
    let mut row = [0.0; 2 * OBSERVATIONS + ACTIONS];
    for index in 0..rows {
        rng.fill_normal(&mut row);
        let (observation, rest) = row.split_at_mut(OBSERVATIONS);
        let (next_observation, action) = rest.split_at_mut(OBSERVATIONS);
        action.iter_mut().for_each(|value| *value = value.tanh());
        replay.push(Transition {
            observation,
            action_unit: action,
            task_reward: 0.0,
            next_observation,
            terminated: index % 200 == 0,
        });
    }
    replay
}

/// What a run looks like at one moment: its figures and actions, by seed.
type Look = (Vec<SacMetrics>, Vec<Vec<f32>>);

/// Learns `steps` steps, and looks after 1, 16 and 64 and from then on after each quarter.
fn looks<B: Train>(arguments: &DeviceCheck, seeds: &[u64], nudge: f32, device: &B::Device) -> Vec<(u64, Look)> {
    let mut trial = Trial::<B>::new(arguments.width, seeds, 20_000, device);
    let mut at: Vec<u64> =
        [1, 16, 64].into_iter().chain((1..=4).map(|quarter| quarter * arguments.steps / 4)).collect();
    at.sort_unstable();
    at.dedup();
    let (mut done, mut found) = (0, Vec::new());
    for stop in at.into_iter().filter(|stop| (1..=arguments.steps).contains(stop)) {
        let mut metrics = Vec::new();
        while done < stop {
            let steps = (stop - done).min(BLOCK as u64);
            metrics = trial.block(steps as usize, if done == 0 { nudge } else { 0.0 });
            done += steps;
        }
        trial.ascend(found.len() as u64);
        found.push((stop, (metrics, trial.actions())));
    }
    found
}

/// Largest relative difference of critics' values, entropies and losses, and root mean square difference of actions.
fn difference(found: &Look, expected: &Look) -> (f64, f64) {
    let figures = |m: &SacMetrics| [m.critic_loss, m.actor_loss, m.temperature, m.entropy, m.q_mean];
    let pairs = found.0.iter().zip(&expected.0).flat_map(|(a, b)| figures(a).into_iter().zip(figures(b)));
    let worst = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(0.1)).fold(0.0, f64::max);
    let (a, b) = (found.1.concat(), expected.1.concat());
    let squares: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (worst, (squares / a.len() as f64).sqrt())
}

fn agreement<B: Train>(arguments: &DeviceCheck, lines: &mut Lines, device: &B::Device) -> Result<bool> {
    let alone = |nudge: f32| -> Vec<(u64, Look)> {
        let mut seeds = SEEDS;
        let each = parallel::each(&mut seeds, |_, seed| looks::<Cpu>(arguments, &[*seed], nudge, &Default::default()));
        let mut all: Vec<(u64, Look)> = Vec::new();
        for seed in each {
            for (index, (step, (metrics, actions))) in seed.into_iter().enumerate() {
                match all.get_mut(index) {
                    None => all.push((step, (metrics, actions))),
                    Some((_, (m, a))) => {
                        m.extend(metrics);
                        a.extend(actions);
                    }
                }
            }
        }
        all
    };
    let (expected, nudged) = (alone(0.0), alone(1e-6));
    let found = looks::<B>(arguments, &SEEDS, 0.0, device);
    let mut all_agree = true;
    let mut allowed = (FIRST_TOLERANCE, FIRST_TOLERANCE);
    for ((step, found), ((_, expected), (_, nudged))) in found.iter().zip(expected.iter().zip(&nudged)) {
        let (figures, actions) = difference(found, expected);
        let (nudged_figures, nudged_actions) = difference(nudged, expected);
        allowed.0 = (DRIFT_TOLERANCE * nudged_figures).max(allowed.0);
        allowed.1 = (DRIFT_TOLERANCE * nudged_actions).max(allowed.1);
        let agrees = figures <= allowed.0 && actions <= allowed.1;
        all_agree &= agrees;
        lines.add(&json!({
            "kind": "agreement", "grad_steps": step, "seeds": SEEDS.len(), "agrees": agrees,
            "figures_relative": figures, "figures_nudged": nudged_figures, "figures_allowed": allowed.0,
            "actions_rms": actions, "actions_nudged": nudged_actions, "actions_allowed": allowed.1,
        }))?;
    }
    Ok(all_agree)
}

fn speed<B: Train>(arguments: &DeviceCheck, seeds: usize, device: &B::Device) -> Result<Value> {
    let all: Vec<u64> = (0..seeds as u64).collect();
    let mut trial = Trial::<B>::new(arguments.width, &all, 100_000, device);
    // Kernels are compiled and tuned when first met.
    let begin = now();
    let _ = (trial.block(BLOCK, 0.0), trial.block(BLOCK, 0.0), trial.ascend(0), trial.ascend(1));
    let warm_up_secs = begin.elapsed().as_secs_f64();
    let (begin, mut blocks) = (now(), 0);
    while begin.elapsed().as_secs_f64() < arguments.secs {
        trial.block(BLOCK, 0.0);
        blocks += 1;
    }
    let step_secs = begin.elapsed().as_secs_f64() / (blocks * BLOCK) as f64;
    let (begin, mut ascents) = (now(), 0);
    while begin.elapsed().as_secs_f64() < arguments.secs / 4.0 {
        trial.ascend(1);
        ascents += 1;
    }
    let disc_secs = begin.elapsed().as_secs_f64() / f64::from(ascents);
    let begin = now();
    let _ = trial.actions();
    let acting_secs = begin.elapsed().as_secs_f64() / (64 * seeds) as f64;
    Ok(json!({
        "kind": "speed", "seeds": seeds, "batch": BATCH, "width": arguments.width, "steps_per_transfer": BLOCK,
        "grad_steps_per_sec": 1.0 / step_secs, "seed_steps_per_sec": seeds as f64 / step_secs,
        "disc_steps_per_sec": 1.0 / disc_secs, "acting_micros": 1e6 * acting_secs,
        "warm_up_secs": warm_up_secs, "timed_blocks": blocks, "gpu_memory_mib": gpu_memory_mib(arguments.device),
    }))
}

/// Memory in use on the GPU, as the driver's own tool says.
fn gpu_memory_mib(device: Device) -> Option<u64> {
    if device == Device::Cpu {
        return None;
    }
    let query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next()?.trim().parse().ok()
}

#[allow(clippy::disallowed_methods, reason = "a timing measures time")]
fn now() -> Instant {
    Instant::now()
}
