//! The two clocks of an event: time since boot, which orders, and the wall clock, which people read.

use std::sync::atomic::{AtomicI64, Ordering};

use event_model::Timestamp;

use crate::system::clocks;

/// The wall clock is slewed by microseconds all the time; only a step beyond this
/// moves the offset, so that one process keeps one start time in all its events.
const STEP_NS: i64 = 1_000_000;

/// Turns time since boot into wall-clock time.
#[derive(Debug)]
pub struct WallClock {
    offset_ns: AtomicI64,
}

impl WallClock {
    /// As the clocks stand now.
    pub fn new() -> Self {
        Self { offset_ns: AtomicI64::new(measure_offset()) }
    }

    /// Follows the wall clock if it was set. To be called about once a second.
    pub fn refresh(&self) {
        let now = measure_offset();
        if (now - self.offset_ns.load(Ordering::Relaxed)).abs() > STEP_NS {
            self.offset_ns.store(now, Ordering::Relaxed);
        }
    }

    /// The wall-clock time of a moment since boot.
    pub fn at(&self, boot_ns: u64) -> Timestamp {
        let boot_ns = i64::try_from(boot_ns).unwrap_or(i64::MAX);
        Timestamp::from_nanos(boot_ns.saturating_add(self.offset_ns.load(Ordering::Relaxed)))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.at(boot_ns())
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Now, in nanoseconds since boot, suspend included.
pub fn boot_ns() -> u64 {
    u64::try_from(clocks::boot()).unwrap_or(0)
}

fn measure_offset() -> i64 {
    // The thread may be put aside between two readings; of a few tries the one
    // with the least time in between is the nearest to the truth.
    let tries = (0..5).map(|_| {
        let before = clocks::boot();
        let wall = clocks::wall();
        let after = clocks::boot();
        (after - before, wall - (before + (after - before) / 2))
    });
    tries.min().map_or(0, |(_, offset)| offset)
}
