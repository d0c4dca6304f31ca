//! Replayed observations in, records out.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

mod backlog;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::clock::WallClock;
use agent::governor::{Budget, Governor};
use agent::indicator_book::IndicatorBook;
use agent::judge::Judge;
use agent::options::OutputTarget;
use agent::output::Output;
use agent::pipeline::{self, Before, Parts, Stop};
use agent::process_table::ProcessTable;
use agent::recorder::{Recorder, Resume};
use agent::rules::RuleBook;
use agent::run_state::Caution;
use event_model::{BootId, EventType, Field, GapReason, HostId, Timestamp, Value};
use sensor_api::{
    Actor, Observation, ObservedActivity, ObservedExit, ObservedFork, ObservedImage, ObservedLoss,
    ProcessKey, ReplaySensor, Sensor, observation_queue,
};
use serde_json::Value as Json;
use uuid::Uuid;

const HOST: HostId = HostId::from_uuid(Uuid::from_u128(1));
const BOOT: BootId = BootId::from_uuid(Uuid::from_u128(0x1a2b_3c4d << 96));
const SHELL: ProcessKey = ProcessKey { pid: 4_100_010, start_ns: 1 };

fn key(pid: u32, start_ns: u64) -> ProcessKey {
    ProcessKey { pid: 4_100_000 + pid, start_ns }
}

fn image(key: ProcessKey, parent: ProcessKey, args: &[&str]) -> Box<ObservedImage> {
    Box::new(ObservedImage {
        pid: key.pid,
        start_ns: key.start_ns,
        parent_pid: parent.pid,
        parent_start_ns: parent.start_ns,
        executable: args[0].to_owned(),
        args: args.iter().map(|&argument| argument.to_owned()).collect(),
        ..ObservedImage::default()
    })
}

fn fork(child: ProcessKey, parent: ProcessKey) -> Observation {
    Observation::ProcessForked(ObservedFork { child, parent })
}

fn exec(key: ProcessKey, parent: ProcessKey, args: &[&str]) -> Observation {
    Observation::ProcessExecuted(image(key, parent, args))
}

fn exit(process: ProcessKey, wait_status: u32) -> Observation {
    Observation::ProcessExited(ObservedExit { process, wait_status: Some(wait_status) })
}

/// Runs the pipeline over the observations, each a microsecond after the one before, and gives what it wrote.
fn replay(observations: Vec<Observation>, rules: &[&str], before: Option<Before>) -> Vec<Json> {
    replay_with(observations, rules, before, Arc::default())
}

fn replay_with(
    observations: Vec<Observation>,
    rules: &[&str],
    before: Option<Before>,
    indicators: Arc<IndicatorBook>,
) -> Vec<Json> {
    run_over(Box::new(sensor_of(observations)), 5, rules, before, indicators)
}

/// Each observation a microsecond after the one before; the shell is there already.
fn sensor_of(observations: Vec<Observation>) -> ReplaySensor {
    let shell = Observation::ProcessExisting(image(SHELL, key(1, 0), &["/bin/sh", "-i"]));
    let all = [shell].into_iter().chain(observations);
    ReplaySensor::new(7, all.enumerate().map(|(at, what)| (1_000 + at as u64 * 1_000, what)))
}

/// Makes so many rounds at least.
fn run_over(
    sensor: Box<dyn Sensor>,
    least_rounds: u64,
    rules: &[&str],
    before: Option<Before>,
    indicators: Arc<IndicatorBook>,
) -> Vec<Json> {
    let dir = tempfile::tempdir().unwrap();
    for (number, rule) in rules.iter().enumerate() {
        fs::write(dir.path().join(format!("{number}.json")), rule).unwrap();
    }
    let output_path = dir.path().join("out.ndjson");
    let clock = Arc::new(WallClock::new());
    let output = Output::open(&OutputTarget::File(output_path.clone()), "testhost".into()).unwrap();
    let rounds = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&clock);
    let parts = Parts {
        judge: Judge::new(sensor.process_clock(), Arc::new(move || now.now()), Caution::Normal).unwrap(),
        sensor,
        queue: observation_queue(1).1,
        content: sensor_linux::ContentFeed::default(),
        scans: agent::scanner::ScanFeed::default(),
        denials: agent::gate::DenialFeed::default(),
        boot_id: BOOT,
        clock: Arc::clone(&clock),
        table: ProcessTable::default(),
        recorder: Recorder::new(HOST, BOOT, clock, Resume::default(), None, Some(output)),
        rules: Arc::new(RuleBook::open(Some(dir.path().to_owned()))),
        indicators,
        blocked_hashes: HashSet::new(),
        before,
        governor: Governor::new(Budget::default()),
        config_hash: "0".into(),
        previous_end: "first_start",
        sources: Vec::new(),
        previous_cause: None,
        rounds: Arc::clone(&rounds),
    };
    let stop = Arc::new(Stop::default());
    let asked = Arc::clone(&stop);
    let thread = std::thread::spawn(move || pipeline::run(parts, &asked).unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    while rounds.load(Ordering::Relaxed) < least_rounds && Instant::now() < deadline {
        std::thread::yield_now();
    }
    stop.ask(15);
    thread.join().unwrap();
    read(&output_path)
}

