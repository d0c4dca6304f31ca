//! The two clocks of an event: time since boot, which orders, and the wall clock, which people read.

use std::sync::atomic::{AtomicI64, Ordering};

use event_model::Timestamp;

use crate::system::clocks;

/// The wall clock is slewed by microseconds all the time; only a step beyond this
/// moves the offset, so that one process keeps one start time in all its events.
const STEP_NS: u64 = 1_000_000;

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
        self.follow(measure_offset());
    }

    fn follow(&self, now: i64) {
        if now.abs_diff(self.offset_ns.load(Ordering::Relaxed)) > STEP_NS {
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_NS: i64 = 86_400_000_000_000;

    #[test]
    fn a_clock_that_jumps_moves_what_comes_after_and_keeps_the_order() {
        let clock = WallClock::new();
        clock.follow(1_000 * DAY_NS);
        let at = |boot_ns: u64| clock.at(boot_ns).as_nanos();
        let before = at(5);
        assert_eq!(before, 1_000 * DAY_NS + 5);
        // What the network's time does all day long moves nothing.
        clock.follow(1_000 * DAY_NS + 900_000);
        clock.follow(1_000 * DAY_NS - 900_000);
        assert_eq!(at(5), before);
        // Set forward by a day, and back by ten years: within one setting, later stays later.
        for offset in [1_001 * DAY_NS, -2_650 * DAY_NS, i64::MIN, i64::MAX, 0] {
            clock.follow(offset);
            let times = [at(5), at(6), at(u64::MAX)];
            assert!(times.is_sorted(), "{times:?}");
            assert_eq!(times[0], offset.saturating_add(5));
        }
    }

    #[test]
    fn time_since_boot_never_goes_back() {
        let times: Vec<u64> = (0..1_000).map(|_| boot_ns()).collect();
        assert!(times.is_sorted() && times[0] > 0);
    }
}
