//! Appending, accounts, retention.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use event_model::{
    BootId, EventRecord, EventType, Field, GapReason, HostId, KindFigures, RecordKind, Timestamp, Value,
    ValueKind,
};

use super::{NOON, Open, after_noon, batch, batch_of, boot, gap, header, host, process_start, search_all};
use crate::{AgentFigures, AppendBatch, AppendOutcome, EventQuery, EventStoreError, KindAccount};

pub(super) fn events_come_back_whole(place: &Path, open: Open<'_>) {
    // One event with every field that there is, so that a new kind or column can't be forgotten.
    let value = |field: Field| match field.spec().kind {
        ValueKind::Text => Value::Text(format!("ünïcode \0 '\"; {} \u{1f600}", field.spec().ecs)),
        ValueKind::Integer => Value::Integer(i64::MIN + i64::from(field.spec().number)),
        ValueKind::Boolean => Value::Boolean(field.spec().number.is_multiple_of(2)),
        ValueKind::TextList => Value::TextList(vec![String::new(), "a\"b".into(), "ö\n".into()]),
        ValueKind::Time => Value::Time(Timestamp::from_nanos(-1)),
    };
    let all = Field::ALL.iter().map(|&field| (field, value(field))).collect();
    let events = vec![
        EventRecord::from_fields(header(host(1), boot(1), 1, 5), EventType::ProcessStart, all),
        EventRecord::from_fields(header(host(1), boot(1), 2, 6), EventType::AgentStart, Vec::new()),
        process_start(host(1), boot(1), 3, 7, "ls -l"),
    ];
    let store = open(place);
    store.append(&batch_of(events.clone())).expect("stored");
    for restart in [false, true] {
        let store = if restart { open(place) } else { store.clone() };
        let mut found = search_all(&*store, &EventQuery::newest(2));
        found.reverse();
        assert_eq!(found, events, "after a restart: {restart}");
        assert_eq!(store.high_water(host(1), boot(1)).expect("a mark"), 3);
    }
}

pub(super) fn a_batch_that_comes_again_is_stored_once(place: &Path, open: Open<'_>) {
    let store = open(place);
    let first = batch(host(1), boot(1), 1, 10);
    let outcome = store.append(&first).expect("stored");
    let all_new = AppendOutcome { stored: 10, events_stored: 10, duplicates: 0, missing: 0, high_water: 10 };
    assert_eq!(outcome, all_new);

    let again = store.append(&first).expect("nothing to do");
    let none_new = AppendOutcome { stored: 0, events_stored: 0, duplicates: 10, missing: 0, high_water: 10 };
    assert_eq!(again, none_new);

    drop(store);
    let store = open(place);
    let overlapping = store.append(&batch(host(1), boot(1), 8, 12)).expect("two are new");
    let two_new = AppendOutcome { stored: 2, events_stored: 2, duplicates: 3, missing: 0, high_water: 12 };
    assert_eq!(overlapping, two_new);

    // Another boot and another host count for themselves.
    assert_eq!(store.append(&batch(host(1), boot(2), 1, 3)).expect("stored").stored, 3);
    assert_eq!(store.append(&batch(host(2), boot(1), 1, 3)).expect("stored").stored, 3);
    assert_eq!(search_all(&*store, &EventQuery::newest(5)).len(), 18);
    let boots: Vec<_> = store.ledger(host(1)).expect("accounts").iter().map(|entry| entry.boot).collect();
    assert_eq!(boots, [boot(2), boot(1)], "the boot heard of last comes first");
    assert_eq!(store.high_water(host(9), boot(1)).expect("no mark"), 0);
}