fn read(path: &Path) -> Vec<Json> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn event_type(record: &Json) -> &str {
    record["rampart"]["event"]["type"].as_str().unwrap()
}

/// Type, action and executable of each record about a process.
fn told(records: &[Json]) -> Vec<String> {
    let of_processes = records.iter().filter(|record| record["process"]["pid"].is_u64());
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    of_processes
        .map(|record| {
            let action = text(&record["event"]["action"]);
            format!("{} {action} {}", event_type(record), text(&record["process"]["executable"]))
        })
        .collect()
}

#[test]
fn lives_of_processes_become_events_in_the_kernels_order() {
    let (ls, sub, again) = (key(11, 5), key(12, 6), key(11, 50));
    let records = replay(
        vec![
            fork(ls, SHELL),
            exec(ls, SHELL, &["/bin/ls", "-l", "/tmp"]),
            fork(sub, SHELL),
            exit(ls, 2 << 8),
            exit(sub, 9),
            // The PID comes again, and its parent is the subshell that has ended.
            fork(again, sub),
            exec(again, sub, &["/bin/cat"]),
        ],
        &[],
        None,
    );
    assert_eq!(
        told(&records),
        [
            "process_start exec /bin/ls",
            "process_exit - /bin/ls",
            "process_start fork /bin/sh",
            "process_exit - /bin/sh",
            "process_start exec /bin/cat",
        ]
    );
    let first = records.iter().find(|record| event_type(record) == "process_start").unwrap();
    assert_eq!(first["process"]["command_line"], "/bin/ls -l /tmp");
    assert_eq!(first["process"]["parent"]["command_line"], "/bin/sh -i");
    let exits: Vec<&Json> = records.iter().filter(|record| event_type(record) == "process_exit").collect();
    assert_eq!(exits[0]["process"]["exit_code"], 2);
    assert_eq!(exits[1]["rampart"]["process"]["exit_signal"], 9);
    let last = records.iter().rev().find(|record| event_type(record) == "process_start").unwrap();
    assert_eq!(last["process"]["entity_id"], "1a2b3c4d-4100011-50");
    assert_eq!(last["process"]["parent"]["entity_id"], "1a2b3c4d-4100012-6", "an ended parent is found");
    let sequences: Vec<u64> =
        records.iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=records.len() as u64).collect::<Vec<_>>());
    assert_eq!((event_type(&records[0]), event_type(records.last().unwrap())), ("agent_start", "agent_stop"));
}

#[test]
fn an_end_that_nobody_could_ask_about_has_no_exit_code() {
    let child = key(31, 700);
    let end = Observation::ProcessExited(ObservedExit { process: child, wait_status: None });
    let records = replay(vec![fork(child, SHELL), exec(child, SHELL, &["/bin/x"]), end], &[], None);
    let exits: Vec<&Json> = records.iter().filter(|record| event_type(record) == "process_exit").collect();
    let [exit] = exits.as_slice() else { panic!("{records:#?}") };
    assert_eq!(exit["process"]["exit_code"], Json::Null, "{exit}");
    assert_eq!(exit["process"]["executable"], "/bin/x");
}

