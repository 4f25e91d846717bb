//! Ctrl-C, SIGTERM and SIGHUP ask a run to stop; a second one ends the process at once.

use crate::error::{Error, Result};
use crate::observe::progress_line;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// Catches the signals from now on. Further calls do nothing.
///
/// # Errors
/// When the system does not let the signals be caught.
pub fn install() -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let outcome = INSTALLED.get_or_init(|| {
        let on_signal = || {
            if STOP.swap(true, Ordering::SeqCst) {
                // Files are whole or absent at every moment: nothing is left half by leaving here.
                std::process::exit(130);
            }
            progress_line("\nstopping after a checkpoint; once more to stop at once");
        };
        ctrlc::set_handler(on_signal).map_err(|error| error.to_string())
    });
    outcome.clone().map_err(|error| Error::system("cannot catch stop signals").source(error))
}

/// True once somebody asked the run to stop. Drivers look here between steps, write a checkpoint and end.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Asks the run to stop, as a signal would.
pub fn request_stop() {
    STOP.store(true, Ordering::SeqCst);
}
