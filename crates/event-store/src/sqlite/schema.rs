//! The file's tables, and what is checked before it is used.

use std::collections::HashSet;
use std::path::Path;

use event_model::{Field, ValueKind};
use rusqlite::{Connection, ErrorCode, OptionalExtension};

use crate::EventStoreError;

/// `PRAGMA application_id` of the file: "RPEV".
const APPLICATION_ID: i64 = 0x5250_4556;

/// `PRAGMA user_version`: the version of all but the fields' columns, which are
/// added as the table of fields grows.
const SCHEMA_VERSION: i64 = 3;

/// A whole check reads the whole file; past this size only its structure is checked.
const WHOLE_CHECK_MAX_BYTES: u64 = 64 << 20;

const TABLES: &str = "
    CREATE TABLE streams (
        host_id BLOB NOT NULL,
        boot_id BLOB NOT NULL,
        high_water INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        events INTEGER NOT NULL,
        missing INTEGER NOT NULL,
        explained INTEGER NOT NULL,
        lost_observations INTEGER NOT NULL,
        gaps_of_unknown_size INTEGER NOT NULL,
        produced INTEGER NOT NULL,
        dropped INTEGER NOT NULL,
        kernel_lost INTEGER NOT NULL,
        last_event_at INTEGER,
        clock_offset INTEGER,
        touched INTEGER NOT NULL,
        PRIMARY KEY (host_id, boot_id)
    ) WITHOUT ROWID;
    CREATE TABLE minute_counts (
        minute INTEGER NOT NULL,
        host_id BLOB NOT NULL,
        event_type INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (minute, host_id, event_type)
    ) WITHOUT ROWID;
    CREATE TABLE gaps (
        event INTEGER PRIMARY KEY,
        host_id BLOB NOT NULL,
        from_at INTEGER NOT NULL,
        until_at INTEGER NOT NULL,
        lost INTEGER
    );";

/// Version 2: the account of each boot by kind of record. What a later boot tells of it
/// stands apart, with the number of the last record that it speaks of.
const KIND_TABLES: &str = "
    CREATE TABLE kind_counts (
        host_id BLOB NOT NULL,
        boot_id BLOB NOT NULL,
        kind INTEGER NOT NULL,
        produced INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        PRIMARY KEY (host_id, boot_id, kind)
    ) WITHOUT ROWID;
    CREATE TABLE kind_drops (
        host_id BLOB NOT NULL,
        boot_id BLOB NOT NULL,
        kind INTEGER NOT NULL,
        reason TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (host_id, boot_id, kind, reason)
    ) WITHOUT ROWID;
    CREATE TABLE kind_drops_later (
        host_id BLOB NOT NULL,
        boot_id BLOB NOT NULL,
        kind INTEGER NOT NULL,
        reason TEXT NOT NULL,
        through INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (host_id, boot_id, kind, reason, through)
    ) WITHOUT ROWID;";

/// Version 3: the batch that moved the mark, so that its sender can tell it from another of the same numbers.
const MARK_COLUMN: &str = "ALTER TABLE streams ADD COLUMN mark_sha256 BLOB;";

/// Makes the tables in a new file, brings an old one up to date, refuses any other.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), EventStoreError> {
    let failed = |source| open_error(path, source);
    let damaged = |reason: String| EventStoreError::Damaged { path: path.to_owned(), reason };

    let application: i64 = pragma(connection, "application_id").map_err(failed)?;
    let version: i64 = pragma(connection, "user_version").map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed)?;
    if tables == 0 {
        // Both must be set before the first table.
        connection.pragma_update(None, "page_size", 8_192).map_err(failed)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    } else if application != APPLICATION_ID {
        return Err(damaged(format!("its application id is {application:#x}, not {APPLICATION_ID:#x}")));
    } else if version > SCHEMA_VERSION {
        return Err(EventStoreError::NewerSchema {
            path: path.to_owned(),
            found: version,
            known: SCHEMA_VERSION,
        });
    } else {
        check(connection, path)?;
    }

    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(damaged(format!("it can't have a write-ahead log here (journal mode {mode})")));
    }
    // After a checkpoint the log's file is cut back to this, however long a reader held it up.
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000).map_err(failed)?;

    let transaction = connection.transaction().map_err(failed)?;
    if version == 0 {
        transaction.execute_batch(&events_table()).map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
    }
    if version < 2 {
        transaction.execute_batch(KIND_TABLES).map_err(failed)?;
    }
    if version < 3 {
        transaction.execute_batch(MARK_COLUMN).map_err(failed)?;
    }
    add_new_columns(&transaction).map_err(failed)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn check(connection: &Connection, path: &Path) -> Result<(), EventStoreError> {
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let small = size <= WHOLE_CHECK_MAX_BYTES;
    // The structure of a large file: both ends of the table and of its index.
    let sql = if small {
        "PRAGMA quick_check(1)"
    } else {
        "SELECT 'ok' || substr(coalesce(
             (SELECT max(rowid) FROM events) + (SELECT min(rowid) FROM events)
             + (SELECT max(observed_at) FROM events WHERE host_id = (SELECT max(host_id) FROM events)), ''), 1, 0)"
    };
    let answer: Option<String> = connection
        .query_row(sql, (), |row| row.get(0))
        .optional()
        .map_err(|source| open_error(path, source))?;
    match answer.as_deref() {
        Some("ok") => Ok(()),
        other => Err(EventStoreError::Damaged {
            path: path.to_owned(),
            reason: other.unwrap_or("no answer to the check").lines().next().unwrap_or_default().to_owned(),
        }),
    }
}

fn events_table() -> String {
    "CREATE TABLE events (
        place INTEGER PRIMARY KEY,
        host_id BLOB NOT NULL,
        boot_id BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        observed_at INTEGER NOT NULL,
        monotonic_ns INTEGER NOT NULL,
        event_type INTEGER NOT NULL
    );
    CREATE INDEX events_by_host_and_time ON events (host_id, observed_at);"
        .to_owned()
}

/// Columns of fields that this version knows and the file does not. SQLite adds
/// a column without touching rows; a row stored before reads as NULL there.
fn add_new_columns(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('events')")?;
    let present: HashSet<String> = statement.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    for field in Field::ALL {
        let column = field.column();
        if !present.contains(&column) {
            let kind = match field.spec().kind {
                ValueKind::Text | ValueKind::TextList => "TEXT",
                ValueKind::Integer | ValueKind::Boolean | ValueKind::Time => "INTEGER",
            };
            connection.execute_batch(&format!("ALTER TABLE events ADD COLUMN {column} {kind}"))?;
        }
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Tells a damaged file from one that can't be opened.
pub(super) fn open_error(path: &Path, source: rusqlite::Error) -> EventStoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            EventStoreError::Damaged { path, reason: source.to_string() }
        }
        _ => EventStoreError::Open { path, source },
    }
}
