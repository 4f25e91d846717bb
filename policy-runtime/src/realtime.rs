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

    /// Nothing of the kind can be had here.
    pub fn enter_realtime(_priority: i32, _core: Option<usize>) -> Vec<super::Grant> {
        vec![super::Grant { what: "real-time scheduling".into(), refused: Some("only on Linux".into()) }]
    }

    /// Nothing was had.
    pub fn leave_realtime() {}

    /// Sleeps until [`now_nanos`] shows `nanos`.
    pub fn sleep_until(nanos: u64) {
        std::thread::sleep(Duration::from_nanos(nanos.saturating_sub(now_nanos())));
    }
}

#[cfg(not(target_os = "linux"))]
pub use portable::{now_nanos, sleep_until};

/// One thing that was asked of the system, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Grant {
    /// What was asked for.
    pub what: String,
    /// Why it was not given; `None` where it was.
    pub refused: Option<String>,
}

/// Asks for everything that keeps a loop on this thread in time: memory that stays, wake-ups without slack, a core of
/// its own and first-in-first-out scheduling at `priority` (1 to 99). What is not permitted is not had, and said. To be
/// called when all memory is allocated and all other threads run, since these would inherit it.
#[cfg(target_os = "linux")]
pub fn enter_realtime(priority: i32, core: Option<usize>) -> Vec<Grant> {
    let answer = |what: String, done: bool, cure: &str| {
        let refused = (!done).then(|| format!("{}; {cure}", std::io::Error::last_os_error()));
        Grant { what, refused }
    };
    let mut grants = Vec::new();
    // SAFETY: no arguments that are pointers.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } == 0;
    let cure = "raise RLIMIT_MEMLOCK (ulimit -l unlimited) or give CAP_IPC_LOCK";
    grants.push(answer("memory locked".into(), locked, cure));
    // SAFETY: this option takes a number.
    let slack = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) } == 0;
    grants.push(answer("timer slack 1 ns".into(), slack, "expected on Linux only"));
    if let Some(core) = core {
        let fits = core < libc::CPU_SETSIZE as usize;
        let pinned = fits && {
            // SAFETY: a cpu_set_t of zeros is an empty set; `core` is below its size; the pointer is to a local.
            unsafe {
                let mut cores: libc::cpu_set_t = core::mem::zeroed();
                libc::CPU_SET(core, &mut cores);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores) == 0
            }
        };
        grants.push(answer(
            format!("pinned to core {core}"),
            pinned,
            "choose a core of this machine that this process may use",
        ));
    }
    // SAFETY: a sched_param of zeros is valid, and the pointer is to a local.
    let fifo = unsafe {
        let mut param: libc::sched_param = core::mem::zeroed();
        param.sched_priority = priority;
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) == 0
    };
    let cure = "raise RLIMIT_RTPRIO (ulimit -r 99) or give CAP_SYS_NICE";
    grants.push(answer(format!("SCHED_FIFO priority {priority}"), fifo, cure));
    grants
}

/// Gives ordinary scheduling and unlocked memory back to this thread.
#[cfg(target_os = "linux")]
pub fn leave_realtime() {
    // SAFETY: a sched_param of zeros is what SCHED_OTHER asks for, and the pointer is to a local.
    unsafe {
        let param: libc::sched_param = core::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const param);
        libc::munlockall();
    }
}

#[cfg(not(target_os = "linux"))]
pub use portable::{enter_realtime, leave_realtime};

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

    #[test]
    #[cfg(target_os = "linux")]
    fn what_cannot_be_had_is_said_and_does_not_stop_anything() {
        let grants = std::thread::spawn(|| {
            let grants = enter_realtime(-5, Some(usize::MAX));
            leave_realtime();
            grants
        });
        let grants = grants.join().unwrap();
        let refused: Vec<&str> = grants.iter().filter(|it| it.refused.is_some()).map(|it| it.what.as_str()).collect();
        assert!(refused.contains(&"SCHED_FIFO priority -5"), "{grants:?}");
        assert!(refused.iter().any(|what| what.starts_with("pinned to core")), "{grants:?}");
    }
}
