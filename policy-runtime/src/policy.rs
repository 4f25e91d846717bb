//! What a robot's control loop calls.

use std::path::Path;

#[cfg(feature = "onnx")]
use crate::bundle::Bundle;
use crate::contract::Contract;
use crate::engine::EngineChoice;
#[cfg(feature = "onnx")]
use crate::engine::Kernels;
use crate::engine::native::NativePolicy;
#[cfg(feature = "onnx")]
use crate::engine::{
    foreign::ForeignPolicy,
    layout::{Layout, LayoutOptions, Role},
};
use crate::error::{Error, Result};
use crate::guard::{Fault, Observation, Rules, Verdict};
#[cfg(feature = "onnx")]
use crate::joints::Joints;
#[cfg(feature = "onnx")]
use crate::metadata::{KIND_DISCRIMINATOR, KIND_POLICY};
#[cfg(feature = "onnx")]
use crate::onnx::Model;
use crate::safety::{Safety, Terms};
use crate::selfcheck::{Agreement, Comparison, Golden};
use crate::spec::PolicyGraph;

#[derive(Debug)]
enum Executor {
    Native(NativePolicy),
    #[cfg(feature = "onnx")]
    Foreign(ForeignPolicy),
}

/// A policy that was read, checked and prepared: [`Self::step`] gives one action per observation.
///
/// ```no_run
/// use policy_runtime::{EngineChoice, Observation, Policy, Verdict};
///
/// # fn sensors() -> (Vec<f32>, u64) { (vec![0.0; 11], 0) }
/// # fn actuate(_: &[f32]) {}
/// # fn clock_nanos() -> u64 { 0 }
/// # fn main() -> Result<(), policy_runtime::Error> {
/// let mut policy = Policy::load("hopper.bundle", EngineChoice::Auto)?;
/// let mut action = vec![0.0; policy.action_width()];
/// loop {
///     let (values, stamp_nanos) = sensors();
///     let observation = Observation { values: &values, stamp_nanos };
///     if let Verdict::Fallback(fault) = policy.step(clock_nanos(), &observation, &mut action) {
///         eprintln!("fallback action: {fault:?}");
///     }
///     actuate(&action);
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Policy {
    executor: Executor,
    contract: Option<Contract>,
    safety: Safety,
    last_good: Vec<f32>,
    has_last_good: bool,
    #[cfg(feature = "onnx")]
    layout: Option<Layout>,
    #[cfg(feature = "onnx")]
    joints: Option<Joints>,
    why_no_contract: Option<String>,
    golden_agreement: Option<Agreement>,
}

impl Policy {
    /// Reads a bundle, or an ONNX file, checks everything and allocates all that steps will need. A bundle's golden vectors
    /// are replayed. Which of a file's inputs are observation and which recurrent state, and which output is the action, is
    /// found out as [`crate::engine::layout`] says; [`Self::load_as`] is for files that do not tell.
    ///
    /// # Errors
    /// Kind `Data` where the files do not fit, `Usage` where the engine cannot run them, `Verification` where a golden
    /// vector does not reproduce.
    pub fn load(path: impl AsRef<Path>, choice: EngineChoice) -> Result<Self> {
        let path = path.as_ref();
        #[cfg(feature = "onnx")]
        {
            if path.is_dir() {
                Self::from_bundle(&Bundle::open(path)?, choice)
            } else {
                let bytes = crate::files::read_bounded(path, crate::files::MAX_ONNX_BYTES)?;
                Self::from_onnx(&bytes, choice)
            }
            .map_err(|error| error.within(path.display()))
        }
        #[cfg(not(feature = "onnx"))]
        {
            let _ = choice;
            Err(Error::Unsupported {
                thing: path.display().to_string(),
                reason: "this build reads no ONNX files".into(),
                hint: "build policy-runtime with the feature `onnx`",
            })
        }
    }

    /// As [`Self::load`], for an ONNX file whose names do not say which output is the action, or what becomes of state.
    ///
    /// # Errors
    /// As [`Self::load`]; a name that is not in the file, or any name for a bundle, is [`Error::Malformed`].
    #[cfg(feature = "onnx")]
    pub fn load_as(path: impl AsRef<Path>, choice: EngineChoice, options: &LayoutOptions) -> Result<Self> {
        let path = path.as_ref();
        if *options == LayoutOptions::default() {
            return Self::load(path, choice);
        }
        if path.is_dir() {
            let expected = "no names for its outputs: they are in the bundle";
            return Err(Error::malformed(path.display().to_string(), expected, format!("{options:?}")));
        }
        let bytes = crate::files::read_bounded(path, crate::files::MAX_ONNX_BYTES)?;
        Self::from_onnx_as(&bytes, choice, options).map_err(|error| error.within(path.display()))
    }

