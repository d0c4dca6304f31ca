//! Ordered actions. Each has one row; its state only goes forward.

use event_model::{HostId, Timestamp};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{Columns, Result, SqliteStateStore, as_i64, collect, database, execute, first, to_json};
use crate::{AlertId, Decision, NewResponse, Page, Response, ResponseState, ResponseStore, StateError};

/// How long people may take to agree.
const PENDING_NS: i64 = 4 * HOUR_NS;

const HOUR_NS: i64 = 3_600 * 1_000_000_000;

/// Commands that may wait for one host.
const MOST_WAITING: i64 = 1_000;

/// What was sent and not answered is asked for so long after its end: the link may have broken between
/// the act and its receipt. An agent begins nothing that has expired; it tells what it did.
const ASKED_FOR_NS: i64 = 7 * 24 * 3_600 * 1_000_000_000;

const ORDERING: &str = "order a response";

impl ResponseStore for SqliteStateStore {
    fn create_response(&self, new: &NewResponse, now: Timestamp) -> Result<bool> {
        self.write(ORDERING, |transaction| create(transaction, new, now))
    }

    fn create_responses(&self, responses: &[NewResponse], now: Timestamp) -> Result<Vec<bool>> {
        self.write(ORDERING, |transaction| {
            responses.iter().map(|new| create(transaction, new, now)).collect()
        })
    }

