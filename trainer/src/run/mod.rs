//! A run: its directory, its random streams, its checkpoints.
//!
//! ```text
//! RUN/config.toml            fully resolved, written last: its presence makes the folder a run
//!     provenance.json        what made it
//!     eval.jsonl             all seeds' evaluation episodes, by seed (rebuilt from seeds/ after each evaluation)
//!     metrics.jsonl          all seeds' metrics, by seed
//!     seeds/3/eval.jsonl     what seed 3 wrote; append-only, cut back to its checkpoint when it resumes
//!     seeds/3/metrics.jsonl
//!     checkpoints/last/seed-3.ckpt
//!     checkpoints/best/seed-3.ckpt
//!     finished               there once every seed is done
//!     lock                   held while a process works on the run
//! ```

pub mod checkpoint;
pub mod directory;
pub mod driver;
pub mod files;
pub mod journal;
pub mod parallel;
pub mod provenance;
pub mod rng;
pub mod signals;

pub use directory::{RunDirectory, Slot};
pub use journal::{Journal, JournalLengths, SeedJournals};
pub use provenance::Provenance;