    /// Reads a bundle as [`Self::load`] does, when one of the trusted keys signed it.
    ///
    /// # Errors
    /// [`Error::Untrusted`], or as [`Self::load`].
    #[cfg(all(feature = "onnx", feature = "signature"))]
    pub fn load_trusted(path: impl AsRef<Path>, choice: EngineChoice, trust: &crate::signature::Trust) -> Result<Self> {
        let path = path.as_ref();
        let (bundle, _) = trust.open(path)?;
        Self::from_bundle(&bundle, choice).map_err(|error| error.within(path.display()))
    }

    /// A policy from its layers, for instance straight from training.
    ///
    /// # Errors
    /// [`Error::Malformed`] where graph and contract are not valid or do not fit each other.
    pub fn from_graph(contract: Contract, graph: PolicyGraph) -> Result<Self> {
        contract.validate()?;
        graph.validate_for(&contract)?;
        Ok(Self::assemble(Executor::Native(NativePolicy::new(graph)?), Some(contract)))
    }

    /// A policy from a bundle that was read; its golden vectors are replayed.
    ///
    /// # Errors
    /// As [`Self::load`].
    #[cfg(feature = "onnx")]
    pub fn from_bundle(bundle: &Bundle, choice: EngineChoice) -> Result<Self> {
        let name = crate::bundle::POLICY_FILE;
        let mut policy = Self::from_onnx(&bundle.policy, choice).map_err(|error| error.within(name))?;
        if policy.contract.as_ref() != Some(&bundle.manifest.contract) {
            let found = if policy.contract.is_some() { "another contract" } else { "no contract" };
            return Err(Error::malformed(format!("{name}: metadata"), "the manifest's contract", found));
        }
        policy.golden_agreement = Some(policy.replay(&bundle.manifest.golden)?);
        policy.reset();
        Ok(policy)
    }

    /// A policy from the content of an ONNX file. Without a contract in its metadata nothing is known of channels,
    /// bounds and rate: [`Self::contract`] is `None`, and the fallback action is zero.
    ///
    /// # Errors
    /// As [`Self::load`].
    #[cfg(feature = "onnx")]
    pub fn from_onnx(bytes: &[u8], choice: EngineChoice) -> Result<Self> {
        Self::from_onnx_as(bytes, choice, &LayoutOptions::default())
    }

    /// As [`Self::from_onnx`], with the names that the file does not make clear.
    ///
    /// # Errors
    /// As [`Self::load_as`].
    #[cfg(feature = "onnx")]
    pub fn from_onnx_as(bytes: &[u8], choice: EngineChoice, options: &LayoutOptions) -> Result<Self> {
        let model = Model::parse(bytes)?;
        if model.kind().is_some_and(|kind| kind != KIND_POLICY) {
            let found = model.kind().unwrap_or_default();
            let found = if found == KIND_DISCRIMINATOR { "a discriminator" } else { found };
            return Err(Error::malformed("the model", "a policy", found));
        }
        let contract = model.contract()?;
        let layout = Layout::of(&model, contract.as_ref(), options)?;
        let joints = if contract.is_none() { Joints::of(&model, &options.declared)? } else { None };
        if joints.is_none() && !options.declared.is_empty() {
            return Err(Error::malformed("--declare", "a file with joint_names in its metadata", "none"));
        }
        if let Some(joints) = joints {
            return Self::with_joints(&model, layout, joints, choice);
        }
        let executor = match plain_layers(&model, &layout, choice) {
            Some(graph) => {
                if let Some(contract) = &contract {
                    graph.validate_for(contract)?;
                }
                Executor::Native(NativePolicy::with(graph, Kernels::detect(), choice.numerics())?)
            }
            None => Executor::Foreign(ForeignPolicy::new(&model, layout.clone(), choice)?),
        };
        if let Some(contract) = &contract {
            let (observation, action) = executor.widths();
            crate::spec::check_widths("policy", contract, observation, action)?;
        }
        let mut policy = Self::assemble(executor, contract);
        policy.layout = Some(layout);
        Ok(policy)
    }

    /// A policy with rsl_rl's or mjlab's metadata: with a contract, scaled actions and its own last action where that is complete.
    #[cfg(feature = "onnx")]
    fn with_joints(model: &Model, layout: Layout, joints: Joints, choice: EngineChoice) -> Result<Self> {
        let plain = ForeignPolicy::new(model, layout.clone(), choice)?;
        let mut policy = match joints.contract(layout, plain.action_width()) {
            Ok((contract, layout)) => {
                let (scale, offset) = (joints.action_scale.clone(), joints.default_position.clone());
                let foreign = ForeignPolicy::new(model, layout, choice)?.with_affine(scale, offset);
                Self::assemble(Executor::Foreign(foreign), Some(contract))
            }
            Err(reason) => {
                let mut policy = Self::assemble(Executor::Foreign(plain), None);
                policy.why_no_contract = Some(reason);
                policy
            }
        };
        policy.joints = Some(joints);
        Ok(policy)
    }

