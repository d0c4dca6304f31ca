//! Which life of a PID is alive now.

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use sensor_api::ProcessClock;

use crate::procfs;

/// Starts as the kernel side keeps them: entered at fork, removed at the end.
pub(crate) struct KernelClock {
    map: MapHandle,
}

impl KernelClock {
    pub(crate) fn new(map: MapHandle) -> Self {
        Self { map }
    }
}

impl ProcessClock for KernelClock {
    fn start_ns(&self, pid: u32) -> Option<u64> {
        let value = self.map.lookup(&pid.to_ne_bytes(), MapFlags::ANY).ok()??;
        value.try_into().ok().map(u64::from_ne_bytes)
    }

    fn precision_ns(&self) -> u64 {
        1
    }
}

/// Starts as /proc shows them, in clock ticks.
pub(crate) struct ProcClock;

impl ProcessClock for ProcClock {
    fn start_ns(&self, pid: u32) -> Option<u64> {
        procfs::Stat::read(pid).ok().filter(|stat| !stat.is_dead()).map(|stat| stat.start_ns)
    }

    fn precision_ns(&self) -> u64 {
        procfs::tick_ns()
    }
}
