//! The learned reward, for scoring observation-action pairs where the policy runs.

#[cfg(feature = "onnx")]
use std::path::Path;

#[cfg(feature = "onnx")]
use crate::bundle::Bundle;
use crate::contract::Contract;
use crate::engine::native::NativeDiscriminator;
#[cfg(feature = "onnx")]
use crate::engine::tract::TractModel;
#[cfg(feature = "onnx")]
use crate::engine::{EngineChoice, Kernels};
use crate::error::{Error, Result};
use crate::guard::first_not_finite;
#[cfg(feature = "onnx")]
use crate::metadata::{ACTION, KIND_DISCRIMINATOR, OBSERVATION};
#[cfg(feature = "onnx")]
use crate::onnx::Model;
use crate::selfcheck::{Agreement, Comparison, Golden};
use crate::spec::DiscriminatorGraph;

#[derive(Debug)]
enum Executor {
    Native(NativeDiscriminator),
    #[cfg(feature = "onnx")]
    Tract {
        model: TractModel,
        action_first: bool,
    },
}

/// A discriminator that was read, checked and prepared.
#[derive(Debug)]
pub struct Discriminator {
    executor: Executor,
    contract: Contract,
}

impl Discriminator {
    /// The discriminator of the bundle at `path`; `None` where it has none. Golden vectors are replayed.
    ///
    /// # Errors
    /// As [`Policy::load`](crate::Policy::load).
    #[cfg(feature = "onnx")]
    pub fn load(path: impl AsRef<Path>, choice: EngineChoice) -> Result<Option<Self>> {
        let path = path.as_ref();
        Self::from_bundle(&Bundle::open(path)?, choice).map_err(|error| error.within(path.display()))
    }

    /// The discriminator of a bundle that was read; `None` where it has none. Golden vectors are replayed.
    ///
    /// # Errors
    /// As [`Policy::load`](crate::Policy::load).
    #[cfg(feature = "onnx")]
    pub fn from_bundle(bundle: &Bundle, choice: EngineChoice) -> Result<Option<Self>> {
        let Some(bytes) = &bundle.discriminator else { return Ok(None) };
        let name = crate::bundle::DISCRIMINATOR_FILE;
        let mut discriminator = Self::from_onnx(bytes, choice).map_err(|error| error.within(name))?;
        if discriminator.contract != bundle.manifest.contract {
            return Err(Error::malformed(format!("{name}: metadata"), "the manifest's contract", "another contract"));
        }
        discriminator.replay(&bundle.manifest.golden)?;
        Ok(Some(discriminator))
    }

    /// A discriminator from its layers.
    ///
    /// # Errors
    /// [`Error::Malformed`] where graph and contract are not valid or do not fit each other.
    pub fn from_graph(contract: Contract, graph: DiscriminatorGraph) -> Result<Self> {
        contract.validate()?;
        graph.validate_for(&contract)?;
        Ok(Self { executor: Executor::Native(NativeDiscriminator::new(graph)?), contract })
    }

    /// A discriminator from the content of an ONNX file that this product wrote.
    ///
    /// # Errors
    /// As [`Policy::load`](crate::Policy::load).
    #[cfg(feature = "onnx")]
    pub fn from_onnx(bytes: &[u8], choice: EngineChoice) -> Result<Self> {
        let model = Model::parse(bytes)?;
        if model.kind() != Some(KIND_DISCRIMINATOR) {
            return Err(Error::malformed("the model", "a discriminator", model.kind().unwrap_or("an unknown kind")));
        }
        let contract = model.contract()?.ok_or_else(|| Error::malformed("metadata", "a contract", "none"))?;
        let lowered = if choice == EngineChoice::Tract {
            Err("tract was asked for".to_owned())
        } else {
            model.lower_discriminator()
        };
        match lowered {
            Ok(graph) => {
                graph.validate_for(&contract)?;
                let native = NativeDiscriminator::with(graph, Kernels::detect(), choice.numerics())?;
                Ok(Self { executor: Executor::Native(native), contract })
            }
            Err(reason) if choice.insists_on_native() => Err(Error::Unsupported {
                thing: "the native engine cannot run this model".into(),
                reason,
                hint: "use --engine tract",
            }),
            Err(_) => Self::in_tract(&model, contract),
        }
    }

