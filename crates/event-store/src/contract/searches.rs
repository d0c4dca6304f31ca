//! Searching, counting, looking up.

use std::path::Path;
use std::time::Duration;

use event_model::{EventId, EventRecord, EventType, Field, ProcessEntityId, Timestamp, Value};

use super::{NOON, Open, after_noon, batch, batch_of, boot, gap, header, host, process_start, search_all};
use crate::{EventQuery, EventStore, GapQuery, Predicate};

const SECOND: i64 = 1_000_000_000;

/// Events of three hosts whose times interleave, some of them equal, some late.
fn mixed(store: &dyn EventStore) -> Vec<EventRecord> {
    let mut all = Vec::new();
    for number in 1..=3_u64 {
        for batch in 0..4 {
            let events: Vec<_> = (batch * 25 + 1..=(batch + 1) * 25)
                .map(|sequence| {
                    let late = if sequence % 10 == 0 { -40 * SECOND } else { 0 };
                    let nanos = sequence as i64 * SECOND + (number as i64 % 2) * 7 + late;
                    let command =
                        ["sleep 1", "bash -c 'id'", "CURL https://x", "sleep 100%_"][sequence as usize % 4];
                    if sequence % 13 == 0 {
                        gap(host(number.into()), boot(1), sequence, nanos, "kernel_ring_full", Some(2))
                    } else {
                        process_start(host(number.into()), boot(1), sequence, nanos, command)
                    }
                })
                .collect();
            store.append(&batch_of(events.clone())).expect("stored");
            all.extend(events);
        }
    }
    // As the store orders them: newest first; of one moment, the one stored last first.
    all.reverse();
    all.sort_by_key(|event| std::cmp::Reverse(event.header.observed_at));
    all
}

pub(super) fn pages_are_newest_first(place: &Path, open: Open<'_>) {
    let store = open(place);
    let all = mixed(&*store);
    let base = EventQuery::newest(7);
    let queries = [
        ("all hosts", base.clone()),
        ("one host", EventQuery { host: Some(host(2)), ..base.clone() }),
        ("a host that never was", EventQuery { host: Some(host(9)), ..base.clone() }),
        ("one type", EventQuery { event_types: vec![EventType::Gap], ..base.clone() }),
        (
            "a span",
            EventQuery {
                from: Some(after_noon(20 * SECOND)),
                until: Some(after_noon(60 * SECOND)),
                ..base.clone()
            },
        ),
        (
            "an empty span",
            EventQuery { from: Some(after_noon(5)), until: Some(after_noon(5)), ..base.clone() },
        ),
        ("one at a time", EventQuery { limit: 1, ..base.clone() }),
        ("all at once", EventQuery { limit: 1_000, ..base.clone() }),
    ];
    for (what, query) in queries {
        let expected: Vec<_> = all.iter().filter(|event| query.matches(event)).cloned().collect();
        let found = search_all(&*store, &query);
        assert_eq!(found.len(), expected.len(), "{what}");
        assert_eq!(found, expected, "{what}");
    }
    let exact = store.search(&EventQuery { limit: all.len(), ..base }).expect("a search");
    assert_eq!(exact.next, None, "a page that ends with the last event says so");
}

pub(super) fn a_cursor_stays_good(place: &Path, open: Open<'_>) {
    let store = open(place);
    store.append(&batch(host(1), boot(1), 1, 20)).expect("stored");
    let mut query = EventQuery::newest(5);
    let first = store.search(&query).expect("a search");
    store.append(&batch(host(1), boot(1), 21, 30)).expect("newer ones");
    let late = process_start(host(1), boot(1), 31, 3 * SECOND + 1, "late");
    store.append(&batch_of(vec![late])).expect("an older one");
    query.cursor = first.next;
    let rest: Vec<u64> = search_all(&*store, &query).iter().map(|event| event.header.sequence).collect();
    let expected: Vec<u64> = (4..=15).rev().chain([31]).chain((1..=3).rev()).collect();
    assert_eq!(rest, expected, "nothing twice, nothing left out, no newer one");
}

