//! Alerts.

use std::path::Path;

use event_model::{
    ActionKind, BootId, Detection, DetectionId, EventHeader, EventRecord, EventType, Field, ProcessEntityId,
    ProcessSummary, ReceiptState, ReceiptStep, ResponseMode, ResponseReceipt, ResponseTarget, RuleId,
    RuleReference, Severity, Value,
};
use uuid::Uuid;

use super::{Open, after_noon, enroll, host_id};
use crate::{
    Alert, AlertChangeKind, AlertId, AlertQuery, AlertStatus, AlertUpdate, CloseReason, DetectionInput,
    Findings, FindingsOutcome, StateError, StateStore,
};

fn boot() -> BootId {
    BootId::from_uuid(Uuid::from_u128(0x1a2b_3c4d << 96))
}

/// The detection with this number, so many seconds after noon.
fn detection(host: u8, number: u64, seconds: i64, rule: &str, executable: &str) -> Detection {
    let process = ProcessEntityId::new(boot(), 4_000 + number as u32, number * 1_000);
    let header = EventHeader {
        host_id: host_id(host),
        boot_id: boot(),
        sequence: number,
        observed_at: after_noon(seconds),
        monotonic_ns: number,
    };
    let fields = vec![
        (Field::ProcessEntityId, Value::Text(process.to_string())),
        (Field::ProcessPid, Value::Integer(process.pid().into())),
        (Field::ProcessExecutable, Value::Text(executable.to_owned())),
        (Field::ProcessCommandLine, Value::Text(format!("{executable} --pool x"))),
        (Field::UserId, Value::Text("33".to_owned())),
    ];
    let rule = RuleReference {
        id: RuleId::new(rule),
        name: format!("Rule {rule}"),
        description: "A miner's name".to_owned(),
        severity: if rule == "low" { Severity::Low } else { Severity::High },
        attack: vec!["T1496".to_owned()],
        mode: ResponseMode::Auto,
    };
    let parent = ProcessSummary {
        entity_id: ProcessEntityId::new(boot(), 1, 1),
        pid: 1,
        executable: "/sbin/init".to_owned(),
        command_line: "init".to_owned(),
        user: "root".to_owned(),
        start: after_noon(-100),
    };
    Detection {
        id: DetectionId::of_match(header.event_id(), &rule.id),
        rule,
        event: EventRecord::from_fields(header, EventType::ProcessStart, fields),
        ancestry: vec![parent],
        matched: vec!["name = xmrig".to_owned()],
        actions: vec![ActionKind::Alert, ActionKind::TerminateProcess],
    }
}

fn receipt(id: u128, detection: &Detection, state: ReceiptState) -> ResponseReceipt {
    ResponseReceipt {
        asks: None,
        id: Uuid::from_u128(id),
        detection_id: detection.id,
        action: ActionKind::TerminateProcess,
        target: ResponseTarget {
            entity_id: ProcessEntityId::new(boot(), 4_001, 1_000),
            executable: "/tmp/xmrig".to_owned(),
        },
        state,
        reason: "gone".to_owned(),
        steps: vec![ReceiptStep { at: after_noon(1), what: "sent SIGTERM".to_owned() }],
    }
}

fn record(
    store: &dyn StateStore,
    host: u8,
    detections: &[&Detection],
    receipts: &[&ResponseReceipt],
) -> FindingsOutcome {
    let input = |&detection| DetectionInput { detection, host_name: "web-1", agent_version: Some("0.1.0") };
    let detections = detections.iter().map(input).collect();
    let findings = Findings { host: host_id(host), detections, receipts: receipts.to_vec() };
    store.record_findings(&findings, after_noon(0)).expect("recorded")
}

fn all(store: &dyn StateStore) -> Vec<Alert> {
    store.alerts(&AlertQuery { limit: 500, ..AlertQuery::default() }).expect("alerts").items
}

fn kinds(outcome: &FindingsOutcome) -> Vec<AlertChangeKind> {
    outcome.detections.iter().map(|change| change.kind).collect()
}

use AlertChangeKind::{AlreadyKnown, New, Repeated};

