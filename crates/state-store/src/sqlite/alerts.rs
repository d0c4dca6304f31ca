//! Alerts, made from what agents found.

use std::collections::HashMap;

use event_model::{
    Detection, DetectionId, Field, FieldSource, HostId, ResponseReceipt, RuleId, Timestamp, ValueRef,
    event_to_ecs,
};
use rusqlite::{Connection, params};

use super::activity::post;
use super::alert_queries as queries;
use super::{Columns, Result, SqliteStateStore, as_i64, execute, first, to_json};
use crate::alert::{REPEAT_WINDOW, is_told_again};
use crate::{
    Alert, AlertChange, AlertChangeKind, AlertDetail, AlertId, AlertProcess, AlertQuery, AlertStatus,
    AlertStore, AlertUpdate, DetectionInput, Findings, FindingsOutcome, HourCount, Page, RuleCount,
    SeverityCount, StateError,
};

/// Detections of one alert whose events are kept with it; all are in the event
/// store too, until retention takes them there.
const EVENTS_KEPT: u64 = 20;

/// Detections of one alert whose ids are kept, so that they are known when they
/// come again. Only what was sent last can come again, and a batch has fewer.
const IDS_KEPT: u64 = 10_000;

/// Tellings of one alert whose detections are kept: a responder that takes one from the bus asks for it.
const REPEATS_KEPT: i64 = 100;

const RECORDING: &str = "record detections";

impl AlertStore for SqliteStateStore {
    fn record_findings(&self, findings: &Findings<'_>, now: Timestamp) -> Result<FindingsOutcome> {
        let mut outcome = FindingsOutcome::default();
        if findings.detections.is_empty() && findings.receipts.is_empty() {
            return Ok(outcome);
        }
        self.write(RECORDING, |transaction| {
            let mut changed = |alert: AlertId| {
                if !outcome.changed.contains(&alert) {
                    outcome.changed.push(alert);
                }
            };
            for input in &findings.detections {
                let change = record_detection(transaction, findings.host, input)?;
                if change.kind != AlertChangeKind::AlreadyKnown {
                    changed(change.alert);
                }
                outcome.detections.push(change);
            }
            for receipt in &findings.receipts {
                record_receipt(transaction, findings.host, receipt, now)?.into_iter().for_each(&mut changed);
            }
            // Posted last, so that the message tells what was done already.
            let changes = || findings.detections.iter().zip(&outcome.detections);
            for (_, change) in changes().filter(|(_, change)| change.kind == AlertChangeKind::New) {
                tell_new(transaction, change.alert, now)?;
            }
            // Of an alert that repeats, the latest detection is what can still be acted on.
            let repeats = changes().filter(|(_, change)| change.kind == AlertChangeKind::Repeated);
            let latest: HashMap<AlertId, _> = repeats.map(|(input, change)| (change.alert, input)).collect();
            for id in &outcome.changed {
                if let Some(input) = latest.get(id) {
                    tell_again(transaction, *id, input, now)?;
                }
            }
            Ok(outcome)
        })
    }

    fn alerts(&self, query: &AlertQuery) -> Result<Page<Alert>> {
        self.read("list alerts", |transaction| queries::alerts(transaction, query))
    }

    fn alert(&self, id: AlertId) -> Result<Option<AlertDetail>> {
        self.read("read an alert", |transaction| queries::detail(transaction, id))
    }

    fn alert_as_told(&self, id: AlertId, generation: u32) -> Result<Option<AlertDetail>> {
        self.read("read an alert", |transaction| queries::told(transaction, id, generation))
    }

    fn rule_of_detection(&self, host: HostId, id: DetectionId) -> Result<Option<RuleId>> {
        let doing = "read a detection's rule";
        let sql = "SELECT rule_id FROM alerts WHERE id =
                   (SELECT alert_id FROM detections WHERE host_id = ? AND id = ?)";
        self.read(doing, |transaction| {
            let values = params![host.as_bytes(), id.as_bytes()];
            first(transaction, doing, sql, values, |row| row.text("rule_id").map(RuleId::new))
        })
    }