pub(super) fn a_mark_names_its_batch(place: &Path, open: Open<'_>) {
    let store = open(place);
    let of = |number, first, last, sha256: Option<u8>| AppendBatch {
        figures: Some(AgentFigures { produced: last, dropped: 1, kernel_lost: 2 }),
        sha256: sha256.map(|byte| [byte; 32]),
        ..batch(host(1), boot(number), first, last)
    };
    for one in [of(1, 1, 10, Some(1)), of(1, 11, 20, Some(2)), of(2, 1, 5, None)] {
        store.append(&one).expect("stored");
    }
    // Neither what came before, nor others that claim its numbers, take the name.
    store.append(&of(1, 1, 10, Some(1))).expect("nothing to do");
    store.append(&of(1, 15, 20, Some(3))).expect("nothing to do");
    drop(store);
    let store = open(place);
    let marks = store.high_water_marks(host(1), 9).expect("marks");
    let told: Vec<_> = marks.iter().map(|mark| (mark.boot, mark.last_sequence, mark.sha256)).collect();
    assert_eq!(told, [(boot(1), 20, Some([2; 32])), (boot(2), 5, None)]);
    assert_eq!(marks[0].figures, AgentFigures { produced: 20, dropped: 1, kernel_lost: 2 });
    assert_eq!(marks[0].last_event_at, Some(after_noon(20_000_000_000)));
    assert_eq!(store.high_water_marks(host(1), 1).expect("marks"), marks[..1]);
    assert_eq!(store.high_water_marks(host(2), 9).expect("no marks"), []);
}

pub(super) fn holes_are_accounted(place: &Path, open: Open<'_>) {
    let store = open(place);
    // 1 to 3 never came; 4 and 7 are events, 5 a detection, 6 is a hole, 8 a receipt, 9 and 10 are holes.
    let mut holed = batch_of(vec![process_start(host(1), boot(1), 4, 1, "a")]);
    holed.events.push(process_start(host(1), boot(1), 7, 2, "b"));
    holed.others = vec![(5, RecordKind::Detection), (8, RecordKind::Response)];
    holed.last_sequence = 10;
    holed.figures = Some(AgentFigures { produced: 10, dropped: 6, kernel_lost: 3 });
    let outcome = store.append(&holed).expect("stored");
    let expected = AppendOutcome { stored: 4, events_stored: 2, duplicates: 0, missing: 6, high_water: 10 };
    assert_eq!(outcome, expected);

    let gaps = vec![
        gap(host(1), boot(1), 11, 3, "spool_full", Some(4)),
        gap(host(1), boot(1), 12, 4, "spool_corrupt", Some(1)),
        gap(host(1), boot(1), 13, 5, "kernel_ring_full", Some(3)),
        gap(host(1), boot(1), 14, 6, "agent_down", None),
        gap(host(1), boot(1), 15, 7, "a reason of the future", Some(-5)),
    ];
    store.append(&batch_of(gaps)).expect("stored");
    drop(store);
    let ledger = open(place).ledger(host(1)).expect("accounts");
    let [entry] = ledger.as_slice() else { panic!("one boot, not {ledger:?}") };
    assert_eq!((entry.high_water, entry.stored, entry.events, entry.missing), (15, 9, 7, 6));
    assert_eq!((entry.explained, entry.unexplained(), entry.lost_observations), (5, 1, 3));
    assert_eq!(entry.gaps_of_unknown_size, 1);
    assert_eq!(entry.figures, AgentFigures { produced: 10, dropped: 6, kernel_lost: 3 });
    assert_eq!(entry.last_event_at, Some(after_noon(7)));

    // An agent that lies can make its own account useless, and nothing else.
    let store = open(place);
    for sequence in 16..=18 {
        let lie = gap(host(1), boot(1), sequence, i64::MAX / 8, "spool_full", Some(i64::MAX));
        store.append(&batch_of(vec![lie])).expect("stored");
    }
    let hole = AppendBatch {
        events: Vec::new(),
        others: vec![(i64::MAX as u64, RecordKind::Detection)],
        first_sequence: i64::MAX as u64,
        last_sequence: i64::MAX as u64,
        ..holed
    };
    store.append(&hole).expect("stored");
    let entry = store.ledger(host(1)).expect("accounts")[0];
    assert_eq!((entry.stored, entry.high_water), (13, i64::MAX as u64));
    assert_eq!(entry.stored + entry.missing, entry.high_water);
    assert!(store.gap_totals(None, Timestamp::from_nanos(0), Timestamp::from_nanos(i64::MAX)).is_ok());
}