pub(super) fn a_detection_opens_or_repeats(place: &Path, open: Open<'_>) {
    let store = open(place);
    let first = detection(1, 1, 0, "miner", "/tmp/xmrig");
    let outcome = record(
        &*store,
        1,
        &[
            &first,
            &detection(1, 2, 3_600, "miner", "/tmp/xmrig"),
            &detection(1, 3, 3_700, "miner", "/tmp/other"),
            &detection(1, 4, 3_700, "low", "/tmp/xmrig"),
        ],
        &[],
    );
    assert_eq!(kinds(&outcome), [New, Repeated, New, New]);
    assert_eq!(outcome.changed.len(), 3);
    let other_host = detection(2, 1, 3_600, "miner", "/tmp/xmrig");
    assert_eq!(kinds(&record(&*store, 2, &[&other_host], &[])), [New]);
    // What a rule did in another mode is another matter.
    let mut reported = detection(1, 40, 3_650, "miner", "/tmp/xmrig");
    reported.rule.mode = ResponseMode::Detect;
    assert_eq!(kinds(&record(&*store, 1, &[&reported], &[])), [New]);
    // The window runs from the last detection, in both directions: batches may come late.
    assert_eq!(kinds(&record(&*store, 1, &[&detection(1, 5, 10, "miner", "/tmp/xmrig")], &[])), [Repeated]);
    assert_eq!(kinds(&record(&*store, 1, &[&detection(1, 6, 7_201, "miner", "/tmp/xmrig")], &[])), [New]);

    let id = AlertId::opened_by(host_id(1), first.id);
    drop(store);
    let detail = open(place).alert(id).expect("a look-up").expect("the alert");
    let alert = &detail.alert;
    assert_eq!((alert.count, alert.time, alert.last_time), (3, after_noon(0), after_noon(3_600)));
    assert_eq!((alert.status, alert.close_reason, alert.assignee.as_deref()), (AlertStatus::New, None, None));
    assert_eq!((alert.host_id, alert.host_name.as_str()), (host_id(1), "web-1"));
    assert_eq!(alert.rule, first.rule);
    let process = alert.process.as_ref().expect("a process");
    assert_eq!((process.pid, process.user.as_str()), (Some(4_001), "33"), "the id where there is no name");
    assert_eq!(detail.event["process"]["executable"], "/tmp/xmrig");
    assert_eq!(detail.event["host"]["name"], "web-1");
    assert_eq!((&detail.ancestry, &detail.matched), (&first.ancestry, &first.matched));
}

pub(super) fn what_repeats_is_told_of_again(place: &Path, open: Open<'_>) {
    let store = open(place);
    let told = |store: &dyn StateStore| -> Vec<(String, u64, u64, u64)> {
        let rows = store.outbox(100).expect("the outbox");
        let read = |row: crate::OutboxRow| {
            let payload: serde_json::Value = serde_json::from_str(&row.payload).expect("JSON");
            let number = |value: &serde_json::Value| value.as_u64().expect("a number");
            let pid = number(&payload["process"]["pid"]);
            (row.topic, number(&payload["generation"]), number(&payload["count"]), pid - 4_000)
        };
        rows.into_iter().map(read).collect()
    };
    let new = |number| ("alert.new".to_owned(), 0, 1, number);
    let again = |generation, count, number| ("alert.repeated".to_owned(), generation, count, number);
    // One after the other: told of at some of them, each with the process that came last.
    for number in 1..=6 {
        record(&*store, 1, &[&detection(1, number, 0, "miner", "/tmp/xmrig")], &[]);
    }
    assert_eq!(told(&*store), [new(1), again(1, 2, 2), again(2, 5, 5)]);
    // A batch of many tells of it once, with the last of them.
    let many: Vec<Detection> =
        (7..=60).map(|number| detection(1, number, 1, "miner", "/tmp/xmrig")).collect();
    let references: Vec<&Detection> = many.iter().collect();
    record(&*store, 1, &references, &[]);
    record(&*store, 1, &references, &[]);
    assert_eq!(told(&*store)[3..], [again(3, 60, 60)]);
    let id = AlertId::opened_by(host_id(1), detection(1, 1, 0, "miner", "/tmp/xmrig").id);
    drop(store);
    let store = open(place);
    let pid_of = |detail: crate::AlertDetail| detail.alert.process.expect("a process").pid;
    let as_told = store.alert_as_told(id, 2).expect("a look-up").expect("it was told");
    assert_eq!((as_told.generation, as_told.alert.count), (2, 5));
    assert_eq!(as_told.event["process"]["pid"], 4_005);
    assert_eq!(pid_of(as_told), Some(4_005));
    let opened = store.alert_as_told(id, 0).expect("a look-up").expect("it is there");
    assert_eq!(pid_of(opened), Some(4_001), "the alert itself stays as it was opened");
    assert!(store.alert_as_told(id, 4).expect("a look-up").is_none());
    // The same program each minute is few repeats, and is told of all the same.
    let later = detection(1, 61, 400, "miner", "/tmp/xmrig");
    let input = DetectionInput { detection: &later, host_name: "web-1", agent_version: None };
    let findings = Findings { host: host_id(1), detections: vec![input], receipts: Vec::new() };
    store.record_findings(&findings, after_noon(400)).expect("recorded");
    assert_eq!(told(&*store)[4..], [again(4, 61, 61)]);
}

