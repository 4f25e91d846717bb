//! The part of HyPER that the rest of the check does not know: fits of the ensemble, its disagreement, and imagined steps.

use super::{ACTIONS, DRIFT_TOLERANCE, DeviceCheck, FIRST_TOLERANCE, OBSERVATIONS, now};
use crate::config::{Overrides, WorldModelConfig, resolve};
use crate::error::{Error, Result};
use crate::nn::{Cpu, Train};
use crate::replay::model_data::{ModelData, Room};
use crate::replay::{ReplayBuffer, Transition};
use crate::run::rng::Streams;
use crate::world_model::dynamics::Dynamics;
use crate::world_model::model::WorldModel;
use serde_json::{Value, json};

/// Rows that are fitted to: at 256 a batch thirteen an epoch.
const ROWS: usize = 4096;
/// Rows that are imagined from together, as the preset `small` has them: 400 starts for each of 250 real steps.
const STARTS: usize = 100_000;
/// Gradient steps of the comparison: five epochs.
const BATCHES: u64 = 65;

/// The ensemble of the preset `small`, in which all members imagine, so that no rounding decides which.
fn config(width: usize) -> Result<WorldModelConfig> {
    let overrides = Overrides { preset: Some("small".into()), seeds: Some(vec![0]), ..Overrides::default() };
    let preset = resolve("hyper", "half-cheetah", &overrides)?.world_model;
    let preset = preset.ok_or_else(|| Error::config("the preset of hyper has no world model"))?;
    Ok(WorldModelConfig {
        hidden: vec![width; preset.hidden.len()],
        elites: preset.members,
        improvement: 0.0,
        max_batches: Some(BATCHES),
        ..preset
    })
}

/// Made-up steps of dynamics that can be learned: states shrink, and each is moved by one action.
fn data(nudge: f32) -> ModelData {
    let mut rng = Streams::new(0).stream("check/world_model");
    let mut steps = ReplayBuffer::new(ROWS, OBSERVATIONS, ACTIONS);
    let mut row = [0.0; OBSERVATIONS + ACTIONS];
    for index in 0..ROWS {
        rng.fill_normal(&mut row);
        if index == 0 {
            row[0] *= 1.0 + nudge;
        }
        let (observation, action) = row.split_at_mut(OBSERVATIONS);
        action.iter_mut().for_each(|value| *value = value.tanh());
        let moved = observation.iter().zip(action.iter().cycle());
        let next: Vec<f32> = moved.map(|(state, action)| 0.9 * state + 0.3 * action).collect();
        steps.push(Transition {
            observation,
            action_unit: action,
            task_reward: 0.0,
            next_observation: &next,
            terminated: false,
        });
    }
    let room = Room { capacity: 1, pinned: true, share: 1.0 };
    ModelData::new(&steps, (OBSERVATIONS, ACTIONS), room, false)
}

/// `count` states and actions to imagine from.
fn starts(count: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rng = Streams::new(0).stream("check/starts");
    let (mut observations, mut actions) = (vec![0.0; count * OBSERVATIONS], vec![0.0; count * ACTIONS]);
    rng.fill_normal(&mut observations);
    rng.fill_normal(&mut actions);
    actions.iter_mut().for_each(|value| *value = value.tanh());
    (observations, actions)
}

/// What a device makes of the data: imagined states before any fit, then the loss, the error and the disagreement after one.
struct Look {
    imagined: Vec<f32>,
    figures: [f64; 2],
    disagreement: Vec<f32>,
}

fn look<B: Train>(width: usize, nudge: f32, device: &B::Device) -> Result<Look> {
    let (data, (mut observations, actions)) = (data(nudge), starts(640));
    observations[0] *= 1.0 + nudge;
    let mut world = WorldModel::<B>::new(&config(width)?, &data, 1.0, Streams::new(0), device);
    let imagined = world.step(&observations, &actions)?.next_observations;
    let fitted = world.whole_fit(&data)?;
    let disagreement = world.disagreement(&observations, &actions);
    Ok(Look { imagined, figures: [fitted.model_loss, fitted.model_error], disagreement })
}

/// Largest relative difference of loss and error, and of what each row is disagreed about; root mean square difference of imagined states.
fn difference(found: &Look, expected: &Look) -> [f64; 2] {
    let doubts = |look: &Look| look.disagreement.iter().map(|doubt| f64::from(*doubt)).collect::<Vec<f64>>();
    let (a, b) = (doubts(found), doubts(expected));
    let pairs = found.figures.iter().zip(&expected.figures).chain(a.iter().zip(&b));
    let figures = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(0.1)).fold(0.0, f64::max);
    let squares = found.imagined.iter().zip(&expected.imagined).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    [figures, (squares / expected.imagined.len() as f64).sqrt()]
}

/// One fit on the CPU, one with a nudge, one on the device.
pub(super) fn agreement<B: Train>(arguments: &DeviceCheck, device: &B::Device) -> Result<Value> {
    let on_cpu = |nudge: f32| look::<Cpu>(arguments.width, nudge, &Default::default());
    let (expected, nudged) = (on_cpu(0.0)?, on_cpu(1e-6)?);
    let [figures, imagined] = difference(&look::<B>(arguments.width, 0.0, device)?, &expected);
    let [figures_nudged, imagined_nudged] = difference(&nudged, &expected);
    let allowed = [figures_nudged, imagined_nudged].map(|nudged| (DRIFT_TOLERANCE * nudged).max(FIRST_TOLERANCE));
    Ok(json!({
        "kind": "model_agreement", "grad_steps": BATCHES, "members": config(arguments.width)?.members,
        "agrees": figures <= allowed[0] && imagined <= allowed[1],
        "figures_relative": figures, "figures_nudged": figures_nudged, "figures_allowed": allowed[0],
        "imagined_rms": imagined, "imagined_nudged": imagined_nudged, "imagined_allowed": allowed[1],
    }))
}

/// Gradient steps of such fits, gathering and held-out errors included, and imagined steps, dealing and noise included.
pub(super) fn speed<B: Train>(arguments: &DeviceCheck, device: &B::Device) -> Result<Value> {
    let (data, (observations, actions)) = (data(0.0), starts(STARTS));
    let config = config(arguments.width)?;
    let mut world = WorldModel::<B>::new(&config, &data, 1.0, Streams::new(0), device);
    let begin = now();
    let warm_up = world.whole_fit(&data)?.model_steps;
    world.step(&observations, &actions)?;
    let warm_up_secs = begin.elapsed().as_secs_f64();
    let (begin, mut batches) = (now(), 0);
    while batches == 0 || begin.elapsed().as_secs_f64() < arguments.secs {
        batches = world.whole_fit(&data)?.model_steps - warm_up;
    }
    let fit_secs = begin.elapsed().as_secs_f64();
    let (begin, mut imaginations) = (now(), 0);
    while imaginations == 0 || begin.elapsed().as_secs_f64() < arguments.secs / 4.0 {
        world.step(&observations, &actions)?;
        imaginations += 1;
    }
    let step_secs = begin.elapsed().as_secs_f64() / f64::from(imaginations);
    Ok(json!({
        "kind": "model_speed", "members": config.members, "layers": config.hidden.len(), "width": arguments.width,
        "batch": config.batch_size, "grad_steps_per_sec": batches as f64 / fit_secs,
        "imagined_steps_per_sec": STARTS as f64 / step_secs, "warm_up_secs": warm_up_secs, "timed_grad_steps": batches,
    }))
}
