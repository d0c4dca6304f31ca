//! What the agent tells of itself.

use event_model::{AgentHealth, AgentStart, EventBody, EventType, Field, Gap, GapReason, RuleId, Value};
use sensor_api::{ObservedActivity, Sensor};

use super::{VERSION, Work};
use crate::clock::boot_ns;
use crate::flood::Withheld;
use crate::system::usage::{cpu_time, resident_bytes};

impl Work {
    pub(super) fn tell_start(
        &mut self,
        config_hash: String,
        previous_end: &'static str,
        sources: Vec<String>,
        previous_cause: Option<String>,
    ) {
        let rules = self.judge.rules();
        let start = AgentStart {
            version: VERSION.to_owned(),
            sensor: self.sensor_name.to_owned(),
            config_hash,
            rules_version: rules.version,
            rules_loaded: rules.set.len() as u64,
            previous_end,
            sources,
            previous_cause,
        };
        self.recorder.tell(boot_ns(), &EventBody::AgentStart(start));
    }

    /// Tells what the sensor misses of its kernel side, each once.
    pub(super) fn check_sensor(&mut self, sensor: &mut dyn Sensor) {
        let missing = sensor.check();
        let known = std::mem::replace(&mut self.missing, missing.clone());
        for what in missing.iter().filter(|what| !known.contains(what)) {
            let fields = vec![
                (Field::AgentTampered, Value::Text("bpf_link".to_owned())),
                (Field::EventReason, Value::Text(what.clone())),
            ];
            let (actor, target) = (None, None);
            let tampered = ObservedActivity { event_type: EventType::AgentTamper, actor, target, fields };
            self.tell_activity(boot_ns(), tampered, false);
        }
    }

    /// Tells of detections that were not made.
    pub(super) fn tell_withheld(&mut self) {
        let Some(withheld) = self.judge.take_withheld() else { return };
        let Withheld { count, from_ns, until_ns, rules } = withheld;
        let rules = rules.iter().map(RuleId::as_str).collect::<Vec<_>>().join(", ");
        tracing::warn!(count, rules, "rules match so often that not all detections are made");
        self.recorder.tell_gap(Gap {
            from: self.clock.at(from_ns),
            until: self.clock.at(until_ns),
            ..Gap::of_observations("rules", GapReason::Flood, "detection", Some(count))
        });
    }

    pub(super) fn tell_health(&mut self) {
        self.judge.refresh_guards();
        let forgotten = self.judge.forgotten();
        let rules = self.judge.rules();
        let counters = self.recorder.counters();
        self.health_is_news = false;
        let governor = self.economy.governor();
        let cpu_ms = u64::try_from(cpu_time().as_millis()).unwrap_or(u64::MAX);
        let health = AgentHealth {
            version: VERSION.to_owned(),
            sensor: self.sensor_name.to_owned(),
            rules_version: rules.version,
            rules_loaded: rules.set.len() as u64,
            records_produced: self.recorder.produced(),
            records_dropped: counters.dropped,
            kernel_lost: counters.kernel_lost,
            spool_bytes: self.recorder.spool_bytes(),
            memory_bytes: resident_bytes(),
            cpu_ms,
            processes_tracked: self.table.live() as u64,
            account: self.recorder.account().lines(),
            cpu_permille: governor.cpu_permille().into(),
            budget_step: governor.rung().step.as_str(),
            shed: governor.rung().described(),
            scans: self.scans.counts().lines(),
            forgotten,
        };
        self.recorder.tell(boot_ns(), &EventBody::AgentHealth(health));
    }
}