    fn update_alert(&self, id: AlertId, update: &AlertUpdate, by: &str, now: Timestamp) -> Result<Alert> {
        self.write("change an alert", |transaction| update_alert(transaction, id, update, by, now))
    }

    fn open_alerts_by_severity(&self) -> Result<Vec<SeverityCount>> {
        self.read("count alerts", |transaction| queries::open_by_severity(transaction))
    }

    fn alerts_per_hour(&self, hours: u32, now: Timestamp) -> Result<Vec<HourCount>> {
        self.read("count alerts", |transaction| queries::per_hour(transaction, hours, now))
    }

    fn alerts_by_rule(&self, since: Timestamp, limit: usize) -> Result<Vec<RuleCount>> {
        self.read("count alerts", |transaction| queries::by_rule(transaction, since, limit))
    }

    fn delete_alerts_before(&self, before: Timestamp) -> Result<u64> {
        let doing = "remove old alerts";
        self.write(doing, |transaction| {
            // An alert's first time is never after its last, and has the index.
            let sql = "DELETE FROM alerts WHERE number IN (
                           SELECT number FROM alerts WHERE time < ?1 AND last_time < ?1 LIMIT 1000)";
            let removed = execute(transaction, doing, sql, [before.as_nanos()])?;
            let sql = "DELETE FROM receipts WHERE alert_id IS NULL AND received_at < ?";
            execute(transaction, doing, sql, [before.as_nanos()])?;
            Ok(removed as u64)
        })
    }
}

fn record_detection(
    connection: &Connection,
    host: HostId,
    input: &DetectionInput<'_>,
) -> Result<AlertChange> {
    let detection = input.detection;
    let own = AlertId::opened_by(host, detection.id);
    let known = first(
        connection,
        RECORDING,
        "SELECT alert_id FROM detections WHERE host_id = ?1 AND id = ?2
         UNION ALL SELECT id FROM alerts WHERE id = ?3",
        params![host.as_bytes(), detection.id.as_bytes(), own.as_uuid().as_bytes()],
        |row| row.uuid("alert_id").map(AlertId::from_uuid),
    )?;
    if let Some(alert) = known {
        return Ok(AlertChange { alert, kind: AlertChangeKind::AlreadyKnown });
    }

    let at = detection.event.header.observed_at.as_nanos();
    let window = REPEAT_WINDOW.as_nanos() as i64;
    let repeats = first(
        connection,
        RECORDING,
        "SELECT id, count FROM alerts
         WHERE host_id = ? AND rule_id = ? AND executable = ? AND last_time BETWEEN ? AND ?
             AND status <> 'closed' AND json_extract(rule, '$.mode') = ?
         ORDER BY last_time DESC LIMIT 1",
        params![
            host.as_bytes(),
            detection.rule.id.as_str(),
            executable(detection),
            at.saturating_sub(window),
            at.saturating_add(window),
            // What was only reported and what was acted on must not read as one.
            detection.rule.mode.as_str()
        ],
        |row| Ok((AlertId::from_uuid(row.uuid("id")?), row.count("count")?)),
    )?;
    let (change, count) = match repeats {
        Some((alert, count)) => {
            let sql = "UPDATE alerts SET count = count + 1, last_time = max(last_time, ?) WHERE id = ?";
            execute(connection, RECORDING, sql, params![at, alert.as_uuid().as_bytes()])?;
            (AlertChange { alert, kind: AlertChangeKind::Repeated }, count + 1)
        }
        None => {
            insert_alert(connection, host, own, input)?;
            (AlertChange { alert: own, kind: AlertChangeKind::New }, 1)
        }
    };
    // The alert itself has the event of its first detection.
    let keeps_event = (2..=EVENTS_KEPT).contains(&count);
    note_detection(connection, host, input, change.alert, keeps_event.then(|| event_document(input)))?;
    if count > IDS_KEPT && count.is_multiple_of(1_000) {
        forget_old_ids(connection, change.alert)?;
    }
    // A receipt may have come before its detection.
    let sql = "UPDATE receipts SET alert_id = ? WHERE host_id = ? AND detection_id = ? AND alert_id IS NULL";
    let values = params![change.alert.as_uuid().as_bytes(), host.as_bytes(), detection.id.as_bytes()];
    execute(connection, RECORDING, sql, values)?;
    Ok(change)
}