pub(super) fn what_comes_again_changes_nothing(place: &Path, open: Open<'_>) {
    let store = open(place);
    let many: Vec<Detection> =
        (1..=40).map(|number| detection(1, number, 0, "miner", "/tmp/xmrig")).collect();
    let references: Vec<&Detection> = many.iter().collect();
    let done = receipt(1, &many[0], ReceiptState::Verified);
    record(&*store, 1, &references, &[&done]);
    let before = all(&*store);
    assert_eq!(before[0].count, 40);
    let posted = store.outbox(100).expect("the outbox").len();
    drop(store);
    let store = open(place);
    let again = record(&*store, 1, &references, &[&done]);
    assert!(again.changed.is_empty() && kinds(&again).iter().all(|kind| *kind == AlreadyKnown), "{again:?}");
    assert!(again.detections.iter().all(|change| change.alert == before[0].id), "it still says whose it is");
    assert_eq!(all(&*store), before);
    assert_eq!(store.outbox(100).expect("the outbox").len(), posted);
}

pub(super) fn an_agent_speaks_only_for_itself(place: &Path, open: Open<'_>) {
    let store = open(place);
    let honest = detection(1, 1, 0, "miner", "/tmp/xmrig");
    let proof = receipt(1, &honest, ReceiptState::Verified);
    // Host 2 names host 1's detection and receipt before host 1 does.
    let forged = receipt(1, &honest, ReceiptState::Failed);
    record(&*store, 2, &[&honest], &[&forged]);
    assert_eq!(kinds(&record(&*store, 1, &[&honest], &[&proof])), [New], "host 1 is heard all the same");
    record(&*store, 2, &[], &[&receipt(2, &honest, ReceiptState::Failed), &forged]);
    let id = AlertId::opened_by(host_id(1), honest.id);
    let alert = store.alert(id).expect("a look-up").expect("host 1's alert").alert;
    assert_eq!((alert.host_id, alert.responses), (host_id(1), vec![proof]));
}

pub(super) fn receipts_find_their_alerts(place: &Path, open: Open<'_>) {
    let store = open(place);
    let first = detection(1, 1, 0, "miner", "/tmp/xmrig");
    let second = detection(1, 2, 1, "miner", "/tmp/xmrig");
    let id = AlertId::opened_by(host_id(1), first.id);

    let early = receipt(1, &first, ReceiptState::Sent);
    let outcome = record(&*store, 1, &[], &[&early]);
    assert!(outcome.changed.is_empty(), "nobody to tell yet");
    record(&*store, 1, &[&first], &[]);
    assert_eq!(all(&*store)[0].responses, [early]);

    let proved = receipt(1, &first, ReceiptState::Verified);
    let of_repeat = receipt(2, &second, ReceiptState::Refused);
    let outcome = record(&*store, 1, &[&second], &[&proved, &of_repeat]);
    assert_eq!(outcome.changed, [id], "once, for three reasons");
    let rule_of = |host, id| store.rule_of_detection(host_id(host), id).expect("a look-up");
    assert_eq!(rule_of(1, first.id), Some(first.rule.id.clone()));
    assert_eq!(rule_of(1, second.id), Some(second.rule.id.clone()), "also of what repeats an alert");
    assert_eq!(rule_of(2, first.id), None, "each host's detections are its own");
    assert_eq!(all(&*store)[0].responses, [proved, of_repeat]);

    let many: Vec<_> = (10..80).map(|number| receipt(number, &first, ReceiptState::Verified)).collect();
    record(&*store, 1, &[], &many.iter().collect::<Vec<_>>());
    let shown = &all(&*store)[0].responses;
    assert_eq!((shown.len(), shown.last()), (50, many.last()), "the newest");
}