pub(super) fn the_account_by_kind_balances(place: &Path, open: Open<'_>) {
    const MODIFY: RecordKind = RecordKind::Event(EventType::FileModify);
    const START: RecordKind = RecordKind::Event(EventType::ProcessStart);
    const GAP: RecordKind = RecordKind::Event(EventType::Gap);
    let store = open(place);
    let figures = |kind, produced, dropped: &[(GapReason, u64)]| KindFigures {
        kind,
        produced,
        dropped: dropped.to_vec(),
    };
    let account = |store: &dyn crate::EventStore, boot_number| -> Vec<KindAccount> {
        store.account(host(1), boot(boot_number)).expect("an account")
    };
    store.append(&batch(host(1), boot(1), 1, 2)).expect("stored");
    assert_eq!(account(&*store, 1), [], "an agent without an account has none");

    // A start, a write that stands for five, and a detection.
    let write = |sequence, count| {
        let fields = vec![(Field::EventCount, Value::Integer(count))];
        EventRecord::from_fields(header(host(1), boot(1), sequence, 9), EventType::FileModify, fields)
    };
    let mut first = batch_of(vec![process_start(host(1), boot(1), 3, 8, "a"), write(4, 5)]);
    (first.others, first.last_sequence) = (vec![(5, RecordKind::Detection)], 5);
    first.kinds = vec![
        figures(START, 1, &[]),
        figures(MODIFY, 12, &[(GapReason::Budget, 4), (GapReason::SpoolFull, 3)]),
        figures(RecordKind::Detection, 1, &[]),
        figures(RecordKind::Fork, 2, &[(GapReason::KernelRingFull, 2)]),
    ];
    store.append(&first).expect("stored");
    let differences = |rows: &[KindAccount]| -> Vec<(RecordKind, u64, u64, i64)> {
        rows.iter().map(|row| (row.kind, row.stored, row.dropped_in_all(), row.difference())).collect()
    };
    let balanced =
        [(START, 1, 0, 0), (MODIFY, 5, 7, 0), (RecordKind::Detection, 1, 0, 0), (RecordKind::Fork, 0, 2, 0)];
    assert_eq!(differences(&account(&*store, 1)), balanced);
    assert_eq!(account(&*store, 1)[1].dropped, [(GapReason::Budget, 4), (GapReason::SpoolFull, 3)]);
    store.append(&first).expect("nothing to do");
    drop(store);
    let store = open(place);
    assert_eq!(differences(&account(&*store, 1)), balanced, "the same batch again, and a restart");

    // Two starts that the agent made never come.
    let mut later = batch_of(vec![write(6, 1)]);
    later.kinds = vec![figures(START, 3, &[]), figures(MODIFY, 13, &[])];
    store.append(&later).expect("stored");
    let unaccounted = differences(&account(&*store, 1));
    assert_eq!(unaccounted[..2], [(START, 1, 0, 2), (MODIFY, 6, 7, 0)]);

    // The next boot tells what became of them, and of one that no batch could count.
    let lost = |sequence, reason: &str, boot_number, count, through| {
        let fields = vec![
            (Field::GapThrough, Value::Integer(through)),
            (Field::GapReason, Value::Text(reason.to_owned())),
            (Field::GapWhat, Value::Text("process_start".to_owned())),
            (Field::GapBoot, Value::Text(boot(boot_number).to_string())),
            (Field::GapCount, Value::Integer(count)),
            (Field::GapRecords, Value::Integer(count)),
        ];
        EventRecord::from_fields(header(host(1), boot(2), sequence, 20), EventType::Gap, fields)
    };
    let mut telling = batch_of(vec![
        lost(1, "spool_corrupt", 1, 2, 5),
        lost(2, "spool_write_failed", 1, 1, 9),
        lost(3, "spool_corrupt", 9, 1, 9),
    ]);
    telling.kinds = vec![figures(GAP, 3, &[])];
    store.append(&telling).expect("stored");
    store.append(&telling).expect("nothing to do");
    assert_eq!(differences(&account(&*store, 1))[0], (START, 1, 3, 0));
    assert_eq!(differences(&account(&*store, 2)), [(GAP, 3, 0, 0)]);
    assert_eq!(account(&*store, 9), [], "a boot that was never heard of gets no account");
    assert_eq!(store.ledger(host(1)).expect("accounts")[0].explained, 0, "those were another boot's numbers");

    // Figures that lie make the account useless, and nothing else.
    let mut lie = batch_of(vec![write(7, i64::MAX), write(8, -4)]);
    lie.kinds = vec![figures(MODIFY, u64::MAX, &[(GapReason::Budget, u64::MAX)])];
    store.append(&lie).expect("stored");
    let mut lie = batch_of(vec![write(9, i64::MAX)]);
    lie.kinds = vec![figures(MODIFY, u64::MAX, &[(GapReason::SpoolFull, u64::MAX)])];
    store.append(&lie).expect("stored");
    assert!(account(&*store, 1)[1].difference() < 0);
}

