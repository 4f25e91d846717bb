//! Looks for a replaced bundle, prepares its policy and hands it to the loop.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::subject::Opened;
use crate::bundle::{Bundle, MANIFEST_FILE};
use crate::discriminator::Discriminator;
use crate::engine::EngineChoice;
use crate::engine::layout::LayoutOptions;
use crate::error::{Error, Result};
use crate::files::{MAX_MANIFEST_BYTES, read_bounded, sha256_hex};
use crate::monitor::{Monitor, Score};
use crate::policy::Policy;
use crate::safety::Terms;
use crate::signature::{SIGNATURE_FILE, Trust};
use crate::swap::{Handover, Prepared, SwapPort, SwapSender, prepare, swap_line};

/// How often the bundle is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Longest pause, in looks, before a bundle that was refused is tried again: its files may come one after the other.
const MOST_LOOKS_BETWEEN: u32 = 64;
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

/// What tells one state of a bundle from another: digests of its manifest and, where that counts, of its signature.
type Fingerprint = (String, Option<String>);

/// The bundle's fingerprint; `None` while it is being replaced and there is none. Taken before the bundle is read, so that a change in between
/// is seen as one.
pub(super) fn fingerprint(path: &Path, signed: bool) -> Option<Fingerprint> {
    let digest = |name: &str| read_bounded(&path.join(name), MAX_MANIFEST_BYTES).ok().map(|bytes| sha256_hex(&bytes));
    Some((digest(MANIFEST_FILE)?, if signed { digest(SIGNATURE_FILE) } else { None }))
}

/// The bundle's monitor, where it was fitted.
pub(super) fn watching(bundle: &Bundle, engine: EngineChoice) -> Result<Option<Monitor>> {
    let Some(record) = &bundle.manifest.monitor else { return Ok(None) };
    let discriminator = match record.score {
        Score::Discriminator => Discriminator::from_bundle(bundle, engine)?,
        Score::Mahalanobis => None,
    };
    Ok(Monitor::new(record, discriminator))
}

impl Watch {
    /// Watches the bundle that was `opened` and had the fingerprint `seen`, for a loop that runs it under `terms`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model file: nothing tells when one is whole.
    pub(super) fn start(
        opened: &Opened,
        seen: Option<Fingerprint>,
        engine: EngineChoice,
        terms: Terms,
        trust: Option<Trust>,
        handover: Handover,
    ) -> Result<(Self, SwapPort)> {
        if opened.bundle().is_none() {
            return Err(Error::Unsupported {
                thing: format!("--watch {}", opened.path.display()),
                reason: "a model file has no manifest that tells when a new one is whole".into(),
                hint: "watch a bundle's folder",
            });
        }
        let (sender, port) = swap_line();
        // Another copy, for comparing contracts off the loop's thread.
        let reference = opened.policy(engine, &LayoutOptions::default())?;
        let watcher = Watcher { path: opened.path.clone(), engine, terms, trust, handover, reference, sender };
        let finish = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&finish);
        Ok((Self { finish, thread: std::thread::spawn(move || watcher.watch(seen, &told)) }, port))
    }

    /// Ends the thread; returns why bundles were refused.
    pub(super) fn finish(self) -> Vec<String> {
        self.finish.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| vec!["the watching thread panicked".into()])
    }
}

impl Watcher {
    fn watch(mut self, mut running: Option<Fingerprint>, finish: &AtomicBool) -> Vec<String> {
        let mut refusals: Vec<String> = Vec::new();
        let mut refused = None;
        let (mut pause, mut looks_left) = (1, 0_u32);
        let finishing = || finish.load(Ordering::Relaxed);
        while !finishing() {
            std::thread::sleep(POLL);
            let found = fingerprint(&self.path, self.trust.is_some());
            if found.is_none() || found == running {
                continue;
            }
            if found == refused && looks_left > 0 {
                looks_left -= 1;
                continue;
            }
            match self.load() {
                Ok(prepared) => {
                    let _ = self.sender.swap(prepared, finishing);
                    (running, refused) = (found, None);
                }
                Err(error) => {
                    pause = if found == refused { (2 * pause).min(MOST_LOOKS_BETWEEN) } else { 1 };
                    (refused, looks_left) = (found, pause);
                    let refusal = error.to_string();
                    if refusals.last() != Some(&refusal) && refusals.len() < MOST_REFUSALS {
                        // Standard error may be closed; the report says it too.
                        let _ = writeln!(std::io::stderr(), "a new bundle was refused: {refusal}");
                        refusals.push(refusal);
                    }
                }
            }
        }
        refusals
    }

    fn load(&self) -> Result<Prepared> {
        let opened = Opened::read(&self.path, self.trust.as_ref())?;
        let bundle = opened.insist_on_bundle()?;
        let mut policy = opened.policy(self.engine, &LayoutOptions::default())?;
        policy.adopt(&self.terms)?;
        let monitor = watching(bundle, self.engine)?;
        Ok(prepare(&self.reference, policy, &bundle.manifest.golden, self.handover)?.with_monitor(monitor))
    }
}