fn insert_alert(
    connection: &Connection,
    host: HostId,
    id: AlertId,
    input: &DetectionInput<'_>,
) -> Result<()> {
    let detection = input.detection;
    let process = process_of(detection);
    let command_line = process.as_ref().map_or("", |process| process.command_line.as_str());
    let sql =
        "INSERT INTO alerts (id, time, last_time, host_id, host_name, rule_id, rule_name, rule, severity,
                   status, count, executable, command_line, process, event, ancestry, matched)
               VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'new', 1, ?9, ?10, ?11, ?12, ?13, ?14)";
    let values = params![
        id.as_uuid().as_bytes(),
        detection.event.header.observed_at.as_nanos(),
        host.as_bytes(),
        input.host_name,
        detection.rule.id.as_str(),
        detection.rule.name,
        to_json(&detection.rule),
        detection.rule.severity.as_str(),
        executable(detection),
        command_line,
        to_json(&process),
        event_document(input),
        to_json(&detection.ancestry),
        to_json(&detection.matched)
    ];
    execute(connection, RECORDING, sql, values).map(|_| ())
}

fn note_detection(
    connection: &Connection,
    host: HostId,
    input: &DetectionInput<'_>,
    alert: AlertId,
    event: Option<String>,
) -> Result<()> {
    let sql = "INSERT INTO detections (host_id, id, alert_id, time, event) VALUES (?, ?, ?, ?, ?)";
    let detection = input.detection;
    let values = params![
        host.as_bytes(),
        detection.id.as_bytes(),
        alert.as_uuid().as_bytes(),
        detection.event.header.observed_at.as_nanos(),
        event
    ];
    execute(connection, RECORDING, sql, values).map(|_| ())
}

fn forget_old_ids(connection: &Connection, alert: AlertId) -> Result<()> {
    let sql = "DELETE FROM detections WHERE alert_id = ?1 AND event IS NULL AND number <= (
                   SELECT number FROM detections WHERE alert_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
    execute(connection, RECORDING, sql, params![alert.as_uuid().as_bytes(), as_i64(IDS_KEPT)]).map(|_| ())
}

fn tell_new(connection: &Connection, id: AlertId, now: Timestamp) -> Result<()> {
    let Some(alert) = queries::detail(connection, id)? else { return Ok(()) };
    let sql = "UPDATE alerts SET told_count = count, told_at = ? WHERE id = ?";
    execute(connection, RECORDING, sql, params![now.as_nanos(), id.as_uuid().as_bytes()])?;
    post(connection, "alert.new", &to_json(&alert), now)
}

/// Tells of an alert once more where its repeats are to be heard of, with what repeats it.
fn tell_again(
    connection: &Connection,
    id: AlertId,
    input: &DetectionInput<'_>,
    now: Timestamp,
) -> Result<()> {
    let key = id.as_uuid().as_bytes();
    let sql = "SELECT count, generation, told_count, told_at FROM alerts WHERE id = ?";
    let found = first(connection, RECORDING, sql, [key], |row| {
        Ok((row.count("count")?, row.count("generation")?, row.count("told_count")?, row.time("told_at")?))
    })?;
    let Some((count, told, told_count, told_at)) = found else { return Ok(()) };
    let generation = u32::try_from(told).unwrap_or(u32::MAX).saturating_add(1);
    if !is_told_again(count, told_count, told_at, now) {
        return Ok(());
    }
    let detection = input.detection;
    let sql = "INSERT OR REPLACE INTO alert_repeats
               (alert_id, generation, time, count, process, event, ancestry, matched) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        key,
        generation,
        detection.event.header.observed_at.as_nanos(),
        as_i64(count),
        to_json(&process_of(detection)),
        event_document(input),
        to_json(&detection.ancestry),
        to_json(&detection.matched)
    ];
    execute(connection, RECORDING, sql, values)?;
    let sql = "DELETE FROM alert_repeats WHERE alert_id = ? AND generation <= ?";
    execute(connection, RECORDING, sql, params![key, i64::from(generation) - REPEATS_KEPT])?;
    let sql = "UPDATE alerts SET generation = ?, told_count = count, told_at = ? WHERE id = ?";
    execute(connection, RECORDING, sql, params![generation, now.as_nanos(), key])?;
    match queries::told(connection, id, generation)? {
        Some(alert) => post(connection, "alert.repeated", &to_json(&alert), now),
        None => Ok(()),
    }
}