pub(super) fn predicates_mean_the_same(place: &Path, open: Open<'_>) {
    let store = open(place);
    let all = mixed(&*store);
    let text = |text: &str| Value::Text(text.to_owned());
    let leaves = [
        Predicate::everything(),
        Predicate::Any(Vec::new()),
        Predicate::text_anywhere("SLEEP"),
        Predicate::text_anywhere("ärzte"),
        Predicate::text_anywhere("Ärz"),
        Predicate::text_anywhere("%"),
        Predicate::text_anywhere("_"),
        Predicate::text_anywhere("'"),
        Predicate::text_anywhere(""),
        Predicate::Contains(Field::ProcessArgs, "HTTPS".to_owned()),
        Predicate::Contains(Field::ProcessPid, "1".to_owned()),
        Predicate::Equals(Field::ProcessExecutable, text("/USR/bin/Curl")),
        Predicate::Equals(Field::ProcessArgs, text("-C")),
        Predicate::Equals(Field::ProcessArgs, Value::TextList(vec!["sleep".to_owned(), "1".to_owned()])),
        Predicate::Equals(Field::ProcessPid, Value::Integer(1_004)),
        Predicate::Equals(Field::ProcessPid, text("1004")),
        Predicate::Equals(Field::ProcessArgsTruncated, Value::Boolean(true)),
        Predicate::Equals(Field::ProcessArgsTruncated, Value::Boolean(false)),
        Predicate::Equals(Field::ProcessStart, Value::Time(after_noon(4 * SECOND))),
        Predicate::Present(Field::GapCount),
        Predicate::Present(Field::ProcessSha256),
    ];
    let mut predicates: Vec<Predicate> = leaves.to_vec();
    predicates.extend(leaves.iter().map(|leaf| Predicate::Not(Box::new(leaf.clone()))));
    for (one, other) in leaves.iter().zip(leaves.iter().cycle().skip(5)) {
        let not = Predicate::Not(Box::new(other.clone()));
        predicates.push(Predicate::All(vec![one.clone(), not.clone()]));
        predicates.push(Predicate::Any(vec![Predicate::All(vec![one.clone(), other.clone()]), not.clone()]));
        predicates.push(Predicate::Not(Box::new(Predicate::Any(vec![one.clone(), not]))));
    }
    for filter in predicates {
        let query = EventQuery { filter, ..EventQuery::newest(1_000) };
        let expected: Vec<_> = all.iter().filter(|event| query.matches(event)).map(sequence).collect();
        let found: Vec<_> = search_all(&*store, &query).iter().map(sequence).collect();
        assert_eq!(found, expected, "{:?}", query.filter);
    }
    assert_eq!(Predicate::equals_text(Field::ProcessPid, "x"), None, "no number reads so");
}

fn sequence(event: &EventRecord) -> (u8, u64) {
    (event.header.host_id.as_bytes()[15], event.header.sequence)
}

pub(super) fn an_event_is_found_by_its_id(place: &Path, open: Open<'_>) {
    let store = open(place);
    let all = mixed(&*store);
    for event in all.iter().step_by(17) {
        assert_eq!(store.by_id(event.header.event_id()).expect("a look-up").as_ref(), Some(event));
    }
    let nobody = EventId::of_record(host(1), boot(7), 1, NOON);
    assert_eq!(store.by_id(nobody).expect("a look-up"), None);
    let before_all_time = EventId::from_uuid(uuid::Uuid::nil());
    assert_eq!(store.by_id(before_all_time).expect("a look-up"), None);
}

pub(super) fn histograms_count_every_event_once(place: &Path, open: Open<'_>) {
    let store = open(place);
    let all = mixed(&*store);
    let from = after_noon(-120 * SECOND);
    let until = after_noon(180 * SECOND);
    for (width, host, types) in [
        (Duration::from_secs(7), None, vec![]),
        (Duration::from_secs(10), Some(host(2)), vec![EventType::Gap]),
        (Duration::from_secs(60), None, vec![]),
        (Duration::from_secs(61), Some(host(1)), vec![EventType::ProcessStart, EventType::Gap]),
        (Duration::from_secs(3_600), None, vec![EventType::Gap]),
    ] {
        let query = EventQuery { host, event_types: types.clone(), ..EventQuery::newest(1) };
        let buckets = store.histogram(from, until, width, host, &types).expect("counts");
        for (place, bucket) in buckets.iter().enumerate() {
            let end = buckets.get(place + 1).map_or(Timestamp::from_nanos(i64::MAX), |next| next.start);
            let inside = |event: &&EventRecord| (bucket.start..end).contains(&event.header.observed_at);
            let expected = all.iter().filter(|event| query.matches(event)).filter(inside).count() as u64;
            assert_eq!(bucket.count, expected, "{width:?} from {}", bucket.start);
        }
        let sum: u64 = buckets.iter().map(|bucket| bucket.count).sum();
        assert_eq!(sum, all.iter().filter(|event| query.matches(event)).count() as u64, "{width:?}");
    }
    let minutes = store.count_by_minute(from, until).expect("counts");
    assert_eq!(minutes.len(), 5);
    assert_eq!(store.histogram(until, from, Duration::from_secs(1), None, &[]).expect("nothing"), []);
    let forever = store.histogram(
        Timestamp::from_nanos(i64::MIN),
        Timestamp::from_nanos(i64::MAX),
        Duration::from_nanos(1),
        None,
        &[],
    );
    assert!(forever.expect("counts").len() <= 10_001, "a picture has a bounded number of bars");
}

