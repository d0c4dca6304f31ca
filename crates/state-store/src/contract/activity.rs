//! Settings, counters, audit log, outbox.

use std::path::Path;

use event_model::Timestamp;

use super::{NOON, Open, after_noon};
use crate::{AuditEntry, Retention, StateError};

pub(super) fn what_is_given_is_kept(place: &Path, open: Open<'_>) {
    let store = open(place);
    assert_eq!(store.setting("theme").expect("a look-up"), None);
    store.set_setting("theme", "dark").expect("set");
    store.set_setting("theme", "light").expect("set");
    assert_eq!(store.retention().expect("days"), Retention { events_days: 30, alerts_days: 365 });
    let retention = Retention { events_days: 7, alerts_days: 90 };
    store.set_retention(retention).expect("set");
    for days in [0, 3_651] {
        let refused = store.set_retention(Retention { events_days: days, alerts_days: 1 });
        assert!(
            matches!(&refused, Err(StateError::Invalid(reason)) if reason.contains("1 to 3650")),
            "{refused:?}"
        );
    }
    store.count_refused(&[("bad_envelope", 2), ("oversize", 0)], NOON).expect("counted");
    store.count_refused(&[("bad_envelope", 1), ("bad_token", 1)], after_noon(5)).expect("counted");
    store.count_refused(&[], NOON).expect("nothing to count");
    for number in 1..=7 {
        let entry = AuditEntry {
            who: "eve".to_owned(),
            what: "rule.update".to_owned(),
            subject: number.to_string(),
            detail: "{}".to_owned(),
            address: "192.0.2.1".to_owned(),
        };
        store.append_audit(&entry, after_noon(number)).expect("appended");
    }
    drop(store);
    let store = open(place);
    assert_eq!(store.setting("theme").expect("a look-up").as_deref(), Some("light"));
    assert_eq!(store.retention().expect("days"), retention, "a refused change changed nothing");
    let refused = store.refused().expect("counters");
    let refused: Vec<(&str, u64, Timestamp)> =
        refused.iter().map(|row| (row.kind.as_str(), row.count, row.last_at)).collect();
    assert_eq!(refused, [("bad_envelope", 3, after_noon(5)), ("bad_token", 1, after_noon(5))]);

    let mut cursor = None;
    let mut subjects = Vec::new();
    loop {
        let page = store.audit(cursor.as_deref(), 3).expect("the log");
        subjects.extend(page.items.into_iter().map(|row| row.subject));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(subjects, ["7", "6", "5", "4", "3", "2", "1"], "newest first, each once");
    assert!(matches!(store.audit(Some("x"), 3), Err(StateError::Invalid(_))));
}

pub(super) fn the_outbox_is_bounded(place: &Path, open: Open<'_>) {
    let store = open(place);
    super::alerts::fill_outbox(&*store, 10_050);
    let rows = store.outbox(20_000).expect("the outbox");
    assert_eq!((rows.len(), rows[0].sequence), (10_000, 51), "the oldest went");
    assert!(rows.iter().all(|row| row.topic == "alert.new" && row.payload.contains("\"rule\"")));
    assert!(rows.iter().all(|row| row.payload.contains("\"event\":{")), "it tells of the event too");
    let not_told = store.refused().expect("the counters");
    assert!(not_told.iter().any(|row| row.kind == "alert_not_published" && row.count == 50), "{not_told:?}");
    store.clear_outbox(100).expect("cleared");
    assert_eq!(store.outbox(1).expect("the outbox")[0].sequence, 101);
    store.clear_outbox(u64::MAX).expect("cleared");
    assert!(store.outbox(1).expect("the outbox").is_empty());
}