pub(super) fn what_was_left_out_is_told(place: &Path, open: Open<'_>) {
    const START: RecordKind = RecordKind::Event(EventType::ProcessStart);
    let store = open(place);
    // In the place of detection 2 stands a gap.
    let fields = vec![
        (Field::GapReason, Value::Text("server_refused".to_owned())),
        (Field::GapWhat, Value::Text("detection".to_owned())),
        (Field::GapCount, Value::Integer(1)),
        (Field::GapRecords, Value::Integer(1)),
    ];
    let instead = EventRecord::from_fields(header(host(1), boot(1), 2, 2), EventType::Gap, fields);
    let mut batch = batch_of(vec![process_start(host(1), boot(1), 1, 1, "a"), instead]);
    (batch.others, batch.last_sequence) = (vec![(3, RecordKind::Detection)], 3);
    batch.left_out = vec![2];
    let produced = |kind, produced| KindFigures { kind, produced, dropped: Vec::new() };
    batch.kinds = vec![produced(START, 1), produced(RecordKind::Detection, 2)];
    let outcome = store.append(&batch).expect("stored");
    let expected = AppendOutcome { stored: 2, events_stored: 1, duplicates: 0, missing: 1, high_water: 3 };
    assert_eq!(outcome, expected);
    let again = store.append(&batch).expect("nothing to do");
    assert_eq!((again.stored, again.duplicates, again.missing), (0, 3, 0));

    let entry = store.ledger(host(1)).expect("accounts")[0];
    assert_eq!((entry.stored, entry.events, entry.missing, entry.unexplained()), (2, 1, 1, 0));
    let detections = KindAccount {
        kind: RecordKind::Detection,
        produced: 2,
        stored: 1,
        dropped: vec![(GapReason::ServerRefused, 1)],
    };
    let starts = KindAccount { kind: START, produced: 1, stored: 1, dropped: Vec::new() };
    assert_eq!(store.account(host(1), boot(1)).expect("an account"), [starts, detections]);
    // An agent that goes on from these figures must not count as its own what it does not know of.
    assert_eq!(store.agent_figures(host(1), boot(1)).expect("figures"), batch.kinds);
    assert_eq!(search_all(&*store, &EventQuery::newest(10)).len(), 2, "the gap is found like any event");
}

pub(super) fn unexplained_numbers_are_listed(place: &Path, open: Open<'_>) {
    let store = open(place);
    let listed = |store: &dyn crate::EventStore| -> Vec<(HostId, BootId, u64)> {
        let entries = store.unexplained().expect("a list");
        entries.iter().map(|entry| (entry.host, entry.boot, entry.unexplained())).collect()
    };
    store.append(&batch(host(1), boot(1), 1, 3)).expect("stored");
    assert_eq!(listed(&*store), []);
    // 4 and 5 never came.
    store.append(&batch(host(1), boot(1), 6, 6)).expect("stored");
    store.append(&batch(host(2), boot(2), 2, 2)).expect("stored");
    assert_eq!(listed(&*store), [(host(1), boot(1), 2), (host(2), boot(2), 1)]);
    let told =
        |sequence, count| batch_of(vec![gap(host(1), boot(1), sequence, 9, "spool_full", Some(count))]);
    store.append(&told(7, 1)).expect("stored");
    assert_eq!(listed(&*store)[0], (host(1), boot(1), 1));
    store.append(&told(8, 1)).expect("stored");
    assert_eq!(listed(&*store), [(host(2), boot(2), 1)]);
    // Only the boot that a host reports from now.
    store.append(&batch(host(2), boot(3), 1, 1)).expect("stored");
    assert_eq!(listed(&*store), []);
}

