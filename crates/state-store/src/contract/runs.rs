//! Runs of playbooks.

use std::path::Path;

use uuid::Uuid;

use super::alerts::opened;
use super::{NOON, Open, after_noon};
use crate::{NewRun, RunQuery, RunReport, RunState, StateError};

pub(super) fn a_run_belongs_to_its_responder_and_goes_with_its_alert(place: &Path, open: Open<'_>) {
    let store = open(place);
    let (alert, other) = (opened(store.as_ref(), 1), opened(store.as_ref(), 2));
    let id = Uuid::from_u128;
    let wanted = |number: u128, dry_run: bool| NewRun {
        id: id(number),
        alert,
        playbook: "miner".to_owned(),
        dry_run,
        requested_by: "eve".to_owned(),
    };
    let report = |number: u128, state: RunState, responder: &str| RunReport {
        id: id(number),
        alert,
        playbook: "miner".to_owned(),
        dry_run: number == 1,
        responder: responder.to_owned(),
        state,
        report: format!(r#"{{"state":"{state}"}}"#),
    };
    let waiting = |store: &dyn crate::StateStore| -> Vec<Uuid> {
        let query = RunQuery { waiting: true, limit: 100, ..RunQuery::default() };
        store.runs(&query).expect("a page").items.into_iter().map(|run| run.id).collect()
    };
    assert!(store.request_run(&wanted(1, true), NOON).expect("asked for"));
    assert!(!store.request_run(&wanted(1, true), NOON).expect("known"), "one id, one run");
    let nowhere = NewRun { alert: crate::AlertId::from_uuid(id(77)), ..wanted(9, true) };
    assert!(matches!(store.request_run(&nowhere, NOON), Err(StateError::NotFound { .. })));
    assert_eq!(waiting(store.as_ref()), [id(1)]);

    // Whoever tells of it first has it; no other can tell something else of it.
    assert!(store.record_run(&report(1, RunState::Running, "a"), after_noon(1)).expect("noted"));
    assert!(waiting(store.as_ref()).is_empty());
    assert!(!store.record_run(&report(1, RunState::Completed, "b"), after_noon(2)).expect("another's"));
    let elsewhere = RunReport { alert: other, ..report(1, RunState::Completed, "a") };
    assert!(!store.record_run(&elsewhere, after_noon(2)).expect("another alert's"));
    assert!(store.record_run(&report(1, RunState::Running, "a"), after_noon(3)).expect("noted"));
    let running = store.run(id(1)).expect("a look").expect("there");
    assert_eq!((running.state, running.state_at), (RunState::Running, after_noon(1)), "since then");
    assert!(store.record_run(&report(1, RunState::Completed, "a"), after_noon(4)).expect("noted"));
    assert!(!store.request_run_undo(id(1), "eve", after_noon(5)).expect("a look"), "nothing was done in it");

    // One that an alert began is known by its first report.
    assert!(store.record_run(&report(2, RunState::Running, "a"), after_noon(5)).expect("noted"));
    assert!(!store.request_run_undo(id(2), "eve", after_noon(6)).expect("a look"), "it is under way");
    assert!(store.record_run(&report(2, RunState::Completed, "a"), after_noon(6)).expect("noted"));
    assert!(store.request_run_undo(id(2), "eve", after_noon(7)).expect("asked for"));
    assert!(!store.request_run_undo(id(2), "bob", after_noon(8)).expect("a look"), "it is asked for already");
    drop(store);
    let store = open(place);
    assert_eq!(waiting(store.as_ref()), [id(2)], "it waits, also over a restart");
    let undoing = store.run(id(2)).expect("a look").expect("there");
    assert_eq!(undoing.undo_requested, Some(("eve".to_owned(), after_noon(7))));
    assert!(store.record_run(&report(2, RunState::Undone, "a"), after_noon(9)).expect("noted"));
    assert!(waiting(store.as_ref()).is_empty());
    assert!(!store.request_run_undo(id(2), "eve", after_noon(10)).expect("a look"), "it is undone");

    // Nobody takes it: it is given up.
    assert!(store.request_run(&wanted(3, true), NOON).expect("asked for"));
    assert_eq!(store.expire_runs(after_noon(599)).expect("none"), 0);
    assert_eq!(store.expire_runs(after_noon(600)).expect("one"), 1);
    assert_eq!(store.run(id(3)).expect("a look").expect("there").state, RunState::Abandoned);

    let page = |limit, cursor| RunQuery { alert: Some(alert), limit, cursor, ..RunQuery::default() };
    let first = store.runs(&page(2, None)).expect("a page");
    assert_eq!(first.items.iter().map(|run| run.id).collect::<Vec<_>>(), [id(3), id(2)]);
    let rest = store.runs(&page(2, first.next_cursor)).expect("a page");
    assert_eq!((rest.items[0].id, rest.next_cursor), (id(1), None));
    assert!(store.runs(&page(2, Some("x".to_owned()))).is_err());
    let of_other = RunQuery { alert: Some(other), limit: 9, ..RunQuery::default() };
    assert!(store.runs(&of_other).expect("a page").items.is_empty());

    let retention = after_noon(400 * 24 * 3_600);
    while store.delete_alerts_before(retention).expect("deleted") > 0 {}
    assert_eq!(store.run(id(2)).expect("a look"), None, "it goes with its alert");
}
