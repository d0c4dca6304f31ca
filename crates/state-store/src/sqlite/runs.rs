//! Runs of playbooks. A run belongs to the responder that told of it first, and goes with its alert.

use event_model::Timestamp;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{Columns, Result, SqliteStateStore, as_i64, collect, execute, first};
use crate::{AlertId, NewRun, Page, PlaybookRun, RunQuery, RunReport, RunState, RunStore, StateError};

/// How long a run may wait for a responder.
const REQUEST_NS: i64 = 600 * 1_000_000_000;

/// Runs that may wait for a responder.
const MOST_REQUESTED: u64 = 200;

const COLUMNS: &str =
    "number, id, alert_id, playbook, dry_run, requested_by, requested_at, responder, state, state_at,
    undo_by, undo_at, report";

impl RunStore for SqliteStateStore {
    fn request_run(&self, new: &NewRun, now: Timestamp) -> Result<bool> {
        let doing = "ask for a run";
        self.write(doing, |transaction| {
            expire(transaction, doing, now)?;
            of_alert(transaction, doing, new.alert)?;
            if one(transaction, doing, new.id)?.is_some() {
                return Ok(false);
            }
            let sql = "SELECT count(*) AS count FROM playbook_runs WHERE state = 'requested'";
            if first(transaction, doing, sql, (), |row| row.count("count"))?.unwrap_or(0) >= MOST_REQUESTED {
                let reason = format!(
                    "{MOST_REQUESTED} runs wait for a responder already; hint: look whether one runs and reaches the bus"
                );
                return Err(StateError::Invalid(reason));
            }
            let sql = "INSERT INTO playbook_runs (id, alert_id, playbook, dry_run, requested_by, requested_at, responder,
                       state, state_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, '', 'requested', ?6)";
            let values = params![
                new.id.as_bytes(),
                new.alert.as_uuid().as_bytes(),
                new.playbook,
                new.dry_run,
                new.requested_by,
                now.as_nanos()
            ];
            execute(transaction, doing, sql, values).map(|_| true)
        })
    }

    fn record_run(&self, report: &RunReport, now: Timestamp) -> Result<bool> {
        let doing = "note how far a run came";
        self.write(doing, |transaction| {
            of_alert(transaction, doing, report.alert)?;
            let Some(found) = one(transaction, doing, report.id)? else {
                let sql = "INSERT INTO playbook_runs (id, alert_id, playbook, dry_run, requested_by, requested_at,
                           responder, state, state_at, report) VALUES (?1, ?2, ?3, ?4, '', ?5, ?6, ?7, ?5, ?8)";
                let values = params![
                    report.id.as_bytes(),
                    report.alert.as_uuid().as_bytes(),
                    report.playbook,
                    report.dry_run,
                    now.as_nanos(),
                    report.responder,
                    report.state.as_str(),
                    report.report
                ];
                return execute(transaction, doing, sql, values).map(|_| true);
            };
            let is_same = found.alert == report.alert
                && found.playbook == report.playbook
                && found.dry_run == report.dry_run
                && (found.responder.is_empty() || found.responder == report.responder);
            if !is_same {
                return Ok(false);
            }
            // An undoing that was asked for is done with once its outcome is told.
            let is_answered = matches!(report.state, RunState::Undone | RunState::Abandoned);
            let sql = "UPDATE playbook_runs SET responder = ?2, state = ?3, report = ?5,
                       state_at = CASE WHEN state = ?3 THEN state_at ELSE ?4 END,
                       undo_by = CASE WHEN ?6 THEN NULL ELSE undo_by END,
                       undo_at = CASE WHEN ?6 THEN NULL ELSE undo_at END
                       WHERE id = ?1";
            let values = params![
                report.id.as_bytes(),
                report.responder,
                report.state.as_str(),
                now.as_nanos(),
                report.report,
                is_answered
            ];
            execute(transaction, doing, sql, values).map(|_| true)
        })
    }

    fn request_run_undo(&self, id: Uuid, by: &str, now: Timestamp) -> Result<bool> {
        let doing = "ask for a run to be undone";
        self.write(doing, |transaction| {
            let sql = "UPDATE playbook_runs SET undo_by = ?2, undo_at = ?3
                       WHERE id = ?1 AND NOT dry_run AND undo_at IS NULL
                       AND state IN ('completed', 'stopped', 'timed_out')";
            Ok(execute(transaction, doing, sql, params![id.as_bytes(), by, now.as_nanos()])? > 0)
        })
    }

    fn run(&self, id: Uuid) -> Result<Option<PlaybookRun>> {
        let doing = "read a run";
        self.read(doing, |transaction| one(transaction, doing, id))
    }

    fn runs(&self, query: &RunQuery) -> Result<Page<PlaybookRun>> {
        let doing = "list runs";
        let limit = query.limit.clamp(1, 500);
        let before: i64 = match &query.cursor {
            None => i64::MAX,
            Some(cursor) => {
                cursor.parse().map_err(|_| StateError::Invalid(format!("`{cursor}` is not a cursor")))?
            }
        };
        let mut items = self.read(doing, |transaction| {
            let sql = format!(
                "SELECT {COLUMNS} FROM playbook_runs WHERE number < ?1 AND (?2 IS NULL OR alert_id = ?2)
                 AND (NOT ?3 OR state = 'requested' OR undo_at IS NOT NULL) ORDER BY number DESC LIMIT ?4"
            );
            let alert = query.alert.map(|alert| alert.as_uuid().as_bytes().to_vec());
            let values = params![before, alert, query.waiting, as_i64(limit as u64 + 1)];
            collect(transaction, doing, &sql, values, |row| Ok((row.count("number")?, run(row)?)))
        })?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|(number, _)| number.to_string());
        Ok(Page { items: items.into_iter().map(|(_, run)| run).collect(), next_cursor })
    }

    fn expire_runs(&self, now: Timestamp) -> Result<u64> {
        let doing = "expire runs";
        self.write(doing, |transaction| expire(transaction, doing, now))
    }
}