pub(super) fn alerts_are_worked_on(place: &Path, open: Open<'_>) {
    let store = open(place);
    let first = detection(1, 1, 0, "miner", "/tmp/xmrig");
    record(&*store, 1, &[&first], &[]);
    let id = AlertId::opened_by(host_id(1), first.id);
    let update = |update: AlertUpdate| store.update_alert(id, &update, "eve", after_noon(5));

    let taken = update(AlertUpdate {
        status: Some(AlertStatus::InProgress),
        assignee: Some(Some("eve".to_owned())),
        note: Some("looking".to_owned()),
        ..AlertUpdate::default()
    });
    let taken = taken.expect("changed");
    assert_eq!((taken.status, taken.assignee.as_deref()), (AlertStatus::InProgress, Some("eve")));
    for (what, refused) in [
        (
            "closed without a reason",
            AlertUpdate { status: Some(AlertStatus::Closed), ..AlertUpdate::default() },
        ),
        (
            "a reason without closing",
            AlertUpdate { close_reason: Some(CloseReason::Benign), ..AlertUpdate::default() },
        ),
    ] {
        let result = update(refused);
        assert!(matches!(result, Err(StateError::Invalid(_))), "{what}: {result:?}");
    }
    let closed = update(AlertUpdate {
        status: Some(AlertStatus::Closed),
        close_reason: Some(CloseReason::FalsePositive),
        note: Some("a test".to_owned()),
        assignee: Some(None),
    });
    let closed = closed.expect("closed");
    assert_eq!((closed.close_reason, closed.assignee), (Some(CloseReason::FalsePositive), None));
    assert_eq!(kinds(&record(&*store, 1, &[&first], &[])), [AlreadyKnown], "a closed alert stays closed");
    let next = detection(1, 2, 60, "miner", "/tmp/xmrig");
    assert_eq!(kinds(&record(&*store, 1, &[&next], &[])), [New], "what comes after it is news");
    let corrected =
        update(AlertUpdate { close_reason: Some(CloseReason::TruePositive), ..AlertUpdate::default() });
    assert_eq!(corrected.expect("still closed").close_reason, Some(CloseReason::TruePositive));
    let reopened = update(AlertUpdate { status: Some(AlertStatus::New), ..AlertUpdate::default() });
    assert_eq!(reopened.expect("reopened").close_reason, None);

    drop(store);
    let store = open(place);
    let notes = store.alert(id).expect("a look-up").expect("the alert").notes;
    let texts: Vec<_> = notes.iter().map(|note| (note.by.as_str(), note.text.as_str(), note.at)).collect();
    assert_eq!(texts, [("eve", "looking", after_noon(5)), ("eve", "a test", after_noon(5))]);
    let nobody = AlertId::from_uuid(Uuid::nil());
    assert_eq!(store.alert(nobody).expect("a look-up"), None);
    let missing = store.update_alert(nobody, &AlertUpdate::default(), "eve", after_noon(0));
    assert!(matches!(missing, Err(StateError::NotFound { what: "alert", .. })), "{missing:?}");
}