    fn decide_response(&self, id: Uuid, decision: &Decision) -> Result<Response> {
        let doing = "decide on a response";
        let now = decision.at;
        self.write(doing, |transaction| {
            let missing = || StateError::NotFound { what: "response", key: id.to_string() };
            let found = one(transaction, doing, id)?.ok_or_else(missing)?;
            if found.state != ResponseState::Pending || found.expires_at <= now {
                let state = if found.state == ResponseState::Pending { ResponseState::Expired } else { found.state };
                return Err(unfit(id, &format!("its state is `{state}`, it does not wait for approval")));
            }
            if found.created_by.eq_ignore_ascii_case(&decision.by) {
                let reason = "who orders an action can't approve or decline it; hint: cancel it, or ask another approver";
                return Err(StateError::Invalid(reason.to_owned()));
            }
            let mut decisions = found.decisions;
            if decisions.iter().any(|one| one.by.eq_ignore_ascii_case(&decision.by)) {
                return Err(unfit(id, &format!("{} has approved it already", decision.by)));
            }
            decisions.push(decision.clone());
            // Others may have been done since it was asked for.
            let fleet_hosts = fleet_hosts(transaction, &found.action, found.host, now)?;
            let sql = "SELECT mass_above, life FROM responses WHERE id = ?";
            let read = |row: &Row<'_>| {
                let mass_above: Option<i64> = row.get("mass_above").map_err(database(doing))?;
                Ok((mass_above, row.get::<_, i64>("life").map_err(database(doing))?))
            };
            let (mass_above, life) = first(transaction, doing, sql, [id.as_bytes()], read)?.ok_or_else(missing)?;
            let is_mass = mass_above.is_some_and(|above| i64::from(fleet_hosts) > above);
            let needed = if is_mass { found.approvals_needed.max(2) } else { found.approvals_needed };
            let agreed = decisions.iter().filter(|one| one.approve).count();
            let (state, expires_at) = match (decision.approve, agreed >= needed as usize) {
                (false, _) => (ResponseState::Declined, found.expires_at.as_nanos()),
                (true, true) => (ResponseState::Queued, now.as_nanos().saturating_add(life)),
                (true, false) => (ResponseState::Pending, found.expires_at.as_nanos()),
            };
            let sql = "UPDATE responses SET state = ?2, state_at = ?3, expires_at = ?4, decisions = ?5,
                       approvals_needed = ?6, fleet_hosts = ?7 WHERE id = ?1";
            let values = params![
                id.as_bytes(),
                state.as_str(),
                now.as_nanos(),
                expires_at,
                to_json(&decisions),
                needed,
                fleet_hosts
            ];
            execute(transaction, doing, sql, values)?;
            one(transaction, doing, id)?.ok_or_else(missing)
        })
    }

    fn release_code(&self, id: Uuid) -> Result<Option<String>> {
        let doing = "read a release code";
        self.read(doing, |transaction| {
            let sql = "SELECT release_code FROM responses WHERE id = ?";
            let found =
                first(transaction, doing, sql, [id.as_bytes()], |row| row.optional_text("release_code"))?;
            Ok(found.flatten())
        })
    }

    fn response(&self, id: Uuid) -> Result<Option<Response>> {
        let doing = "read a response";
        self.read(doing, |transaction| one(transaction, doing, id))
    }

    fn responses(
        &self,
        host: Option<HostId>,
        state: Option<ResponseState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Response>> {
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
            let sql = format!(
                "SELECT {COLUMNS}, json_remove(receipt, '$.result') AS receipt FROM responses
                 WHERE number < ?1 AND (?2 IS NULL OR host_id = ?2) AND (?3 IS NULL OR state = ?3)
                 ORDER BY number DESC LIMIT ?4"
            );
            let state = state.map(ResponseState::as_str);
            let values = params![before, host, state, as_i64(limit as u64 + 1)];
            collect(transaction, doing, &sql, values, |row| Ok((row.count("number")?, response(row)?)))
        })?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|(number, _)| number.to_string());
        Ok(Page { items: items.into_iter().map(|(_, response)| response).collect(), next_cursor })
    }

    fn waiting_responses(&self, host: HostId, now: Timestamp) -> Result<Vec<Response>> {
        let doing = "read what waits for a host";
        self.read(doing, |transaction| {
            let sql = format!(
                "SELECT {COLUMNS}, receipt FROM responses WHERE host_id = ?1 AND (state = 'queued' AND expires_at > ?2
                 OR state = 'sent' AND expires_at > ?3) ORDER BY number LIMIT ?4"
            );
            let asked_since = now.as_nanos().saturating_sub(ASKED_FOR_NS);
            let values = params![host.as_bytes(), now.as_nanos(), asked_since, MOST_WAITING];
            collect(transaction, doing, &sql, values, response)
        })
    }

    fn mark_response_sent(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        self.step(id, now, "UPDATE responses SET state = 'sent', state_at = ?2 WHERE id = ?1 AND state IN ('queued', 'sent')")
    }

    fn cancel_response(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        self.step(
            id,
            now,
            "UPDATE responses SET state = 'cancelled', state_at = ?2 WHERE id = ?1 AND state IN ('pending', 'queued')",
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

    fn note_done(&self, new: &NewResponse, receipt: &str, now: Timestamp) -> Result<bool> {
        let doing = "note what a host did";
        self.write(doing, |transaction| {
            let sql = "INSERT INTO responses (id, host_id, created_at, created_by, action, order_json, dry_run, comment,
                       expires_at, undo_of, state, state_at, life, approvals_needed, fleet_hosts, receipt)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?3, ?8, 'verified', ?3, 0, 0, 1, ?9)
                       ON CONFLICT (id) DO NOTHING";
            let values = params![
                new.id.as_bytes(),
                new.host.as_bytes(),
                now.as_nanos(),
                new.created_by,
                new.action,
                new.order,
                new.comment,
                new.undo_of.map(|id| id.as_bytes().to_vec()),
                receipt,
            ];
            Ok(execute(transaction, doing, sql, values)? > 0)
        })
    }

    fn expire_responses(&self, now: Timestamp) -> Result<u64> {
        let doing = "expire responses";
        self.write(doing, |transaction| {
            let sql = "UPDATE responses SET state = 'expired', state_at = ?1
                       WHERE state IN ('pending', 'queued') AND expires_at <= ?1";
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

fn create(transaction: &Connection, new: &NewResponse, now: Timestamp) -> Result<bool> {
    let doing = ORDERING;
    let sql = "SELECT count(*) AS count FROM responses WHERE id = ?1
               OR (?2 AND host_id = ?3 AND state = 'pending' AND order_json = ?4 AND expires_at > ?5)";
    let asked = new.detection.is_some();
    let values = params![new.id.as_bytes(), asked, new.host.as_bytes(), new.order, now.as_nanos()];
    if first(transaction, doing, sql, values, |row| row.count("count"))?.unwrap_or(0) > 0 {
        return Ok(false);
    }
    let sql = "SELECT count(*) AS count FROM responses WHERE host_id = ?
               AND state IN ('pending', 'queued', 'sent') AND expires_at > ?";
    let values = params![new.host.as_bytes(), now.as_nanos()];
    let waiting = first(transaction, doing, sql, values, |row| row.count("count"))?.unwrap_or(0);
    if as_i64(waiting) >= MOST_WAITING {
        let reason = format!("{MOST_WAITING} responses wait for this host already; cancel some first");
        return Err(StateError::Invalid(reason));
    }
    let fleet_hosts = fleet_hosts(transaction, &new.action, new.host, now)?;
    // What is only tried is no mass action, however often.
    let is_mass = !new.dry_run && new.mass_above.is_some_and(|above| fleet_hosts > above);
    let needed = if is_mass { new.approvals_needed.max(2) } else { new.approvals_needed };
    let life = i64::try_from(new.life.as_nanos()).unwrap_or(i64::MAX);
    let (state, expires_at) = match needed {
        0 => (ResponseState::Queued, now.as_nanos().saturating_add(life)),
        _ => (ResponseState::Pending, now.as_nanos().saturating_add(PENDING_NS)),
    };
    let sql =
        "INSERT INTO responses (id, host_id, created_at, created_by, action, order_json, dry_run, comment,
               expires_at, undo_of, state, state_at, life, approvals_needed, mass_above, fleet_hosts,
               detection_id, release_code, via)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        new.id.as_bytes(),
        new.host.as_bytes(),
        now.as_nanos(),
        new.created_by,
        new.action,
        new.order,
        new.dry_run,
        new.comment,
        expires_at,
        new.undo_of.map(|id| id.as_bytes().to_vec()),
        state.as_str(),
        now.as_nanos(),
        life,
        needed,
        new.mass_above,
        fleet_hosts,
        new.detection.map(|id| id.as_bytes().to_vec()),
        new.release_code,
        new.via,
    ];
    execute(transaction, doing, sql, values).map(|_| true)
}

/// All that is shown of a response but its receipt, with the alert of its detection.
const COLUMNS: &str = "number, id, host_id, created_at, created_by, via, action, order_json, dry_run, comment, expires_at,
    undo_of, state, state_at, approvals_needed, fleet_hosts, decisions,
    (SELECT alert_id FROM detections AS d WHERE d.host_id = responses.host_id AND d.id = detection_id) AS alert_id,
    EXISTS (SELECT 1 FROM responses AS undo WHERE undo.undo_of = responses.id
            AND undo.state IN ('pending', 'queued', 'sent', 'applied', 'verified')) AS is_undone";

fn one(connection: &Connection, doing: &'static str, id: Uuid) -> Result<Option<Response>> {
    let sql = format!("SELECT {COLUMNS}, receipt FROM responses WHERE id = ?");
    first(connection, doing, &sql, [id.as_bytes()], response)
}

/// Hosts on which this action was ordered within an hour, with this one.
fn fleet_hosts(connection: &Connection, action: &str, host: HostId, now: Timestamp) -> Result<u32> {
    let sql = "SELECT count(DISTINCT host_id) AS count FROM responses WHERE action = ? AND state_at > ?
               AND host_id <> ? AND NOT dry_run AND state IN ('queued', 'sent', 'applied', 'verified', 'failed')";
    let since = now.as_nanos().saturating_sub(HOUR_NS);
    let values = params![action, since, host.as_bytes()];
    let others = first(connection, "count hosts", sql, values, |row| row.count("count"))?.unwrap_or(0);
    Ok(u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1))
}