    #[cfg(feature = "onnx")]
    fn in_tract(model: &Model, contract: Contract) -> Result<Self> {
        let names: Vec<&str> = model.inputs().iter().map(|input| input.name.as_str()).collect();
        let action_first = match names.as_slice() {
            [OBSERVATION, ACTION] => false,
            [ACTION, OBSERVATION] => true,
            _ => {
                let expected = format!("{OBSERVATION:?} and {ACTION:?}");
                return Err(Error::malformed("the model's inputs", expected, format!("{names:?}")));
            }
        };
        let (observation, action) = (contract.observation.len(), contract.action.len());
        let widths = if action_first { [action, observation] } else { [observation, action] };
        let tract = TractModel::new(model, &widths)?;
        if tract.output_width() != 1 {
            return Err(Error::malformed("the model's output", "one reward", tract.output_width()));
        }
        Ok(Self { executor: Executor::Tract { model: tract, action_first }, contract })
    }

    /// The reward of one raw observation `[observation]` and one action `[action]` in environment units. Allocates
    /// nothing with the native engine.
    ///
    /// # Errors
    /// [`Error::Width`] or [`Error::NotFinite`] where an input or the reward cannot be used.
    pub fn reward(&mut self, observation: &[f32], action: &[f32]) -> Result<f32> {
        for (what, row) in [("observation", observation), ("action", action)] {
            if let Some(index) = first_not_finite(row) {
                return Err(Error::NotFinite { what, index });
            }
        }
        let reward = match &mut self.executor {
            Executor::Native(native) => native.run(observation, action)?,
            #[cfg(feature = "onnx")]
            Executor::Tract { model, action_first } => {
                let mut reward = [0.0];
                let rows = if *action_first { [action, observation] } else { [observation, action] };
                model.run(&rows, &mut reward)?;
                reward[0]
            }
        };
        if reward.is_finite() { Ok(reward) } else { Err(Error::NotFinite { what: "reward", index: 0 }) }
    }

    /// Replays the judged part of golden vectors and compares with what training computed.
    ///
    /// # Errors
    /// [`Error::Disagreement`] with the largest difference, or why a reward cannot be had.
    pub fn replay(&mut self, golden: &[Golden]) -> Result<Agreement> {
        let mut comparison = Comparison::of_discriminators("golden", self.engine_name());
        for vector in golden {
            if let Some(judged) = &vector.judgement {
                let reward = self.reward(&vector.observation, &judged.action)?;
                comparison.add(vector.kind, judged.activation_scale, &[judged.reward], &[reward]);
            }
        }
        comparison.finish()
    }

    /// `native` or `tract`.
    pub fn engine_name(&self) -> &'static str {
        match self.executor {
            Executor::Native(_) => "native",
            #[cfg(feature = "onnx")]
            Executor::Tract { .. } => "tract",
        }
    }

    /// What it reads.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The layers, where the native engine runs them.
    pub fn graph(&self) -> Option<&DiscriminatorGraph> {
        match &self.executor {
            Executor::Native(native) => Some(native.graph()),
            #[cfg(feature = "onnx")]
            Executor::Tract { .. } => None,
        }
    }

    /// Largest magnitude inside the networks at the last evaluation, where the native engine ran them.
    pub fn activation_scale(&self) -> Option<f32> {
        match &self.executor {
            Executor::Native(native) => Some(native.activation_scale()),
            #[cfg(feature = "onnx")]
            Executor::Tract { .. } => None,
        }
    }
}
