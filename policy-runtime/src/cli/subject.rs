//! What a command works on: read once, checked where a key is trusted, and not read again.

use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::engine::EngineChoice;
use crate::engine::layout::LayoutOptions;
use crate::error::{Error, Result};
use crate::files::{MAX_ONNX_BYTES, read_bounded};
use crate::policy::Policy;
use crate::probe::{Demonstrations, Draws, probes};
use crate::signature::Trust;

/// A bundle, or an ONNX file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) path: PathBuf,
    bundle: Option<Bundle>,
    model: Vec<u8>,
}

impl Opened {
    /// Reads what lies at `path`; where there is a `trust`, only what one of its keys signed.
    pub(super) fn read(path: &Path, trust: Option<&Trust>) -> Result<Self> {
        let bundle = match trust {
            Some(trust) => Some(trust.open(path)?.0),
            None if path.is_dir() => Some(Bundle::open(path)?),
            None => None,
        };
        let model = if bundle.is_some() { Vec::new() } else { read_bounded(path, MAX_ONNX_BYTES)? };
        Ok(Self { path: path.to_path_buf(), bundle, model })
    }

    /// The bundle, where it is one.
    pub(super) fn bundle(&self) -> Option<&Bundle> {
        self.bundle.as_ref()
    }

    /// The bundle.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is a model file.
    pub(super) fn insist_on_bundle(&self) -> Result<&Bundle> {
        self.bundle().ok_or_else(|| Error::malformed(self.path.display().to_string(), "a bundle's folder", "a file"))
    }

    /// The policy's ONNX file.
    pub(super) fn model(&self) -> &[u8] {
        self.bundle().map_or(&self.model, |bundle| &bundle.policy)
    }

    /// The policy; `names` are for ONNX files.
    pub(super) fn policy(&self, choice: EngineChoice, names: &LayoutOptions) -> Result<Policy> {
        let context = |error: Error| error.within(self.path.display());
        match self.bundle() {
            None => Policy::from_onnx_as(&self.model, choice, names).map_err(context),
            Some(bundle) if *names == LayoutOptions::default() => Policy::from_bundle(bundle, choice).map_err(context),
            Some(_) => {
                let expected = "no names for its outputs: they are in the bundle";
                Err(Error::malformed(self.path.display().to_string(), expected, format!("{names:?}")))
            }
        }
    }

    /// Observations to run the policy on, `[rows][observation]`: a bundle's golden ones, made-up ones for an ONNX file.
    pub(super) fn observations(&self, policy: &Policy) -> (Vec<Vec<f32>>, &'static str) {
        if let Some(bundle) = self.bundle() {
            let golden = bundle.manifest.golden.iter();
            return (golden.map(|golden| golden.observation.clone()).collect(), "golden vectors");
        }
        if let Some(contract) = policy.contract() {
            let rows = probes(contract, &Demonstrations::default(), 64, 1);
            return (rows.into_iter().map(|probe| probe.observation).collect(), "random and boundary observations");
        }
        let mut draws = Draws::new(1);
        let rows = (0..64).map(|_| (0..policy.observation_width()).map(|_| draws.normal()).collect());
        (rows.collect(), "standard normal observations")
    }
}
