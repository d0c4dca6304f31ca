//! What is left out when the budget is short, and the account of it. Nothing here depends on how
//! fast the machine is: the limit is so low that any work is too much.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use agent::clock::{WallClock, boot_ns};
use agent::governor::{Budget, Gauge, Governor, RUNGS};
use agent::judge::Judge;
use agent::options::OutputTarget;
use agent::output::Output;
use agent::pipeline::{self, Parts, Stop};
use agent::process_table::ProcessTable;
use agent::recorder::{Recorder, Resume};
use agent::rules::RuleBook;
use agent::run_state::Caution;
use event_model::{BootId, EventType, Field, HostId, Value};
use sensor_api::{Actor, ObservationSender, ObservedActivity, ReplaySensor, Sensor as _, observation_queue};
use serde_json::Value as Json;
use uuid::Uuid;

const TYPES: [EventType; 4] =
    [EventType::FileModify, EventType::FileCreate, EventType::NetworkConnect, EventType::Persistence];

fn activity(event_type: EventType, path: String) -> ObservedActivity {
    let fields = vec![(Field::FilePath, Value::Text(path))];
    ObservedActivity { event_type, actor: Some(Actor::Pid(4_194_000)), target: None, fields }
}

/// Acts that are all alike and acts that are not, until the governor has climbed to that rung; how many of each type.
fn act_until(rung: u8, sender: &ObservationSender, gauge: &Gauge) -> BTreeMap<String, u64> {
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut number = 0_u64;
    while gauge.rung() < rung {
        assert!(Instant::now() < deadline, "never climbed beyond rung {}", gauge.rung());
        for event_type in TYPES {
            // What is protected may not be lost: a little of it.
            let acts = if event_type == EventType::Persistence { 1 } else { 40 };
            for one in 0..acts {
                number += 1;
                let path = if one % 4 == 0 { format!("/tmp/{number}") } else { "/tmp/same".to_owned() };
                sender.send(boot_ns(), activity(event_type, path));
                *sent.entry(event_type.to_string()).or_default() += 1;
            }
        }
        test_support::pause(Duration::from_millis(1));
    }
    sent
}

#[test]
fn classes_are_shed_in_order_and_every_act_is_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let output_path = dir.path().join("out.ndjson");
    let boot = BootId::from_uuid(Uuid::from_u128(7));
    let clock = Arc::new(WallClock::new());
    let output = Output::open(&OutputTarget::File(output_path.clone()), "testhost".into()).unwrap();
    let (sender, queue) = observation_queue(1 << 20);
    let governor = Governor::new(Budget { cpu_permille: Some(1), memory_bytes: None });
    let gauge = governor.gauge();
    let sensor = Box::new(ReplaySensor::new(7, []));
    let now = Arc::clone(&clock);
    let parts = Parts {
        indicators: Arc::default(),
        blocked_hashes: std::collections::HashSet::new(),
        content: sensor_linux::ContentFeed::default(),
        scans: agent::scanner::ScanFeed::default(),
        denials: agent::gate::DenialFeed::default(),
        sources: Vec::new(),
        judge: Judge::new(sensor.process_clock(), Arc::new(move || now.now()), Caution::Normal).unwrap(),
        sensor,
        queue,
        boot_id: boot,
        clock: Arc::clone(&clock),
        table: ProcessTable::default(),
        recorder: Recorder::new(
            HostId::from_uuid(Uuid::from_u128(1)),
            boot,
            clock,
            Resume::default(),
            None,
            Some(output),
        ),
        rules: Arc::new(RuleBook::open(None)),
        before: None,
        governor,
        config_hash: "0".into(),
        previous_end: "first_start",
        previous_cause: None,
        rounds: Arc::new(AtomicU64::new(0)),
    };
    let stop = Arc::new(Stop::default());
    let asked = Arc::clone(&stop);
    let thread = std::thread::spawn(move || pipeline::run(parts, &asked).unwrap());
    let sent = act_until(RUNGS[RUNGS.len() - 1].number, &sender, &gauge);
    stop.ask(15);
    thread.join().unwrap();

    let text = fs::read_to_string(&output_path).unwrap();
    let records: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mut told, mut merged) = (BTreeMap::<String, u64>::new(), 0);
    let mut first_left_out: BTreeMap<String, String> = BTreeMap::new();
    for record in &records {
        let event_type = record["rampart"]["event"]["type"].as_str().unwrap();
        if event_type == "gap" {
            let gap = &record["rampart"]["gap"];
            assert_eq!(gap["reason"], "budget", "{gap}");
            let what = gap["what"].as_str().unwrap().to_owned();
            *told.entry(what.clone()).or_default() += gap["count"].as_u64().unwrap();
            let from = gap["from"].as_str().unwrap().to_owned();
            let first = first_left_out.entry(what).or_insert_with(|| from.clone());
            *first = from.min(first.clone());
        } else if sent.contains_key(event_type) {
            let count = record["rampart"]["event"]["count"].as_u64();
            merged += u64::from(count.is_some());
            assert_eq!(count.is_some(), record["event"]["end"].is_string(), "{record}");
            *told.entry(event_type.to_owned()).or_default() += count.unwrap_or(1);
        }
    }
    assert_eq!(told, sent, "acts in records and in gaps");
    assert!(merged > 0, "like acts are merged");
    let order: Vec<&String> = ["file_modify", "file_create", "network_connect"]
        .iter()
        .map(|what| first_left_out.get(*what).unwrap())
        .collect();
    assert!(order.is_sorted(), "bulk, then files, then network: {first_left_out:?}");
    assert_eq!(first_left_out.len(), 3, "what is protected is never left out: {first_left_out:?}");

    let health = records.iter().rev().find(|record| record["rampart"]["event"]["type"] == "agent_health");
    if let Some(health) = health {
        assert!(health["rampart"]["agent"]["cpu_permille"].is_u64(), "{health}");
    }
}
