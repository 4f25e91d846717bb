//! Panics of tract, caught without a word.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Runs `work`; `None` where it panicked. tract indexes by what a file claims, and a claim that slipped through vetting must neither end the
/// process nor print a backtrace; panics elsewhere print theirs.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_becomes_nothing() {
        assert_eq!(super::caught(|| 3), Some(3));
        assert_eq!(super::caught(|| [1, 2][std::hint::black_box(2)]), None);
        assert!(!super::QUIET.get());
    }
}