    fn assemble(executor: Executor, contract: Option<Contract>) -> Self {
        let (observation_width, action_width) = executor.widths();
        let safety = contract.as_ref().map_or_else(|| Safety::of_widths(observation_width, action_width), Safety::of);
        Self {
            safety,
            last_good: vec![0.0; action_width],
            has_last_good: false,
            executor,
            contract,
            #[cfg(feature = "onnx")]
            layout: None,
            #[cfg(feature = "onnx")]
            joints: None,
            why_no_contract: None,
            golden_agreement: None,
        }
    }

    /// One action in environment units from one raw observation. Whatever goes wrong, `action` holds the contract's
    /// fallback and the verdict says why; there is no panic and no error. Allocates nothing with the native engine.
    ///
    /// `now_nanos` and the observation's stamp are on one monotonic clock of the caller's choice.
    pub fn step(&mut self, now_nanos: u64, observation: &Observation<'_>, action: &mut [f32]) -> Verdict {
        match self.try_step(now_nanos, observation, action) {
            Ok(()) => {
                self.last_good.copy_from_slice(action);
                self.has_last_good = true;
                Verdict::Good
            }
            Err(fault) => {
                let last_good = if self.has_last_good { self.last_good.as_slice() } else { &[] };
                let trusted = if fault.spares_the_observation() { observation.values } else { &[] };
                self.safety.running_rules().write_fallback(last_good, trusted, action);
                Verdict::Fallback(fault)
            }
        }
    }

    fn try_step(&mut self, now_nanos: u64, observation: &Observation<'_>, action: &mut [f32]) -> Result<(), Fault> {
        self.propose(now_nanos, observation, action)?;
        self.safety.running_rules().check_action(action)
    }

    /// The engine's answer to an observation that passes its checks; it is not checked itself. For a
    /// [`Supervisor`](crate::Supervisor), which checks it.
    ///
    /// # Errors
    /// What is wrong with the observation, with the buffer's width, or with the engine.
    pub fn propose(&mut self, now_nanos: u64, observation: &Observation<'_>, action: &mut [f32]) -> Result<(), Fault> {
        let rules = self.safety.running_rules();
        rules.check_observation(now_nanos, observation)?;
        rules.guard.check_action_width(action.len())?;
        self.executor.run(observation.values, action).map_err(|_| Fault::Engine)
    }

    /// Checks and keeps what a robot declares, instead of what the contract does. Without a contract nothing changes.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the contract with these terms is not valid.
    pub fn adopt(&mut self, terms: &Terms) -> Result<()> {
        if let Some(contract) = &self.contract {
            let adopted = terms.applied_to(contract);
            adopted.validate()?;
            self.safety = Safety::of(&adopted);
        }
        Ok(())
    }