#[test]
fn a_rule_that_matches_everything_is_told_of_and_does_not_drown_the_rest() {
    let rule = |id: &str, condition: &str| {
        format!(
            r#"{{"id": "{id}", "name": "n", "description": "d", "type": "process", "severity": "low", "enabled": true,
                "conditions": ["{condition}"], "actions": ["alert"]}}"#
        )
    };
    let (all, one) = (rule("all", "pid > 0"), rule("one", "cmdline contains 'needle'"));
    let lives = (0..1_500).flat_map(|nth| {
        let process = key(100 + nth, 10 + u64::from(nth));
        let word = if nth == 1_400 { "needle" } else { "hay" };
        [fork(process, SHELL), exec(process, SHELL, &["/bin/busy", word]), exit(process, 0)]
    });
    let records = replay(lives.collect(), &[&all, &one], None);
    let of = |id: &str| records.iter().filter(|record| record["rule"]["id"] == id).count();
    let starts = records.iter().filter(|record| event_type(record) == "process_start").count();
    assert!(starts >= 1_500, "every event is there: {starts}");
    assert_eq!((of("all"), of("one")), (1_000, 1));
    let gap = records.iter().find(|record| record["rampart"]["gap"]["reason"] == "flood").expect("a gap");
    assert_eq!(gap["rampart"]["gap"]["what"], "detection");
    let withheld = gap["rampart"]["gap"]["count"].as_u64().unwrap();
    assert!((500..=600).contains(&withheld), "and so much was withheld: {withheld}");
}

#[test]
fn the_first_process_of_a_container_is_told_and_no_other() {
    let id = "c".repeat(64);
    let in_container = |observation: Observation| match observation {
        Observation::ProcessExecuted(image) => {
            let cgroup_path = Some(format!("/system.slice/docker-{id}.scope"));
            Observation::ProcessExecuted(Box::new(ObservedImage { cgroup_path, ..*image }))
        }
        other => other,
    };
    let (first, child, other) = (key(11, 5), key(12, 6), key(13, 7));
    let records = replay(
        vec![
            fork(first, SHELL),
            in_container(exec(first, SHELL, &["/bin/init"])),
            fork(child, first),
            in_container(exec(child, first, &["/bin/worker"])),
            fork(other, SHELL),
            in_container(exec(other, SHELL, &["/bin/debug"])),
        ],
        &[],
        None,
    );
    let starts: Vec<&Json> =
        records.iter().filter(|record| event_type(record) == "container_start").collect();
    assert_eq!(starts.len(), 1, "{starts:#?}");
    assert_eq!(starts[0]["container"]["id"], id.as_str());
    assert_eq!(starts[0]["container"]["runtime"], "docker");
    assert_eq!(starts[0]["process"]["executable"], "/bin/init");
    let of_processes = records.iter().filter(|record| event_type(record) == "process_start");
    assert!(of_processes.clone().all(|record| record["container"]["runtime"] == "docker"));
    assert_eq!(of_processes.count(), 3);
}

#[test]
fn a_match_carries_its_ancestry_and_an_action_that_comes_too_late_says_so() {
    let rule = r#"{"id": 7, "name": "n", "description": "d", "type": "process", "severity": "high", "enabled": true,
        "mode": "auto", "match": "all", "attack": ["T1059.004"],
        "conditions": ["name = 'nc'", "parent = 'sh'"], "actions": ["alert", "terminate_process"]}"#;
    let nc = key(11, 5);
    let records = replay(vec![fork(nc, SHELL), exec(nc, SHELL, &["/bin/nc", "-l"])], &[rule], None);
    let alert = records.iter().find(|record| record["event"]["kind"] == "alert").unwrap();
    let ancestry = alert["rampart"]["detection"]["ancestry"].as_array().unwrap();
    let executables: Vec<&str> = ancestry.iter().map(|one| one["executable"].as_str().unwrap()).collect();
    assert_eq!(executables, ["/bin/nc", "/bin/sh"]);
    assert_eq!(alert["rampart"]["detection"]["matched"].as_array().unwrap().len(), 2);
    let receipt = records.iter().find(|record| event_type(record) == "response").unwrap();
    assert_eq!(receipt["rampart"]["response"]["state"], "failed");
    assert!(receipt["rampart"]["response"]["reason"].as_str().unwrap().contains("ended"), "{receipt}");
}

