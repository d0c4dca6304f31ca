//! Runs that the kernel skipped: a program that is met while it runs already on the
//! same processor, as in an interrupt, is not run a second time. Nobody but the kernel
//! counts those, and it counts them for each program, not for each type of event.

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore as _, MapHandle};

/// The programs that write into one ring.
pub(crate) struct SkippedRuns {
    ring_id: u32,
    most: u64,
}

impl SkippedRuns {
    /// # Errors
    /// If the kernel does not tell the map's number.
    pub(crate) fn of_ring(ring: &MapHandle) -> Result<Self, libbpf_rs::Error> {
        Ok(Self { ring_id: ring.info()?.info.id, most: 0 })
    }

    /// How many runs were skipped since the programs were loaded.
    pub(crate) fn count(&mut self) -> u64 {
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let own =
            ProgInfoIter::with_query_opts(options).filter(|program| program.map_ids.contains(&self.ring_id));
        // A program that somebody took away takes its count with it.
        self.most = self.most.max(own.map(|program| program.recursion_misses).sum());
        self.most
    }
}
