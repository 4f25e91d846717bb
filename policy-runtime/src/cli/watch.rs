//! Looks for a replaced bundle, prepares its policy and hands it to the loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bundle::{Bundle, MANIFEST_FILE};
use crate::engine::EngineChoice;
use crate::error::Result;
use crate::files::{MAX_MANIFEST_BYTES, read_bounded, sha256_hex};
use crate::policy::Policy;
use crate::safety::Terms;
use crate::signature::Trust;
use crate::swap::{Handover, SwapPort, SwapSender, prepare, swap_line};

/// How often the manifest is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Most refusals that are kept for the report.
const MOST_REFUSALS: usize = 100;

/// The watching thread.
#[derive(Debug)]
pub(super) struct Watch {
    finish: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

struct Watcher {
    path: PathBuf,
    engine: EngineChoice,
    terms: Terms,
    trust: Option<Trust>,
    handover: Handover,
    reference: Policy,
    sender: SwapSender,
}

impl Watch {
    /// Watches the bundle at `path`, for a loop that runs it under `terms`.
    pub(super) fn start(
        path: &Path,
        engine: EngineChoice,
        terms: Terms,
        trust: Option<Trust>,
        handover: Handover,
    ) -> Result<(Self, SwapPort)> {
        let (sender, port) = swap_line();
        // Another copy, for comparing contracts off the loop's thread.
        let reference = Policy::load(path, engine)?;
        let watcher = Watcher { path: path.to_path_buf(), engine, terms, trust, handover, reference, sender };
        let finish = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&finish);
        let seen = digest(path);
        Ok((Self { finish, thread: std::thread::spawn(move || watcher.watch(seen, &told)) }, port))
    }

    /// Ends the thread; returns why bundles were refused.
    pub(super) fn finish(self) -> Vec<String> {
        self.finish.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| vec!["the watching thread panicked".into()])
    }
}

impl Watcher {
    fn watch(self, mut seen: Option<String>, finish: &AtomicBool) -> Vec<String> {
        let mut refusals = Vec::new();
        let finishing = || finish.load(Ordering::Relaxed);
        while !finishing() {
            std::thread::sleep(POLL);
            let found = digest(&self.path);
            // While a bundle is being replaced there may be none.
            if found.is_none() || found == seen {
                continue;
            }
            seen = found;
            match self.load() {
                Ok(prepared) => drop(self.sender.swap(prepared, finishing)),
                Err(error) if refusals.len() < MOST_REFUSALS => refusals.push(error.to_string()),
                Err(_) => {}
            }
        }
        refusals
    }

    fn load(&self) -> Result<crate::swap::Prepared> {
        let bundle = match &self.trust {
            Some(trust) => trust.open(&self.path)?.0,
            None => Bundle::open(&self.path)?,
        };
        let mut policy = Policy::from_bundle(&bundle, self.engine)?;
        policy.adopt(&self.terms)?;
        prepare(&self.reference, policy, &bundle.manifest.golden, self.handover)
    }
}

fn digest(path: &Path) -> Option<String> {
    read_bounded(&path.join(MANIFEST_FILE), MAX_MANIFEST_BYTES).ok().map(|bytes| sha256_hex(&bytes))
}
