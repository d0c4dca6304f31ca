//! Behaviour files: what was read is compiled and watches a process tree.

#![no_main]

use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Timestamp, Value};
use libfuzzer_sys::fuzz_target;
use rule_engine::{BehaviourEngine, BehaviourSet, CompileOptions, Phase, RuleSet, parse_behaviours};

fuzz_target!(|text: &str| {
    let (file, diagnostics) = parse_behaviours("fuzz.behaviour.json", text);
    for diagnostic in &diagnostics {
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1 && !diagnostic.reason.is_empty());
        assert!(!diagnostic.render(text).is_empty());
    }
    let _ = BehaviourSet::heads([file.clone()]);
    let options = CompileOptions { behaviours: vec![file], ..CompileOptions::default() };
    let rules = RuleSet::compile_with([], options).rules;
    let mut engine = BehaviourEngine::new(rules.behaviours().clone());
    for (nth, name) in ["sh", "curl", "a", "b", "sh"].into_iter().enumerate() {
        let header = EventHeader {
            host_id: HostId::from_uuid(uuid::Uuid::nil()),
            boot_id: BootId::from_uuid(uuid::Uuid::nil()),
            sequence: 1,
            observed_at: Timestamp::from_nanos(i64::try_from(nth).unwrap_or(0) * 1_000_000_000),
            monotonic_ns: 1,
        };
        let fields = [
            (Field::ProcessEntityId, format!("00000000-{}-1", nth / 2 + 2)),
            (Field::ParentEntityId, "00000000-1-1".to_owned()),
            (Field::ProcessName, name.to_owned()),
            (Field::ProcessExecutable, format!("/bin/{name}")),
        ];
        let fields = fields.map(|(field, text)| (field, Value::Text(text))).to_vec();
        let event = EventRecord::from_fields(header, EventType::ProcessStart, fields);
        for found in engine.observe(&event, Phase::All, &rules.verdicts(&event, Phase::All)) {
            assert!(!found.matched.is_empty());
        }
    }
});
