//! What this process uses.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads since the process began.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Resident memory in bytes; 0 where /proc can't be read.
pub(crate) fn resident_bytes() -> u64 {
    // The second field of statm, in pages (proc(5)).
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
