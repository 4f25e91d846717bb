//! Comparing training's own outputs, the native engine and tract on the same inputs.

use policy_runtime::bundle::Bundle;
use policy_runtime::engine::EngineChoice;
use policy_runtime::engine::native::{NativeDiscriminator, NativePolicy};
use policy_runtime::probe::Probe;
use policy_runtime::selfcheck::{Agreement, Comparison};
use policy_runtime::{Contract, Discriminator, DiscriminatorGraph, Observation, Policy, PolicyGraph, Verdict};

use crate::error::{Error, Result};

/// Random inputs of each comparison.
pub const RANDOM_ROWS: usize = 256;

/// The network as training runs it, to compare with.
pub trait Reference {
    /// Deterministic actions, `[rows, action]` in environment units, of raw observations `[rows, observation]`.
    ///
    /// # Errors
    /// Whatever keeps it from computing.
    fn actions(
        &mut self,
        observations: &[f32],
        rows: usize,
    ) -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>>;

    /// Rewards, `[rows]`, of raw observations `[rows, observation]` and actions `[rows, action]` in environment units.
    /// Only called where the bundle has a discriminator.
    ///
    /// # Errors
    /// Whatever keeps it from computing.
    fn rewards(
        &mut self,
        observations: &[f32],
        actions: &[f32],
        rows: usize,
    ) -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Outputs for all probes, and how large the networks' insides were.
pub(crate) struct Answers {
    pub actions: Vec<Vec<f32>>,
    pub action_scales: Vec<f32>,
    pub rewards: Vec<f32>,
    pub reward_scales: Vec<f32>,
}

/// Asks training for its outputs, and the native engine for activation scales; compares the two.
pub(crate) fn compare_with_training(
    contract: &Contract,
    policy: &PolicyGraph,
    discriminator: Option<&DiscriminatorGraph>,
    reference: &mut dyn Reference,
    probes: &[Probe],
) -> Result<(Answers, Vec<Agreement>)> {
    let rows = probes.len();
    let observations: Vec<f32> = probes.iter().flat_map(|probe| probe.observation.iter().copied()).collect();
    let actions = reference.actions(&observations, rows).map_err(Error::Reference)?;
    let width = contract.action.len();
    check_size("actions", rows * width, actions.len())?;
    let mut answers = Answers {
        actions: actions.chunks_exact(width).map(<[f32]>::to_vec).collect(),
        action_scales: Vec::new(),
        rewards: Vec::new(),
        reward_scales: Vec::new(),
    };

    let mut native = NativePolicy::new(policy.clone())?;
    let mut comparison = Comparison::of_policies(contract, "training", "native");
    let mut action = vec![0.0; width];
    for (probe, expected) in probes.iter().zip(&answers.actions) {
        native.run(&probe.observation, &mut action)?;
        answers.action_scales.push(native.activation_scale());
        comparison.add(probe.kind, native.activation_scale(), expected, &action);
    }
    let mut agreements = vec![comparison.finish()?];

    if let Some(discriminator) = discriminator {
        let judged: Vec<f32> = probes.iter().flat_map(|probe| probe.action.iter().copied()).collect();
        answers.rewards = reference.rewards(&observations, &judged, rows).map_err(Error::Reference)?;
        check_size("rewards", rows, answers.rewards.len())?;
        let mut native = NativeDiscriminator::new(discriminator.clone())?;
        let mut comparison = Comparison::of_discriminators("training", "native");
        for (probe, expected) in probes.iter().zip(&answers.rewards) {
            let reward = native.run(&probe.observation, &probe.action)?;
            answers.reward_scales.push(native.activation_scale());
            comparison.add(probe.kind, native.activation_scale(), &[*expected], &[reward]);
        }
        agreements.push(comparison.finish()?);
    }
    Ok((answers, agreements))
}

/// Runs the files of a bundle in both engines and compares with training's outputs.
pub(crate) fn compare_files(bundle: &Bundle, probes: &[Probe], answers: &Answers) -> Result<Vec<Agreement>> {
    let contract = &bundle.manifest.contract;
    let mut agreements = Vec::new();
    for choice in [EngineChoice::Native, EngineChoice::Tract] {
        let mut policy = Policy::from_bundle(bundle, choice)?;
        let mut comparison = Comparison::of_policies(contract, "training", &format!("policy.onnx in {choice}"));
        let mut action = vec![0.0; contract.action.len()];
        for ((probe, expected), scale) in probes.iter().zip(&answers.actions).zip(&answers.action_scales) {
            let observation = Observation { values: &probe.observation, stamp_nanos: 0 };
            if let Verdict::Fallback(_) = policy.step(0, &observation, &mut action) {
                // The engine gave no usable action, which agrees with nothing.
                action.fill(f32::NAN);
            }
            comparison.add(probe.kind, *scale, expected, &action);
        }
        agreements.push(comparison.finish()?);

        if let Some(mut discriminator) = Discriminator::from_bundle(bundle, choice)? {
            let name = format!("discriminator.onnx in {choice}");
            let mut comparison = Comparison::of_discriminators("training", &name);
            for ((probe, expected), scale) in probes.iter().zip(&answers.rewards).zip(&answers.reward_scales) {
                let reward = discriminator.reward(&probe.observation, &probe.action)?;
                comparison.add(probe.kind, *scale, &[*expected], &[reward]);
            }
            agreements.push(comparison.finish()?);
        }
    }
    Ok(agreements)
}

fn check_size(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::ReferenceSize { what, expected, found }) }
}
