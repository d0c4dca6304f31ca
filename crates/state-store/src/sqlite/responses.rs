//! Ordered actions. Each has one row; its state only goes forward.

use event_model::{HostId, Timestamp};
use rusqlite::{Row, params};
use uuid::Uuid;

use super::{Columns, Result, SqliteStateStore, as_i64, collect, execute, first};
use crate::{NewResponse, Page, Response, ResponseState, ResponseStore, StateError};

/// Commands that may wait for one host.
const MOST_WAITING: i64 = 1_000;

/// What was sent and not answered is asked for so long after its end: the link may have broken between
/// the act and its receipt. An agent begins nothing that has expired; it tells what it did.
const ASKED_FOR_NS: i64 = 7 * 24 * 3_600 * 1_000_000_000;

impl ResponseStore for SqliteStateStore {
    fn create_response(&self, new: &NewResponse, now: Timestamp) -> Result<()> {
        let doing = "order a response";
        self.write(doing, |transaction| {
            let sql = "SELECT count(*) AS count FROM responses WHERE host_id = ? AND state IN ('queued', 'sent')
                       AND expires_at > ?";
            let values = params![new.host.as_bytes(), now.as_nanos()];
            let waiting = first(transaction, doing, sql, values, |row| row.count("count"))?.unwrap_or(0);
            if as_i64(waiting) >= MOST_WAITING {
                let reason = format!("{MOST_WAITING} responses wait for this host already; cancel some first");
                return Err(StateError::Invalid(reason));
            }
            let sql = "INSERT INTO responses (id, host_id, created_at, created_by, action, order_json, dry_run, comment,
                       expires_at, undo_of, state, state_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)";
            let undo_of = new.undo_of.map(|id| id.as_bytes().to_vec());
            let values = params![
                new.id.as_bytes(),
                new.host.as_bytes(),
                now.as_nanos(),
                new.created_by,
                new.action,
                new.order,
                new.dry_run,
                new.comment,
                new.expires_at.as_nanos(),
                undo_of,
                now.as_nanos()
            ];
            execute(transaction, doing, sql, values).map(|_| ())
        })
    }

    fn response(&self, id: Uuid) -> Result<Option<Response>> {
        let doing = "read a response";
        self.read(doing, |transaction| {
            first(transaction, doing, "SELECT * FROM responses WHERE id = ?", [id.as_bytes()], response)
        })
    }

    fn responses(&self, host: Option<HostId>, cursor: Option<&str>, limit: usize) -> Result<Page<Response>> {
        let doing = "list responses";
        let limit = limit.clamp(1, 500);
        let before: i64 = match cursor {
            None => i64::MAX,
            Some(cursor) => {
                cursor.parse().map_err(|_| StateError::Invalid(format!("`{cursor}` is not a cursor")))?
            }
        };
        let host = host.map(|host| host.as_bytes().to_vec());
        let mut items = self.read(doing, |transaction| {
            // Without results: a page of lists of processes would be gigabytes.
            let sql =
                "SELECT number, id, host_id, created_at, created_by, action, order_json, dry_run, comment,
                       expires_at, undo_of, state, state_at, json_remove(receipt, '$.result') AS receipt
                       FROM responses WHERE number < ?1 AND (?2 IS NULL OR host_id = ?2)
                       ORDER BY number DESC LIMIT ?3";
            let values = params![before, host, as_i64(limit as u64 + 1)];
            collect(transaction, doing, sql, values, |row| Ok((row.count("number")?, response(row)?)))
        })?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|(number, _)| number.to_string());
        Ok(Page { items: items.into_iter().map(|(_, response)| response).collect(), next_cursor })
    }

    fn waiting_responses(&self, host: HostId, now: Timestamp) -> Result<Vec<Response>> {
        let doing = "read what waits for a host";
        self.read(doing, |transaction| {
            let sql = "SELECT * FROM responses WHERE host_id = ?1 AND (state = 'queued' AND expires_at > ?2
                       OR state = 'sent' AND expires_at > ?3) ORDER BY number LIMIT ?4";
            let asked_since = now.as_nanos().saturating_sub(ASKED_FOR_NS);
            let values = params![host.as_bytes(), now.as_nanos(), asked_since, MOST_WAITING];
            collect(transaction, doing, sql, values, response)
        })
    }

    fn mark_response_sent(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        self.step(id, now, "UPDATE responses SET state = 'sent', state_at = ?2 WHERE id = ?1 AND state IN ('queued', 'sent')")
    }

    fn cancel_response(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        self.step(
            id,
            now,
            "UPDATE responses SET state = 'cancelled', state_at = ?2 WHERE id = ?1 AND state = 'queued'",
        )
    }

    fn record_response(
        &self,
        host: HostId,
        id: Uuid,
        state: ResponseState,
        receipt: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let doing = "record a response";
        self.write(doing, |transaction| {
            // Only its own host may tell of it, and only of what was sent.
            let sql = "UPDATE responses SET state = ?3, state_at = ?4, receipt = ?5
                       WHERE id = ?1 AND host_id = ?2 AND state IN ('sent', 'applied')";
            let values = params![id.as_bytes(), host.as_bytes(), state.as_str(), now.as_nanos(), receipt];
            Ok(execute(transaction, doing, sql, values)? > 0)
        })
    }

    fn expire_responses(&self, now: Timestamp) -> Result<u64> {
        let doing = "expire responses";
        self.write(doing, |transaction| {
            let sql = "UPDATE responses SET state = 'expired', state_at = ?1 WHERE state = 'queued' AND expires_at <= ?1";
            Ok(execute(transaction, doing, sql, [now.as_nanos()])? as u64)
        })
    }
}

impl SqliteStateStore {
    fn step(&self, id: Uuid, now: Timestamp, sql: &str) -> Result<bool> {
        let doing = "change a response's state";
        self.write(doing, |transaction| {
            Ok(execute(transaction, doing, sql, params![id.as_bytes(), now.as_nanos()])? > 0)
        })
    }
}

fn response(row: &Row<'_>) -> Result<Response> {
    let undo_of = row.bytes("undo_of")?.and_then(|bytes| Uuid::from_slice(&bytes).ok());
    Ok(Response {
        id: row.uuid("id")?,
        host: row.host_id("host_id")?,
        created_at: row.time("created_at")?,
        created_by: row.text("created_by")?,
        action: row.text("action")?,
        order: row.text("order_json")?,
        dry_run: row.flag("dry_run")?,
        comment: row.text("comment")?,
        expires_at: row.time("expires_at")?,
        undo_of,
        state: row.word("state", ResponseState::from_word)?,
        state_at: row.time("state_at")?,
        receipt: row.optional_text("receipt")?,
    })
}