/// Gives the alert that the receipt changed.
fn record_receipt(
    connection: &Connection,
    host: HostId,
    receipt: &ResponseReceipt,
    now: Timestamp,
) -> Result<Option<AlertId>> {
    let doing = "record a receipt";
    let detection = receipt.detection_id.as_bytes();
    let sql = "SELECT alert_id FROM detections WHERE host_id = ? AND id = ?";
    let alert =
        first(connection, doing, sql, params![host.as_bytes(), detection], |row| row.uuid("alert_id"))?;
    let sql = "INSERT INTO receipts (host_id, id, detection_id, alert_id, received_at, receipt)
               VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET receipt = excluded.receipt WHERE receipt <> excluded.receipt";
    let values = params![
        host.as_bytes(),
        receipt.id.as_bytes(),
        detection,
        alert.as_ref().map(|alert| alert.as_bytes()),
        now.as_nanos(),
        to_json(receipt)
    ];
    let changed = execute(connection, doing, sql, values)? > 0;
    Ok(alert.filter(|_| changed).map(AlertId::from_uuid))
}

fn update_alert(
    connection: &Connection,
    id: AlertId,
    update: &AlertUpdate,
    by: &str,
    now: Timestamp,
) -> Result<Alert> {
    let doing = "change an alert";
    let missing = || StateError::NotFound { what: "alert", key: id.to_string() };
    let before = queries::alert(connection, id)?.ok_or_else(missing)?;

    let status = update.status.unwrap_or(before.status);
    let close_reason = match (status, update.close_reason.or(before.close_reason)) {
        (AlertStatus::Closed, None) => {
            return Err(StateError::Invalid(
                "a closed alert needs a close reason: true_positive, false_positive, benign or duplicate"
                    .to_owned(),
            ));
        }
        (AlertStatus::Closed, reason) => reason,
        (_, _) if update.close_reason.is_some() => {
            return Err(StateError::Invalid(format!(
                "a close reason is only good with the status closed, not with {status}"
            )));
        }
        (_, _) => None,
    };
    let assignee = update.assignee.clone().unwrap_or(before.assignee);
    let key = id.as_uuid().as_bytes();
    let sql = "UPDATE alerts SET status = ?, close_reason = ?, assignee = ? WHERE id = ?";
    let reason = close_reason.map(crate::CloseReason::as_str);
    execute(connection, doing, sql, params![status.as_str(), reason, assignee, key])?;
    if let Some(note) = &update.note {
        let sql = "INSERT INTO alert_notes (alert_id, at, who, text) VALUES (?, ?, ?, ?)";
        execute(connection, doing, sql, params![key, now.as_nanos(), by, note])?;
    }
    queries::alert(connection, id)?.ok_or_else(missing)
}

fn executable(detection: &Detection) -> &str {
    detection.event.text(Field::ProcessExecutable).unwrap_or_default()
}

fn event_document(input: &DetectionInput<'_>) -> String {
    let context = event_model::EcsContext { host_name: input.host_name, agent_version: input.agent_version };
    event_to_ecs(&input.detection.event, context).to_string()
}

fn process_of(detection: &Detection) -> Option<AlertProcess> {
    let event = &detection.event;
    let text = |field| match event.value(field) {
        Some(ValueRef::Text(text)) => text.into_owned(),
        _ => String::new(),
    };
    let user = event.text(Field::UserName).or(event.text(Field::UserId)).unwrap_or_default();
    Some(AlertProcess {
        entity_id: event.text(Field::ProcessEntityId)?.to_owned(),
        pid: event.integer(Field::ProcessPid),
        executable: text(Field::ProcessExecutable),
        command_line: text(Field::ProcessCommandLine),
        user: user.to_owned(),
    })
}
