//! The monotonic clock and sleeping until a point of it.

#![allow(unsafe_code)]

/// Nanoseconds on the machine's monotonic clock.
#[cfg(target_os = "linux")]
pub fn now_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusive timespec for the duration of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until the monotonic clock shows `nanos`. Returns early when a signal arrives; a moment that has passed
/// returns at once. The deadline is absolute, so delays do not add up from tick to tick.
#[cfg(target_os = "linux")]
pub fn sleep_until(nanos: u64) {
    let time = libc::timespec {
        tv_sec: (nanos / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `time` is a valid timespec; the remaining-time pointer may be null with an absolute deadline.
    unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const time, core::ptr::null_mut())
    };
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    static START: OnceLock<Instant> = OnceLock::new();

    /// Nanoseconds since the first call.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now_nanos() -> u64 {
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    /// Sleeps until [`now_nanos`] shows `nanos`.
    pub fn sleep_until(nanos: u64) {
        std::thread::sleep(Duration::from_nanos(nanos.saturating_sub(now_nanos())));
    }
}

#[cfg(not(target_os = "linux"))]
pub use portable::{now_nanos, sleep_until};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_reaches_its_deadline_and_the_past_does_not_wait() {
        let start = now_nanos();
        sleep_until(start + 3_000_000);
        let woke = now_nanos();
        assert!(woke >= start + 3_000_000);
        sleep_until(start);
        assert!(now_nanos() - woke < 1_000_000_000);
    }
}