    /// What is checked and kept at every tick.
    pub fn rules(&self) -> Rules<'_> {
        self.safety.running_rules()
    }

    /// Forgets what was carried from step to step: recurrent state, which becomes zero, and the last good action.
    pub fn reset(&mut self) {
        self.has_last_good = false;
        match &mut self.executor {
            Executor::Native(_) => {}
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => foreign.reset(),
        }
    }

    /// Goes on with what `other` carried from step to step: recurrent state and the last good action. Where their states differ in name,
    /// number or shape, nothing is taken over and the answer is `false`. For a hot swap; allocates nothing.
    #[must_use]
    pub fn carry_from(&mut self, other: &Self) -> bool {
        let memoryless = !self.is_recurrent() && !other.is_recurrent();
        let carried = self.last_good.len() == other.last_good.len()
            && match (&mut self.executor, &other.executor) {
                #[cfg(feature = "onnx")]
                (Executor::Foreign(mine), Executor::Foreign(theirs)) => mine.carry_from(theirs),
                _ => memoryless,
            };
        if carried {
            self.last_good.copy_from_slice(&other.last_good);
            self.has_last_good = other.has_last_good;
        }
        carried
    }

    /// Whether something is carried from step to step besides the last good action.
    pub fn is_recurrent(&self) -> bool {
        match &self.executor {
            Executor::Native(_) => false,
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => {
                foreign.layout().states().next().is_some() || !foreign.layout().last_action.is_empty()
            }
        }
    }

    /// Replays golden vectors, each from a fresh state, and compares with what training computed.
    ///
    /// # Errors
    /// [`Error::Disagreement`] with the largest difference; [`Error::Malformed`] where a step needed the fallback.
    pub fn replay(&mut self, golden: &[Golden]) -> Result<Agreement> {
        let mut comparison = match &self.contract {
            Some(contract) => Comparison::of_policies(contract, "golden", self.engine_name()),
            None => Comparison::of_unbounded(self.action_width(), "golden", self.engine_name()),
        };
        let mut action = vec![0.0; self.action_width()];
        for (index, vector) in golden.iter().enumerate() {
            self.reset();
            let observation = Observation { values: &vector.observation, stamp_nanos: 0 };
            if let Verdict::Fallback(fault) = self.step(0, &observation, &mut action) {
                return Err(Error::malformed(format!("golden vector {index}"), "an action", format!("{fault:?}")));
            }
            comparison.add(vector.kind, vector.activation_scale, &vector.action, &action);
        }
        comparison.finish()
    }

    /// What the policy reads and writes; `None` for other people's ONNX files.
    pub fn contract(&self) -> Option<&Contract> {
        self.contract.as_ref()
    }

    /// What is missing in rsl_rl's or mjlab's metadata for a contract; `None` where there is one, or no such metadata.
    pub fn why_no_contract(&self) -> Option<&str> {
        self.why_no_contract.as_deref()
    }

    /// Joints, gains and default position from rsl_rl's or mjlab's metadata.
    #[cfg(feature = "onnx")]
    pub fn joints(&self) -> Option<&Joints> {
        self.joints.as_ref()
    }

    /// Number of values in an observation.
    pub fn observation_width(&self) -> usize {
        self.safety.running_rules().guard.observation_width
    }

    /// Number of values in an action.
    pub fn action_width(&self) -> usize {
        self.safety.running_rules().guard.action_width
    }

    /// `native` or `tract`.
    pub fn engine_name(&self) -> &'static str {
        match &self.executor {
            Executor::Native(_) => "native",
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => foreign.engine_name(),
        }
    }

    /// Why the native engine does not run this policy; `None` where it does.
    pub fn why_not_native(&self) -> Option<&str> {
        match &self.executor {
            Executor::Native(_) => None,
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => foreign.why_not_native(),
        }
    }

    /// What inputs and outputs of the file are; `None` for a policy that was not read from one.
    #[cfg(feature = "onnx")]
    pub fn layout(&self) -> Option<&Layout> {
        match &self.executor {
            Executor::Foreign(foreign) => Some(foreign.layout()),
            Executor::Native(_) => self.layout.as_ref(),
        }
    }

    /// Products of one step, where the native engine runs it.
    pub fn multiplications(&self) -> Option<usize> {
        match &self.executor {
            Executor::Native(native) => Some(native.tape().multiplications()),
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => foreign.multiplications(),
        }
    }

    /// How well the golden vectors were reproduced at load; `None` without a bundle.
    pub fn golden_agreement(&self) -> Option<&Agreement> {
        self.golden_agreement.as_ref()
    }

    /// The layers, where the policy is a plain row of them and the native engine runs it.
    pub fn graph(&self) -> Option<&PolicyGraph> {
        match &self.executor {
            Executor::Native(native) => Some(native.graph()),
            #[cfg(feature = "onnx")]
            Executor::Foreign(_) => None,
        }
    }

    /// Largest magnitude inside the network at the last step, where the native engine ran it.
    pub fn activation_scale(&self) -> Option<f32> {
        match &self.executor {
            Executor::Native(native) => Some(native.activation_scale()),
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => foreign.activation_scale(),
        }
    }
}

impl Executor {
    fn widths(&self) -> (usize, usize) {
        match self {
            Executor::Native(native) => (native.graph().observation_width(), native.graph().action_width()),
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => (foreign.layout().observation_width(), foreign.action_width()),
        }
    }

    fn run(&mut self, observation: &[f32], action: &mut [f32]) -> Result<()> {
        match self {
            Executor::Native(native) => native.run(observation, action),
            #[cfg(feature = "onnx")]
            Executor::Foreign(foreign) => foreign.run(observation, action),
        }
    }
}

/// The layers of a model that is one plain row of them, from one observation to the action.
#[cfg(feature = "onnx")]
fn plain_layers(model: &Model, layout: &Layout, choice: EngineChoice) -> Option<PolicyGraph> {
    let plain = layout.inputs.iter().all(|feed| feed.role == Role::Observation && feed.shape.len() == 2);
    if choice == EngineChoice::Tract || !plain {
        return None;
    }
    model.with_outputs(&layout.outputs).lower_policy().ok()
}