pub(super) fn alerts_are_listed(place: &Path, open: Open<'_>) {
    let store = open(place);
    for number in 1..=20 {
        let host = 1 + (number % 2) as u8;
        let rule = if number % 4 == 0 { "low" } else { "miner" };
        // Two of each second, so that the order of equals is tested.
        let seconds = (number / 2) as i64;
        record(
            &*store,
            host,
            &[&detection(host, number, seconds, rule, &format!("/tmp/Tool-{number}"))],
            &[],
        );
    }
    let everything = all(&*store);
    assert_eq!(everything.len(), 20);
    assert!(everything.windows(2).all(|pair| pair[0].time >= pair[1].time));
    let closed = everything[3].id;
    let close = AlertUpdate {
        status: Some(AlertStatus::Closed),
        close_reason: Some(CloseReason::Benign),
        ..AlertUpdate::default()
    };
    store.update_alert(closed, &close, "eve", after_noon(9)).expect("closed");

    let none = AlertQuery::default();
    type Wanted<'a> = &'a dyn Fn(&Alert) -> bool;
    let queries: [(&str, AlertQuery, Wanted<'_>); 8] = [
        ("all", none.clone(), &|_| true),
        ("closed", AlertQuery { status: vec![AlertStatus::Closed], ..none.clone() }, &|alert| {
            alert.id == closed
        }),
        (
            "open",
            AlertQuery { status: vec![AlertStatus::New, AlertStatus::InProgress], ..none.clone() },
            &|alert| alert.id != closed,
        ),
        ("low", AlertQuery { severity: vec![Severity::Low], ..none.clone() }, &|alert| {
            alert.rule.severity == Severity::Low
        }),
        ("one host", AlertQuery { host: Some(host_id(1)), ..none.clone() }, &|alert| {
            alert.host_id == host_id(1)
        }),
        ("one rule", AlertQuery { rule: Some(RuleId::new("miner")), ..none.clone() }, &|alert| {
            alert.rule.id == RuleId::new("miner")
        }),
        ("text", AlertQuery { text: Some("tool-1".to_owned()), ..none.clone() }, &|alert| {
            alert.process.as_ref().is_some_and(|process| process.executable.contains("Tool-1"))
        }),
        ("a span", AlertQuery { from: Some(after_noon(3)), until: Some(after_noon(6)), ..none }, &|alert| {
            (after_noon(3)..after_noon(6)).contains(&alert.time)
        }),
    ];
    for (what, query, wanted) in queries {
        let expected: Vec<AlertId> =
            everything.iter().filter(|alert| wanted(alert)).map(|alert| alert.id).collect();
        let mut query = AlertQuery { limit: 3, ..query };
        let mut found = Vec::new();
        loop {
            let page = store.alerts(&query).expect("alerts");
            assert!(page.items.len() <= 3);
            found.extend(page.items.iter().map(|alert| alert.id));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{what}");
    }
    for bad in ["", "x", "1.x", "1'; DROP TABLE alerts; --.1"] {
        let refused = store.alerts(&AlertQuery { cursor: Some(bad.to_owned()), ..AlertQuery::default() });
        assert!(matches!(refused, Err(StateError::Invalid(_))), "{bad}: {refused:?}");
    }
}

pub(super) fn alerts_are_counted(place: &Path, open: Open<'_>) {
    let store = open(place);
    enroll(&*store, &[1]);
    for (number, seconds, rule) in [(1, 0, "miner"), (2, 1, "miner"), (3, 7_300, "low"), (4, -3_600, "miner")]
    {
        record(&*store, 1, &[&detection(1, number, seconds, rule, &format!("/tmp/{number}"))], &[]);
    }
    let closing = AlertUpdate {
        status: Some(AlertStatus::Closed),
        close_reason: Some(CloseReason::Benign),
        ..AlertUpdate::default()
    };
    let last = all(&*store).last().expect("alerts").id;
    store.update_alert(last, &closing, "eve", after_noon(0)).expect("closed");

    let open: Vec<_> =
        store.open_alerts_by_severity().expect("counts").iter().map(|c| (c.severity, c.open)).collect();
    let expected = [
        (Severity::Critical, 0),
        (Severity::High, 2),
        (Severity::Medium, 0),
        (Severity::Low, 1),
        (Severity::Informational, 0),
    ];
    assert_eq!(open, expected);
    assert_eq!(store.host(host_id(1)).expect("a look-up").expect("host 1").open_alerts, 3);
    let hours = store.alerts_per_hour(4, after_noon(7_400)).expect("counts");
    let counts: Vec<_> = hours.iter().map(|hour| hour.count).collect();
    assert_eq!((counts, hours[1].hour), (vec![1, 2, 0, 1], after_noon(0)));
    let rules = store.alerts_by_rule(after_noon(0), 10).expect("counts");
    let rules: Vec<_> =
        rules.iter().map(|rule| (rule.rule_id.as_str(), rule.name.as_str(), rule.count)).collect();
    assert_eq!(rules, [("miner", "Rule miner", 2), ("low", "Rule low", 1)]);
    assert_eq!(store.alerts_by_rule(after_noon(0), 1).expect("counts").len(), 1);
}

pub(super) fn old_alerts_go(place: &Path, open: Open<'_>) {
    let store = open(place);
    let old = detection(1, 1, 0, "miner", "/tmp/a");
    let renewed = detection(1, 2, 0, "miner", "/tmp/b");
    let renewal = detection(1, 3, 3_000, "miner", "/tmp/b");
    let proof = receipt(1, &old, ReceiptState::Verified);
    record(&*store, 1, &[&old, &renewed, &renewal], &[&proof]);
    assert_eq!(store.delete_alerts_before(after_noon(3_000)).expect("removed"), 1);
    let left = all(&*store);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, AlertId::opened_by(host_id(1), renewed.id), "what goes on is not old");
    assert_eq!(store.delete_alerts_before(after_noon(3_001)).expect("removed"), 1);
    assert!(all(&*store).is_empty());
}

/// Opens so many alerts, and with each one posts a message.
pub(super) fn fill_outbox(store: &dyn StateStore, count: u64) {
    let detections: Vec<_> =
        (1..=count).map(|number| detection(1, number, 0, "miner", &format!("/tmp/{number}"))).collect();
    for batch in detections.chunks(1_000) {
        record(store, 1, &batch.iter().collect::<Vec<_>>(), &[]);
    }
}

/// An alert of its own for each number.
pub(super) fn opened(store: &dyn StateStore, number: u64) -> AlertId {
    if number == 1 {
        enroll(store, &[1]);
    }
    let found = detection(1, number, 0, &format!("rule-{number}"), "/tmp/xmrig");
    let outcome = record(store, 1, &[&found], &[]);
    outcome.detections[0].alert
}
