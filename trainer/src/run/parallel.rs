//! The seeds of a stack on the threads that the driver allots to it.

use rayon::prelude::*;

/// `f` of every item and its index, on the threads of the current pool; a single item stays on this thread.
pub fn each<T: Send, R: Send>(items: &mut [T], f: impl Fn(usize, &mut T) -> R + Sync) -> Vec<R> {
    match items {
        [one] => vec![f(0, one)],
        _ => items.par_iter_mut().enumerate().map(|(index, item)| f(index, item)).collect(),
    }
}
