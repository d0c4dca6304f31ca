//! What is unusual: a host's habits in, findings out.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::time::Duration;

use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Severity, Timestamp, Value};
use rule_engine::{AnomalyDetector, AnomalyOptions, AnomalyStateError};
use uuid::Uuid;

const MINUTE: i64 = 60_000_000_000;

fn options(minutes: u64) -> AnomalyOptions {
    AnomalyOptions { learning: Duration::from_secs(minutes * 60), seed: 0x1234_5678_9abc_def0 }
}

fn event(event_type: EventType, minute: i64, fields: Vec<(Field, Value)>) -> EventRecord {
    let header = EventHeader {
        host_id: HostId::from_uuid(Uuid::from_u128(1)),
        boot_id: BootId::from_uuid(Uuid::from_u128(2)),
        sequence: 1,
        observed_at: Timestamp::from_nanos(30_000_000 * MINUTE + minute * MINUTE),
        monotonic_ns: 1,
    };
    EventRecord::from_fields(header, event_type, fields)
}

fn text(field: Field, text: &str) -> (Field, Value) {
    (field, Value::Text(text.to_owned()))
}

fn start(minute: i64, parent: &str, child: &str, hash: &str) -> EventRecord {
    let fields = vec![
        text(Field::ParentExecutable, parent),
        text(Field::ProcessExecutable, child),
        text(Field::ProcessSha256, hash),
    ];
    event(EventType::ProcessStart, minute, fields)
}

fn connect(minute: i64, program: &str, address: &str) -> EventRecord {
    let fields = vec![
        text(Field::ProcessExecutable, program),
        text(Field::DestinationAddress, address),
        (Field::DestinationPort, Value::Integer(443)),
        text(Field::NetworkDirection, "egress"),
    ];
    event(EventType::NetworkConnect, minute, fields)
}

fn ids(detector: &mut AnomalyDetector, event: &EventRecord) -> Vec<String> {
    let found = detector.observe(event);
    for one in &found {
        assert!(one.rule.severity <= Severity::Low && !one.matched[0].is_empty(), "{one:?}");
    }
    found.iter().map(|one| one.rule.id.as_str().trim_start_matches("rampart.anomaly.").to_owned()).collect()
}

/// A host that has learnt for ten minutes that cron starts backup, and backup talks to one address.
fn learnt() -> AnomalyDetector {
    let mut detector = AnomalyDetector::new(options(9));
    for minute in 0..10 {
        assert!(detector.is_learning());
        for _ in 0..3 {
            assert!(ids(&mut detector, &start(minute, "/usr/sbin/cron", "/usr/bin/backup", "aa")).is_empty());
            assert!(ids(&mut detector, &connect(minute, "/usr/bin/backup", "192.0.2.1")).is_empty());
        }
    }
    // The minute that ends the learning.
    assert!(ids(&mut detector, &start(10, "/usr/sbin/cron", "/usr/bin/backup", "aa")).is_empty());
    assert_eq!((detector.is_learning(), detector.counters().findings), (false, 0));
    detector
}

#[test]
fn what_is_usual_is_silent_and_what_is_new_is_told_once() {
    let mut detector = learnt();
    assert!(ids(&mut detector, &start(11, "/usr/sbin/cron", "/usr/bin/backup", "aa")).is_empty());
    let strange = start(11, "/usr/sbin/cron", "/tmp/x", "bb");
    assert_eq!(ids(&mut detector, &strange), ["rare_parent_child", "new_binary"]);
    assert!(ids(&mut detector, &strange).is_empty(), "once");
    // Another path with the same content is no new program; the pair is new.
    assert_eq!(ids(&mut detector, &start(11, "/usr/sbin/cron", "/tmp/y", "bb")), ["rare_parent_child"]);
    // A parent without habits says nothing.
    assert!(ids(&mut detector, &start(11, "/usr/sbin/atd", "/usr/bin/backup", "aa")).is_empty());
    let updated = detector.observe(&start(12, "/usr/sbin/cron", "/usr/bin/backup", "cc"));
    assert_eq!(updated[0].rule.id.as_str(), "rampart.anomaly.changed_binary");
    assert_eq!(updated[0].rule.severity, Severity::Informational);

    assert!(ids(&mut detector, &connect(12, "/usr/bin/backup", "192.0.2.1")).is_empty());
    assert!(ids(&mut detector, &connect(12, "/usr/bin/backup", "127.0.0.1")).is_empty());
    assert_eq!(ids(&mut detector, &connect(12, "/usr/bin/backup", "198.51.100.9")), ["new_destination"]);
    assert!(ids(&mut detector, &connect(12, "/usr/bin/backup", "198.51.100.9")).is_empty());
    // A program that talks to everybody is not told of.
    for nth in 0..60 {
        detector.observe(&connect(13 + nth, "/usr/bin/browser", &format!("203.0.113.{nth}")));
    }
    assert!(ids(&mut detector, &connect(80, "/usr/bin/browser", "203.0.113.200")).is_empty());
}