pub(super) fn gaps_are_found_by_overlap(place: &Path, open: Open<'_>) {
    let store = open(place);
    // Each spans the second before its time.
    let events = vec![
        gap(host(1), boot(1), 1, 10 * SECOND, "kernel_ring_full", Some(5)),
        gap(host(1), boot(1), 2, 20 * SECOND, "agent_down", None),
        gap(host(1), boot(1), 3, 30 * SECOND, "spool_full", Some(7)),
    ];
    store.append(&batch_of(events)).expect("stored");
    store
        .append(&batch_of(vec![gap(host(2), boot(1), 1, 20 * SECOND, "spool_full", Some(1))]))
        .expect("stored");
    let within = |host, from: i64, until: i64| GapQuery {
        host,
        from: after_noon(from),
        until: after_noon(until),
        observed_from: None,
        observed_until: None,
        limit: 100,
    };
    let found = |host, from: i64, until: i64| -> Vec<u64> {
        let found = store.gaps_between(&within(host, from, until)).expect("gaps");
        assert_eq!(found.in_all, found.gaps.len() as u64);
        found.gaps.iter().map(|event| event.header.sequence).collect()
    };
    assert_eq!(found(Some(host(1)), 0, 100 * SECOND), [3, 2, 1]);
    assert_eq!(found(Some(host(1)), 19 * SECOND + 500, 19 * SECOND + 600), [2], "inside the gap");
    assert_eq!(found(Some(host(1)), 11 * SECOND, 19 * SECOND), [0; 0], "between two");
    assert_eq!(found(None, 15 * SECOND, 25 * SECOND), [1, 2]);
    // Of three that overlap, the two observed by then; one at a time.
    let some = GapQuery {
        observed_from: Some(after_noon(10 * SECOND)),
        observed_until: Some(after_noon(30 * SECOND)),
        limit: 1,
        ..within(Some(host(1)), 0, 100 * SECOND)
    };
    let page = store.gaps_between(&some).expect("gaps");
    assert_eq!((page.gaps.len(), page.gaps[0].header.sequence, page.in_all), (1, 2, 2));
    let sums = store.gap_totals(None, NOON, after_noon(60 * SECOND)).expect("sums");
    assert_eq!((sums.gaps, sums.lost, sums.of_unknown_size), (4, 13, 1));
}

pub(super) fn a_process_start_is_found(place: &Path, open: Open<'_>) {
    let store = open(place);
    // The boot was at noon, so a process's start in its id is its time after noon.
    let shell = ProcessEntityId::new(boot(1), 700, 5 * SECOND as u64);
    let start = |sequence, nanos: i64, process: ProcessEntityId, command: &str| {
        let fields = vec![
            (Field::ProcessEntityId, Value::Text(process.to_string())),
            (Field::ProcessCommandLine, Value::Text(command.to_owned())),
        ];
        EventRecord::from_fields(header(host(1), boot(1), sequence, nanos), EventType::ProcessStart, fields)
    };
    let events = vec![
        start(1, 5 * SECOND + 100, shell, "sudo bash"),
        start(2, 6 * SECOND, ProcessEntityId::new(boot(1), 701, 6 * SECOND as u64), "id"),
        start(3, 8 * SECOND, shell, "bash"),
        process_start(host(1), boot(1), 4, 9 * SECOND, "ls"),
    ];
    store.append(&batch_of(events)).expect("stored");
    let at = |nanos| {
        let found = store.process_start_of(host(1), shell, after_noon(nanos)).expect("a look-up");
        found.map(|event| event.header.sequence)
    };
    assert_eq!(at(7 * SECOND), Some(1), "what it was then");
    assert_eq!(at(9 * SECOND), Some(3));
    assert_eq!(at(1), Some(1), "nothing before: the first after");
    let nobody = ProcessEntityId::new(boot(1), 700, 4 * SECOND as u64);
    assert_eq!(store.process_start_of(host(1), nobody, NOON).expect("a look-up"), None, "a reused PID");
    assert_eq!(store.process_start_of(host(2), shell, NOON).expect("a look-up"), None, "another host's");
}