#[test]
fn shadow_says_what_it_would_do_and_what_is_not_there_yet_is_refused() {
    let rule = |id: u32, mode: &str, action: &str| {
        format!(
            r#"{{"id": {id}, "name": "n", "description": "d", "type": "process", "severity": "low", "enabled": true,
            "mode": "{mode}", "conditions": ["name = 'nc'"], "actions": ["{action}"]}}"#
        )
    };
    let (shadow, tree) = (rule(1, "shadow", "terminate_process"), rule(2, "auto", "kill_tree"));
    let nc = key(11, 5);
    let records = replay(vec![exec(nc, SHELL, &["/bin/nc"])], &[&shadow, &tree], None);
    let receipts = records.iter().filter(|record| event_type(record) == "response");
    let reasons: Vec<&str> =
        receipts.map(|record| record["rampart"]["response"]["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("would send SIGTERM"), "{reasons:?}");
    assert!(reasons[1].contains("`kill_tree` is not available"), "{reasons:?}");
}

#[test]
fn every_kind_of_loss_becomes_a_gap() {
    let loss = ObservedLoss {
        reason: GapReason::KernelRingFull,
        what: "process_start",
        count: Some(41),
        from_ns: 10,
        until_ns: 20,
    };
    let before = Before { stream: Some(6), until: Timestamp::from_nanos(1) };
    let child = key(11, 5);
    let seen = vec![Observation::Lost(loss), fork(child, SHELL), exit(child, 0)];
    let records = replay(seen, &[], Some(before));
    let gaps: Vec<(String, Option<u64>)> = records
        .iter()
        .filter(|record| event_type(record) == "gap")
        .map(|record| {
            let gap = &record["rampart"]["gap"];
            (gap["reason"].as_str().unwrap().to_owned(), gap["count"].as_u64())
        })
        .collect();
    assert!(gaps.contains(&("kernel_ring_full".into(), Some(41))), "{gaps:?}");
    assert!(gaps.contains(&("agent_down".into(), None)), "another stream: nothing kept watch: {gaps:?}");
    assert_eq!(gaps.len(), 2);

    let same = Before { stream: Some(7), until: Timestamp::from_nanos(1) };
    let records = replay(vec![fork(child, SHELL), exit(child, 0)], &[], Some(same));
    assert!(
        !records.iter().any(|record| event_type(record) == "gap"),
        "the same stream went on: nothing is lost"
    );
}

#[test]
fn what_a_process_does_carries_who_and_to_whom_and_is_judged() {
    let (client, victim) = (key(2, 10), key(3, 20));
    let rule = r#"{"id": 9, "name": "port", "description": "", "type": "network", "severity": "low", "enabled": true,
        "match": "all", "conditions": ["remote_port = 4444", "process.name = 'nc'"], "actions": ["alert"]}"#;
    let connect = ObservedActivity {
        event_type: EventType::NetworkConnect,
        actor: Some(Actor::Life(client)),
        target: None,
        fields: vec![
            (Field::DestinationPort, Value::Integer(4444)),
            (Field::DestinationAddress, Value::Text("192.0.2.1".into())),
        ],
    };
    let access = ObservedActivity {
        event_type: EventType::ProcessAccess,
        actor: Some(Actor::Pid(client.pid)),
        target: Some(Actor::Life(victim)),
        fields: vec![(Field::AccessMethod, Value::Text("ptrace".into()))],
    };
    let stranger = ObservedActivity { actor: Some(Actor::Pid(4_194_000)), target: None, ..access.clone() };
    let records = replay(
        vec![
            exec(client, SHELL, &["/usr/bin/nc", "192.0.2.1"]),
            exec(victim, SHELL, &["/usr/bin/victim"]),
            Observation::Activity(Box::new(connect)),
            Observation::Activity(Box::new(access)),
            Observation::Activity(Box::new(stranger)),
        ],
        &[rule],
        None,
    );
    let of_type = |wanted: &str| -> Vec<&Json> {
        records.iter().filter(|record| event_type(record) == wanted).collect()
    };
    let connects = of_type("network_connect");
    assert_eq!(connects.len(), 1);
    assert_eq!(connects[0]["process"]["executable"], "/usr/bin/nc");
    assert_eq!(connects[0]["process"]["parent"]["name"], "sh");
    assert_eq!(connects[0]["destination"]["port"], 4444);
    let accesses = of_type("process_access");
    assert_eq!(accesses[0]["process"]["name"], "nc");
    assert_eq!(accesses[0]["rampart"]["target"]["executable"], "/usr/bin/victim");
    assert_eq!(accesses[1]["process"]["pid"], 4_194_000, "who is not known is at least a PID");
    let detections = of_type("detection");
    assert_eq!(detections.len(), 1);
    assert_eq!(detections[0]["rule"]["id"], "9");
    assert_eq!(detections[0]["rampart"]["detection"]["ancestry"][1]["executable"], "/bin/sh");
}

/// Runs the pipeline over what was observed, with these files of indicators.
fn replay_with_indicators(observations: Vec<Observation>, files: &[(&str, &str)]) -> Vec<Json> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("indicators");
    fs::create_dir(&folder).unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    let book = IndicatorBook::open(Some(dir.path()), &dir.path().join("state"));
    assert!(book.active().errors.is_empty(), "{:?}", book.active().errors);
    replay_with(observations, &[], None, Arc::new(book))
}

