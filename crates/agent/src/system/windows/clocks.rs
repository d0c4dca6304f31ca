//! The system's clocks, in nanoseconds.

pub(crate) use win32::clock::{thread_cpu, wall_ns as wall};

/// Since boot, suspend included.
pub(crate) fn boot() -> i64 {
    i64::try_from(win32::clock::boot_ns()).unwrap_or(i64::MAX)
}
