//! What the agent tells of itself.

use event_model::{AgentHealth, AgentStart, EventBody};

use super::{VERSION, Work};
use crate::clock::boot_ns;

impl Work {
    pub(super) fn tell_start(&mut self, config_hash: String, previous_end: &'static str) {
        let rules = self.judge.rules();
        let start = AgentStart {
            version: VERSION.to_owned(),
            sensor: self.sensor_name.to_owned(),
            config_hash,
            rules_version: rules.version,
            rules_loaded: rules.set.len() as u64,
            previous_end,
            previous_cause: None,
        };
        self.recorder.tell(boot_ns(), &EventBody::AgentStart(start));
    }

    pub(super) fn tell_health(&mut self) {
        self.judge.refresh_guards();
        let rules = self.judge.rules();
        let counters = self.recorder.counters();
        let (memory_bytes, cpu_ms) = own_usage();
        let health = AgentHealth {
            version: VERSION.to_owned(),
            sensor: self.sensor_name.to_owned(),
            rules_version: rules.version,
            rules_loaded: rules.set.len() as u64,
            records_produced: self.recorder.produced(),
            records_dropped: counters.dropped,
            kernel_lost: counters.kernel_lost,
            spool_bytes: self.recorder.spool_bytes(),
            memory_bytes,
            cpu_ms,
            processes_tracked: self.table.live() as u64,
            account: self.recorder.account().lines(),
            cpu_permille: 0,
            budget_step: "normal",
            shed: Vec::new(),
        };
        self.recorder.tell(boot_ns(), &EventBody::AgentHealth(health));
    }
}

/// Resident memory in bytes and CPU time in milliseconds of this process.
fn own_usage() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // Fields 14, 15 and 24 of proc(5), which counts from 1 and has two before the `)`.
    let ticks = number(11) + number(12);
    (number(21) * rustix::param::page_size() as u64, ticks * 10)
}
