//! What behaviours and habits cost for each process start: `cargo run --release -p rule-engine --example behaviour_cost`.

use std::time::Duration;

use event_model::{
    BootId, EventHeader, EventRecord, EventType, Field, FieldSource, HostId, ProcessEntityId, Timestamp,
    Value, ValueRef,
};
use rule_engine::{
    AnomalyDetector, AnomalyOptions, BehaviourEngine, BehaviourSet, CompileOptions, Phase, RuleSet,
};
use uuid::Uuid;

const STARTS: u32 = 200_000;

fn start(number: u32, name: &str) -> EventRecord {
    let header = EventHeader {
        host_id: HostId::from_uuid(Uuid::from_u128(1)),
        boot_id: BootId::from_uuid(Uuid::from_u128(2)),
        sequence: u64::from(number),
        observed_at: Timestamp::from_nanos(1_800_000_000_000_000_000 + i64::from(number) * 1_000_000),
        monotonic_ns: u64::from(number),
    };
    let text = |text: String| Value::Text(text);
    let fields = vec![
        (Field::ProcessEntityId, text(format!("00000000-{}-1", number + 100))),
        (Field::ParentEntityId, text(format!("00000000-{}-1", 10 + number % 50))),
        (Field::ProcessExecutable, text(format!("/usr/bin/{name}"))),
        (Field::ProcessName, text(name.to_owned())),
        (Field::ProcessCommandLine, text(format!("{name} --of-some-length /srv/data/{}", number % 1_000))),
        (Field::ParentExecutable, text("/usr/bin/bash".to_owned())),
        (Field::ParentName, text("bash".to_owned())),
        (Field::EventAction, text("exec".to_owned())),
    ];
    EventRecord::from_fields(header, EventType::ProcessStart, fields)
}

/// As the agent judges it: it has the ids of processes as such.
struct Start(EventRecord, u32);

impl FieldSource for Start {
    fn event_type(&self) -> EventType {
        self.0.event_type
    }

    fn observed_at(&self) -> Timestamp {
        self.0.observed_at()
    }

    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        self.0.value(field)
    }

    fn entity(&self, field: Field) -> Option<ProcessEntityId> {
        let pid = match field {
            Field::ProcessEntityId => self.1 + 100,
            Field::ParentEntityId => 10 + self.1 % 50,
            _ => return None,
        };
        Some(ProcessEntityId::new(self.0.header.boot_id, pid, 1))
    }
}

/// CPU time of this thread in nanoseconds; other work on the machine does not count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// CPU nanoseconds for each of the events; making them is not counted.
fn timed(what: &str, name: &str, mut judge: impl FnMut(&Start)) {
    let mut spent = 0;
    for first in (0..STARTS).step_by(1_000) {
        let events = (first..first + 1_000).map(|number| Start(start(number, name), number));
        let events: Vec<Start> = events.collect();
        let begun = cpu_ns();
        events.iter().for_each(&mut judge);
        spent += cpu_ns().saturating_sub(begun);
    }
    println!("{what}: {:.0} ns for each start", spent as f64 / f64::from(STARTS));
}

fn main() {
    let live_product = Some("linux".to_owned());
    let options =
        CompileOptions { live_product, behaviours: BehaviourSet::built_in(), ..CompileOptions::default() };
    let rules = RuleSet::compile_with([], options).rules;
    println!("{} behaviours and sequences", rules.behaviours().len());
    timed("behaviours, judged only", "cat", |event| {
        std::hint::black_box(rules.verdicts(event, Phase::All));
    });
    let mut engine = BehaviourEngine::new(rules.behaviours().clone());
    timed("behaviours, nothing seen", "cat", |event| {
        engine.observe(event, Phase::All, &rules.verdicts(event, Phase::All));
    });
    let mut engine = BehaviourEngine::new(rules.behaviours().clone());
    timed("behaviours, each start is one", "whoami", |event| {
        engine.observe(event, Phase::All, &rules.verdicts(event, Phase::All));
    });
    println!("{:?}", engine.counters());
    let options = AnomalyOptions { learning: Duration::from_secs(7 * 86_400), seed: 1 };
    let mut detector = AnomalyDetector::new(options);
    timed("habits", "cat", |event| {
        detector.observe(event);
    });
}