fn unfit(id: Uuid, reason: &str) -> StateError {
    StateError::Invalid(format!("response {id}: {reason}"))
}

fn response(row: &Row<'_>) -> Result<Response> {
    let undo_of = row.bytes("undo_of")?.and_then(|bytes| Uuid::from_slice(&bytes).ok());
    Ok(Response {
        id: row.uuid("id")?,
        host: row.host_id("host_id")?,
        created_at: row.time("created_at")?,
        created_by: row.text("created_by")?,
        via: row.text("via")?,
        action: row.text("action")?,
        order: row.text("order_json")?,
        dry_run: row.flag("dry_run")?,
        comment: row.text("comment")?,
        expires_at: row.time("expires_at")?,
        undo_of,
        state: row.word("state", ResponseState::from_word)?,
        state_at: row.time("state_at")?,
        receipt: row.optional_text("receipt")?,
        approvals_needed: u32::try_from(row.count("approvals_needed")?).unwrap_or(u32::MAX),
        fleet_hosts: u32::try_from(row.count("fleet_hosts")?).unwrap_or(u32::MAX),
        decisions: row.json("decisions")?,
        is_undone: row.flag("is_undone")?,
        alert: row.bytes("alert_id")?.and_then(|id| Uuid::from_slice(&id).ok()).map(AlertId::from_uuid),
    })
}