/// Rule id and matched lines of each detection.
fn detections(records: &[Json]) -> Vec<(String, Vec<String>)> {
    let detections = records.iter().filter(|record| event_type(record) == "detection");
    let texts = |lines: &Json| -> Vec<String> {
        lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    };
    detections
        .map(|record| {
            let matched = texts(&record["rampart"]["detection"]["matched"]);
            (record["rule"]["id"].as_str().unwrap().to_owned(), matched)
        })
        .collect()
}

fn did(actor: ProcessKey, event_type: EventType, fields: &[(Field, &str)]) -> Observation {
    let fields = fields.iter().map(|(field, text)| (*field, Value::Text((*text).to_owned()))).collect();
    let actor = Some(Actor::Life(actor));
    Observation::Activity(Box::new(ObservedActivity { event_type, actor, target: None, fields }))
}

#[test]
fn what_an_event_tells_is_looked_up_among_the_indicators_of_every_kind() {
    let client = key(2, 10);
    let connect = |address| did(client, EventType::NetworkConnect, &[(Field::DestinationAddress, address)]);
    let answers = Observation::Activity(Box::new(ObservedActivity {
        event_type: EventType::DnsQuery,
        actor: Some(Actor::Life(client)),
        target: None,
        fields: vec![
            (Field::DnsName, Value::Text("harmless.example".to_owned())),
            (Field::DnsAnswers, Value::TextList(vec!["cdn.evil.example".into(), "203.0.113.9".into()])),
        ],
    }));
    let seen = vec![
        exec(client, SHELL, &["/usr/bin/curl", "-o", "x", "https://shop.example/payload?v=2"]),
        connect("203.0.113.77"),
        connect("198.51.100.9"),
        did(client, EventType::DnsQuery, &[(Field::DnsName, "a.b.evil.example")]),
        did(client, EventType::DnsQuery, &[(Field::DnsName, "notevil.example")]),
        answers,
        did(client, EventType::FileCreate, &[(Field::FilePath, "/tmp/.x/run")]),
        did(client, EventType::FileModify, &[(Field::FileSha256, &"ab".repeat(32))]),
        did(client, EventType::NetworkConnect, &[(Field::DestinationAddress, "192.0.2.66")]),
    ];
    let csv = "value,severity,confidence,description,expires\n\
        203.0.113.0/24,high,90,command and control,2100-01-01T00:00:00Z\n\
        192.0.2.66,high,90,was bad once,2020-01-01T00:00:00Z\n";
    let stix = r#"{"type": "bundle", "id": "bundle--5d0092c5-5f74-4287-9642-33f4c354e56d", "objects": [{
        "type": "indicator", "spec_version": "2.1", "id": "indicator--5d0092c5-5f74-4287-9642-33f4c354e56d",
        "created": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z", "pattern_type": "stix",
        "pattern": "[domain-name:value = 'evil.example']", "valid_from": "2026-01-01T00:00:00Z"}]}"#;
    let misp = r#"{"Event": {"info": "campaign", "Attribute": [
        {"type": "url", "category": "Network activity", "value": "https://shop.example/payload?v=2", "to_ids": true}]}}"#;
    let list = format!("/tmp/.x/run\n{}\n", "ab".repeat(32));
    let files = [("feed.csv", csv), ("cti.json", stix), ("misp.json", misp), ("list.txt", list.as_str())];
    let records = replay_with_indicators(seen, &files);
    let found = detections(&records);
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    let sha256 = format!("indicator.sha256.{}", "ab".repeat(32));
    assert_eq!(
        ids,
        [
            "indicator.url.shop.example/payload?v=2",
            "indicator.ip.203.0.113.0/24",
            "indicator.domain.evil.example",
            "indicator.domain.evil.example",
            "indicator.ip.203.0.113.0/24",
            "indicator.path./tmp/.x/run",
            sha256.as_str(),
        ],
        "{found:#?}"
    );
    assert_eq!(
        found[1].1,
        ["destination.ip = 203.0.113.77 (indicator ip 203.0.113.0/24, source feed, confidence 90)"]
    );
    let alert = records.iter().find(|record| record["rule"]["id"] == ids[1]).unwrap();
    assert_eq!(alert["rampart"]["rule"]["severity"], "high");
    assert_eq!(alert["rampart"]["detection"]["ancestry"][0]["executable"], "/usr/bin/curl");
    assert!(alert["rule"]["description"].as_str().unwrap().starts_with("command and control"), "{alert}");
}
