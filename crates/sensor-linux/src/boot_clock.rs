//! Wall-clock times of logs and files as times since boot.

use rustix::time::{ClockId, clock_gettime};

/// The two clocks at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Since boot, suspend included.
    pub(crate) boot_ns: u64,
    /// Since the Unix epoch.
    pub(crate) wall_ns: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let nanos = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
        };
        Self {
            boot_ns: u64::try_from(nanos(ClockId::Boottime)).unwrap_or(0),
            wall_ns: nanos(ClockId::Realtime),
        }
    }

    /// When that was, seen from this moment; `None` if it lies before the boot or in
    /// the future, as after the clock was set.
    pub(crate) fn since_boot(self, wall_ns: i64) -> Option<u64> {
        let ago = u64::try_from(self.wall_ns.checked_sub(wall_ns)?).ok()?;
        self.boot_ns.checked_sub(ago)
    }
}