pub(super) fn bad_batches_change_nothing(place: &Path, open: Open<'_>) {
    let store = open(place);
    store.append(&batch(host(1), boot(1), 1, 2)).expect("stored");
    let good = batch(host(1), boot(1), 3, 5);
    let bad = |change: &dyn Fn(&mut AppendBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        batch
    };
    let batches = [
        ("from zero", bad(&|batch| batch.first_sequence = 0)),
        ("first after last", bad(&|batch| batch.last_sequence = 2)),
        ("past what can be counted", bad(&|batch| batch.last_sequence = u64::MAX)),
        ("an event outside", bad(&|batch| batch.last_sequence = 4)),
        ("not rising", bad(&|batch| batch.events.swap(0, 1))),
        ("twice", bad(&|batch| batch.others = vec![(4, RecordKind::Detection)])),
        ("others outside", bad(&|batch| batch.others = vec![(9, RecordKind::Detection)])),
        ("another host's", bad(&|batch| batch.host = host(2))),
        ("another boot's", bad(&|batch| batch.boot = boot(2))),
    ];
    for (what, batch) in batches {
        match store.append(&batch) {
            Err(EventStoreError::BadBatch(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(store.high_water(host(1), boot(1)).expect("a mark"), 2);
    assert_eq!(store.append(&good).expect("stored").stored, 3);

    let empty = AppendBatch { events: Vec::new(), first_sequence: 6, last_sequence: 6, ..good };
    assert_eq!(store.append(&empty).expect("only a hole").missing, 1);
}

pub(super) fn retention_leaves_accounts(place: &Path, open: Open<'_>) {
    let store = open(place);
    // A second apart from noon: 59 events stand in the first minute, 60 in the second.
    store.append(&batch(host(1), boot(1), 1, 150)).expect("stored");
    store.append(&batch(host(2), boot(1), 1, 150)).expect("stored");
    store
        .append(&batch_of(vec![gap(host(1), boot(1), 151, 30_000_000_000, "spool_full", Some(1))]))
        .expect("stored");
    let before = after_noon(125_000_000_000);
    let mut removed = 0;
    let mut calls = 0;
    loop {
        let deleted = store.delete_before(before, 50).expect("removed");
        assert!(deleted.events <= 50, "{} at once", deleted.events);
        removed += deleted.events;
        calls += 1;
        if !deleted.more {
            break;
        }
    }
    assert_eq!(removed, 119 + 119 + 1, "whole minutes, in {calls} calls");
    let left = search_all(&*store, &EventQuery::newest(100));
    assert_eq!(left.len(), 62);
    assert!(left.iter().all(|event| event.header.observed_at >= after_noon(120_000_000_000)));
    let counted: u64 = store
        .count_by_minute(NOON, after_noon(600_000_000_000))
        .expect("counts")
        .iter()
        .map(|b| b.count)
        .sum();
    assert_eq!(counted, 62);
    assert_eq!(store.gap_totals(None, NOON, before).expect("sums").gaps, 0);
    // What is gone is still known to have been here: it is not stored a second time.
    assert_eq!(store.append(&batch(host(1), boot(1), 1, 150)).expect("known").stored, 0);
    assert_eq!(store.ledger(host(1)).expect("accounts")[0].stored, 151);
}

pub(super) fn readers_see_whole_batches(place: &Path, open: Open<'_>) {
    const BATCH: u64 = 20;
    let store = open(place);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut most = 0;
                    let mut reads = 0;
                    while !done.load(Ordering::Relaxed) || reads == 0 {
                        let count = search_all_at_once(&*store);
                        assert!(count.is_multiple_of(BATCH) && count >= most, "{count} events after {most}");
                        most = count;
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for round in 0..40 {
            store.append(&batch(host(1), boot(1), round * BATCH + 1, (round + 1) * BATCH)).expect("stored");
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("a reader that saw nothing wrong") > 0);
        }
    });
    assert_eq!(search_all_at_once(&*store), 40 * BATCH);
}

fn search_all_at_once(store: &dyn crate::EventStore) -> u64 {
    store.search(&EventQuery::newest(1_000)).expect("a search").events.len() as u64
}
