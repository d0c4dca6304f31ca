//! The system's clocks, in nanoseconds.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Since boot, suspend included.
pub(crate) fn boot() -> i64 {
    nanos(ClockId::Boottime)
}

/// Since 1970.
pub(crate) fn wall() -> i64 {
    nanos(ClockId::Realtime)
}

/// CPU time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