fn expire(connection: &Connection, doing: &'static str, now: Timestamp) -> Result<u64> {
    let sql = "UPDATE playbook_runs SET state = 'abandoned', state_at = ?1 WHERE state = 'requested' AND requested_at <= ?2";
    let values = params![now.as_nanos(), now.as_nanos().saturating_sub(REQUEST_NS)];
    Ok(execute(connection, doing, sql, values)? as u64)
}

fn of_alert(connection: &Connection, doing: &'static str, alert: AlertId) -> Result<()> {
    let sql = "SELECT number FROM alerts WHERE id = ?";
    let found = first(connection, doing, sql, [alert.as_uuid().as_bytes()], |row| row.count("number"))?;
    found.map(|_| ()).ok_or_else(|| StateError::NotFound { what: "alert", key: alert.to_string() })
}

fn one(connection: &Connection, doing: &'static str, id: Uuid) -> Result<Option<PlaybookRun>> {
    let sql = format!("SELECT {COLUMNS} FROM playbook_runs WHERE id = ?");
    first(connection, doing, &sql, [id.as_bytes()], run)
}

fn run(row: &Row<'_>) -> Result<PlaybookRun> {
    let undo_requested = row.optional_text("undo_by")?.zip(row.optional_time("undo_at")?);
    Ok(PlaybookRun {
        id: row.uuid("id")?,
        alert: AlertId::from_uuid(row.uuid("alert_id")?),
        playbook: row.text("playbook")?,
        dry_run: row.flag("dry_run")?,
        requested_by: row.text("requested_by")?,
        requested_at: row.time("requested_at")?,
        responder: row.text("responder")?,
        state: row.word("state", RunState::from_word)?,
        state_at: row.time("state_at")?,
        undo_requested,
        report: row.optional_text("report")?,
    })
}
