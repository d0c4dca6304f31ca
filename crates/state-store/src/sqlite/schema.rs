//! The file's tables, their migrations, and what is checked before use.
//!
//! Times are nanoseconds since the Unix epoch, ids are 16 bytes, enums are their
//! words, structures are JSON. To change the schema: append a step; a step that
//! was released is never edited.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::StateError;

/// `PRAGMA application_id` of the file: "RPST".
const APPLICATION_ID: i64 = 0x5250_5354;

/// Step `n` takes a file from `user_version` n to n + 1.
const STEPS: &[&str] = &[FIRST, CONTACT, RESPONSES, CONTENT, APPROVALS, RUNS, REPEATS];

/// A whole check reads the whole file; past this size only its structure is checked.
const WHOLE_CHECK_MAX_BYTES: u64 = 64 << 20;

const FIRST: &str = "
CREATE TABLE hosts (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    os TEXT NOT NULL,
    kernel TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    sensor TEXT,
    enrolled_at INTEGER NOT NULL,
    last_seen_at INTEGER,
    boot_id BLOB,
    rules_version INTEGER NOT NULL DEFAULT 0,
    rules_loaded INTEGER NOT NULL DEFAULT 0,
    rules_errors TEXT NOT NULL DEFAULT '[]',
    certificate BLOB NOT NULL,
    certificate_expires_at INTEGER NOT NULL,
    previous_certificate BLOB,
    previous_certificate_expires_at INTEGER,
    revoked_at INTEGER,
    produced INTEGER NOT NULL DEFAULT 0,
    spooled INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    kernel_lost INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX hosts_by_certificate ON hosts (certificate);
CREATE INDEX hosts_by_previous_certificate ON hosts (previous_certificate)
    WHERE previous_certificate IS NOT NULL;

CREATE TABLE enrollment_tokens (
    id BLOB PRIMARY KEY,
    secret BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
    used_at INTEGER,
    used_by BLOB,
    revoked_at INTEGER
) WITHOUT ROWID;

CREATE TABLE api_tokens (
    id BLOB PRIMARY KEY,
    secret BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    last_used_at INTEGER
) WITHOUT ROWID;

CREATE TABLE users (
    username TEXT PRIMARY KEY COLLATE NOCASE,
    password TEXT NOT NULL,
    role TEXT NOT NULL,
    must_change_password INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    last_sign_in_at INTEGER
) WITHOUT ROWID;

CREATE TABLE sessions (
    secret BLOB PRIMARY KEY,
    username TEXT NOT NULL COLLATE NOCASE REFERENCES users ON DELETE CASCADE,
    session_created_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    idle_limit INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (username);

CREATE TABLE rules (
    id TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    name TEXT NOT NULL,
    rule_type TEXT NOT NULL,
    severity TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    mode TEXT NOT NULL,
    origin TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE rules_version (version INTEGER NOT NULL);
INSERT INTO rules_version VALUES (0);

CREATE TABLE alerts (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    time INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    host_id BLOB NOT NULL,
    host_name TEXT NOT NULL,
    rule_id TEXT NOT NULL,
    rule_name TEXT NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    status TEXT NOT NULL,
    close_reason TEXT,
    assignee TEXT,
    count INTEGER NOT NULL,
    executable TEXT NOT NULL,
    command_line TEXT NOT NULL,
    process TEXT NOT NULL,
    event TEXT NOT NULL,
    ancestry TEXT NOT NULL,
    matched TEXT NOT NULL
);
CREATE INDEX alerts_by_time ON alerts (time);
CREATE INDEX alerts_by_rule ON alerts (rule_id, time);
CREATE INDEX alerts_open ON alerts (host_id, rule_id, executable, last_time) WHERE status <> 'closed';
CREATE TABLE detections (
    number INTEGER PRIMARY KEY,
    host_id BLOB NOT NULL,
    id BLOB NOT NULL,
    alert_id BLOB NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    time INTEGER NOT NULL,
    event TEXT,
    UNIQUE (host_id, id)
);
CREATE INDEX detections_by_alert ON detections (alert_id);
CREATE TABLE receipts (
    number INTEGER PRIMARY KEY,
    host_id BLOB NOT NULL,
    id BLOB NOT NULL,
    detection_id BLOB NOT NULL,
    alert_id BLOB REFERENCES alerts (id) ON DELETE CASCADE,
    received_at INTEGER NOT NULL,
    receipt TEXT NOT NULL,
    UNIQUE (host_id, id)
);
CREATE INDEX receipts_by_alert ON receipts (alert_id);
CREATE INDEX receipts_waiting ON receipts (host_id, detection_id) WHERE alert_id IS NULL;
CREATE TABLE alert_notes (
    number INTEGER PRIMARY KEY,
    alert_id BLOB NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX alert_notes_by_alert ON alert_notes (alert_id);

CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE refused (kind TEXT PRIMARY KEY, count INTEGER NOT NULL, last_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    address TEXT NOT NULL
);
";

/// Whether hosts report. What is known of old ones comes with their next hello.
const CONTACT: &str = "
ALTER TABLE hosts ADD COLUMN contact TEXT NOT NULL DEFAULT 'never';
ALTER TABLE hosts ADD COLUMN contact_since INTEGER;
ALTER TABLE hosts ADD COLUMN silence_alert BLOB;
";

/// Actions that were ordered on hosts.
const RESPONSES: &str = "
CREATE TABLE responses (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    host_id BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    action TEXT NOT NULL,
    order_json TEXT NOT NULL,
    dry_run INTEGER NOT NULL,
    comment TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    undo_of BLOB,
    state TEXT NOT NULL,
    state_at INTEGER NOT NULL,
    receipt TEXT
);
CREATE INDEX responses_by_host ON responses (host_id, number);
CREATE INDEX responses_waiting ON responses (host_id) WHERE state IN ('queued', 'sent');
";

/// YARA files and lists of indicators.
const CONTENT: &str = "
CREATE TABLE content_files (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    entries INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
";

/// Who must agree to an action, and who did.
const APPROVALS: &str = "
ALTER TABLE responses ADD COLUMN life INTEGER NOT NULL DEFAULT 600000000000;
ALTER TABLE responses ADD COLUMN approvals_needed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE responses ADD COLUMN mass_above INTEGER;
ALTER TABLE responses ADD COLUMN fleet_hosts INTEGER NOT NULL DEFAULT 1;
ALTER TABLE responses ADD COLUMN decisions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE responses ADD COLUMN detection_id BLOB;
ALTER TABLE responses ADD COLUMN release_code TEXT;
CREATE INDEX responses_by_action ON responses (action, state_at);
CREATE INDEX responses_pending ON responses (host_id) WHERE state = 'pending';
";

/// Runs of playbooks, and what undoes what.
const RUNS: &str = "
CREATE TABLE playbook_runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    alert_id BLOB NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    playbook TEXT NOT NULL,
    dry_run INTEGER NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    responder TEXT NOT NULL,
    state TEXT NOT NULL,
    state_at INTEGER NOT NULL,
    undo_by TEXT,
    undo_at INTEGER,
    report TEXT
);
CREATE INDEX playbook_runs_by_alert ON playbook_runs (alert_id, number);
CREATE INDEX playbook_runs_requested ON playbook_runs (number) WHERE state = 'requested';
CREATE INDEX playbook_runs_to_undo ON playbook_runs (number) WHERE undo_at IS NOT NULL;
CREATE INDEX responses_by_undone ON responses (undo_of) WHERE undo_of IS NOT NULL;
";

/// The detections with which an alert was told of again, and when that was last. An open alert of before is told of with
/// its next repeat. And the token over which an action was ordered, whoever it was ordered for.
const REPEATS: &str = "
CREATE TABLE alert_repeats (
    alert_id BLOB NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    time INTEGER NOT NULL,
    count INTEGER NOT NULL,
    process TEXT NOT NULL,
    event TEXT NOT NULL,
    ancestry TEXT NOT NULL,
    matched TEXT NOT NULL,
    PRIMARY KEY (alert_id, generation)
) WITHOUT ROWID;
ALTER TABLE alerts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE alerts ADD COLUMN told_count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE alerts ADD COLUMN told_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE responses ADD COLUMN via TEXT NOT NULL DEFAULT '';
";

/// Makes the tables in a new file, brings an old one up to date, refuses any other.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StateError> {
    let failed = |source| open_error(path, source);
    let damaged = |reason: String| StateError::Damaged { path: path.to_owned(), reason };

    let application: i64 = pragma(connection, "application_id").map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed)?;
    if tables > 0 {
        if application != APPLICATION_ID {
            return Err(damaged(format!("its application id is {application:#x}, not {APPLICATION_ID:#x}")));
        }
        check(connection, path)?;
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(damaged(format!("it can't have a write-ahead log here (journal mode {mode})")));
    }
    connection.pragma_update(None, "journal_size_limit", 16 << 20).map_err(failed)?;

    // Server and `edr` may come to a new file at once: look again inside the transaction.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found: i64 = pragma(&transaction, "user_version").map_err(failed)?;
    let known = STEPS.len() as i64;
    let done = match usize::try_from(found) {
        Ok(done) if done <= STEPS.len() => done,
        _ => return Err(StateError::NewerSchema { path: path.to_owned(), found, known }),
    };
    for step in &STEPS[done..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", known).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn check(connection: &Connection, path: &Path) -> Result<(), StateError> {
    if std::fs::metadata(path).map_or(0, |metadata| metadata.len()) > WHOLE_CHECK_MAX_BYTES {
        return Ok(());
    }
    let answer: String = connection
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .map_err(|source| open_error(path, source))?;
    if answer == "ok" {
        return Ok(());
    }
    let reason = answer.lines().next().unwrap_or_default().to_owned();
    Err(StateError::Damaged { path: path.to_owned(), reason })
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Tells a damaged file from one that can't be opened.
pub(super) fn open_error(path: &Path, source: rusqlite::Error) -> StateError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StateError::Damaged { path, reason: source.to_string() }
        }
        _ => StateError::Open { path, source },
    }
}