#[test]
fn a_burst_is_measured_by_what_was_usual() {
    let mut detector = learnt();
    let change =
        |minute| event(EventType::FileModify, minute, vec![text(Field::ProcessExecutable, "/usr/bin/sync")]);
    let mut told = 0;
    // A habit of 500 a minute makes 2,000 the bound.
    for minute in 11..14 {
        (0..500).for_each(|_| told += detector.observe(&change(minute)).len());
    }
    (0..1_999).for_each(|_| told += detector.observe(&change(14)).len());
    assert_eq!(told, 0);
    assert_eq!(ids(&mut detector, &change(14)), ["burst"]);
    (0..5_000).for_each(|_| told += detector.observe(&change(15)).len());
    assert_eq!(told, 0, "not again within the hour");
    let folded = vec![text(Field::ProcessExecutable, "/x/y"), (Field::EventCount, Value::Integer(700))];
    assert_eq!(
        ids(&mut detector, &event(EventType::FileDelete, 15, folded)),
        ["burst"],
        "an event can stand for many"
    );
}

#[test]
fn no_storm_of_findings_and_what_is_withheld_is_counted() {
    let mut detector = learnt();
    let told: usize = (0..50)
        .map(|nth| {
            let event = start(12, &format!("/p/{nth}"), &format!("/new/{nth}"), &format!("h{nth}"));
            detector.observe(&event).len()
        })
        .sum();
    assert_eq!((told, detector.counters().withheld), (10, 40));
    let next_hour = detector.observe(&start(200, "/p/x", "/new/x", "hx"));
    assert_eq!(next_hour[0].matched[1], "40 more of this kind were not told since the last one");
}

#[test]
fn what_was_learnt_outlives_a_restart_and_damage_is_refused() {
    let mut detector = learnt();
    let bytes = detector.to_bytes();
    // The seed of the new run is another: the state's own counts.
    let mut again = AnomalyDetector::restore(AnomalyOptions { seed: 7, ..options(9) }, &bytes).unwrap();
    assert!(!again.is_learning());
    for event in [
        start(11, "/usr/sbin/cron", "/usr/bin/backup", "aa"),
        connect(11, "/usr/bin/backup", "192.0.2.1"),
        start(11, "/usr/sbin/cron", "/tmp/x", "bb"),
        connect(11, "/usr/bin/backup", "198.51.100.9"),
    ] {
        assert_eq!(ids(&mut again, &event), ids(&mut detector, &event));
    }
    for end in 0..bytes.len() {
        assert!(AnomalyDetector::restore(options(9), &bytes[..end]).is_err(), "cut at {end}");
    }
    let mut more = bytes.clone();
    more.push(0);
    assert_eq!(
        AnomalyDetector::restore(options(9), &more).unwrap_err(),
        AnomalyStateError::Malformed(bytes.len())
    );
    assert_eq!(AnomalyDetector::restore(options(9), &[9]).unwrap_err(), AnomalyStateError::Version(9));
    let mut huge = bytes[..17].to_vec();
    huge.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(AnomalyDetector::restore(options(9), &huge).is_err(), "no memory for a count that can't be");
}

#[test]
fn memory_and_state_are_bounded() {
    let mut detector = AnomalyDetector::new(options(0));
    for nth in 0..60_000 {
        detector.observe(&start(nth / 100, &format!("/p/{nth}"), &format!("/c/{nth}"), &format!("h{nth}")));
        detector.observe(&connect(nth / 100, &format!("/c/{nth}"), &format!("2001:db8::{nth:x}")));
    }
    let counters = detector.counters();
    assert!(counters.entries <= 47_104 && counters.evicted > 100_000, "{counters:?}");
    assert!(detector.to_bytes().len() < 1 << 20, "{}", detector.to_bytes().len());
}
