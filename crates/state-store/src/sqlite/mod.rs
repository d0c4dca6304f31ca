//! The state store in one SQLite file, the one of `-db`.
//!
//! One connection writes, behind a lock; readers have connections of their own
//! and, because of the write-ahead log, never wait for it nor it for them. The
//! `edr` tool opens the same file from another process, so nothing is cached and
//! a write waits up to five seconds for the other's.

mod access;
mod activity;
mod alert_queries;
mod alerts;
mod content;
mod hosts;
mod responses;
mod rules;
mod runs;
mod schema;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_model::{HostId, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior};
use uuid::Uuid;

use crate::StateError;

/// Readers kept open between calls; more are opened when needed and closed after.
const IDLE_READERS: usize = 4;

type Result<T> = std::result::Result<T, StateError>;

/// A state store in one SQLite file.
pub struct SqliteStateStore {
    path: PathBuf,
    writer: Mutex<Connection>,
    idle_readers: Mutex<Vec<Connection>>,
}

impl SqliteStateStore {
    /// Opens the store in this file; makes it, readable by its owner alone, where
    /// it is missing. The folder must exist.
    ///
    /// Refuses a file that is damaged, of another program, or of a newer schema.
    pub fn open(path: &Path) -> Result<Self> {
        make_private(path).map_err(|source| StateError::Permissions { path: path.to_owned(), source })?;
        Self::open_file(path)
    }

    /// Opens a store that must exist: for tools, which should not make an empty
    /// one where the path is mistyped.
    pub fn open_existing(path: &Path) -> Result<Self> {
        Self::open_file(path)
    }

    fn open_file(path: &Path) -> Result<Self> {
        let mut writer = connect(path)?;
        schema::prepare(&mut writer, path)?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), idle_readers: Mutex::new(Vec::new()) })
    }

    /// Runs `work` in one write transaction; an error rolls it back.
    fn write<T, E: From<StateError>>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let mut writer = lock(&self.writer);
        let transaction =
            writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database(doing))?;
        let value = work(&transaction)?;
        transaction.commit().map_err(database(doing))?;
        Ok(value)
    }

    /// Runs `work` on one moment of the store.
    fn read<T, E: From<StateError>>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let idle = lock(&self.idle_readers).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => connect(&self.path)?,
        };
        let value = {
            let transaction = reader.transaction().map_err(database(doing))?;
            work(&transaction)?
        };
        let mut idle = lock(&self.idle_readers);
        if idle.len() < IDLE_READERS {
            idle.push(reader);
        }
        Ok(value)
    }
}

impl fmt::Debug for SqliteStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStateStore").field("path", &self.path).finish_non_exhaustive()
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let failed = |source| schema::open_error(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A commit is on disk before it returns.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    Ok(connection)
}

/// A panic in another thread left the connection at worst with a transaction
/// that SQLite rolls back, so the lock's poison says nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the file if it is missing, and takes it from all but its owner. SQLite
/// gives the files beside it (log, index of the log) the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    drop(file);
    Ok(())
}

/// For `map_err` on what SQLite says while doing something.
fn database(doing: &'static str) -> impl Fn(rusqlite::Error) -> StateError {
    move |source| StateError::Database { doing, source }
}

/// As [`database`], where a key that is taken is the caller's to correct.
fn conflict(
    doing: &'static str,
    what: &'static str,
    key: &str,
) -> impl FnOnce(rusqlite::Error) -> StateError {
    let key = key.to_owned();
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => StateError::Conflict { what, key },
        _ => StateError::Database { doing, source },
    }
}

fn unreadable(what: &'static str, value: impl ToString) -> StateError {
    StateError::UnreadableValue { what, value: value.to_string() }
}

/// Every row of a query, each read by `read`.
fn collect<T>(
    connection: &Connection,
    doing: &'static str,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(database(doing))?;
    let mut rows = statement.query(values).map_err(database(doing))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(database(doing))? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// The first row of a query, if it has one.
fn first<T>(
    connection: &Connection,
    doing: &'static str,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(database(doing))?;
    let mut rows = statement.query(values).map_err(database(doing))?;
    rows.next().map_err(database(doing))?.map(read).transpose()
}

/// Runs a statement; gives how many rows it changed.
fn execute(
    connection: &Connection,
    doing: &'static str,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<usize> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(values))
        .map_err(database(doing))
}

/// A row's columns as our types.
trait Columns {
    fn text(&self, column: &'static str) -> Result<String>;
    fn optional_text(&self, column: &'static str) -> Result<Option<String>>;
    fn count(&self, column: &'static str) -> Result<u64>;
    fn flag(&self, column: &'static str) -> Result<bool>;
    fn time(&self, column: &'static str) -> Result<Timestamp>;
    fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>>;
    fn bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>>;
    fn uuid(&self, column: &'static str) -> Result<Uuid>;
    fn host_id(&self, column: &'static str) -> Result<HostId>;
    /// A word of one of our enums.
    fn word<T>(&self, column: &'static str, from_word: impl Fn(&str) -> Option<T>) -> Result<T>;
    fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T>;
}

impl Columns for Row<'_> {
    fn text(&self, column: &'static str) -> Result<String> {
        self.get(column).map_err(database(column))
    }

    fn optional_text(&self, column: &'static str) -> Result<Option<String>> {
        self.get(column).map_err(database(column))
    }

    fn count(&self, column: &'static str) -> Result<u64> {
        self.get::<_, i64>(column).map(|number| number.max(0).unsigned_abs()).map_err(database(column))
    }

    fn flag(&self, column: &'static str) -> Result<bool> {
        self.get(column).map_err(database(column))
    }

    fn time(&self, column: &'static str) -> Result<Timestamp> {
        self.get(column).map(Timestamp::from_nanos).map_err(database(column))
    }

    fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>> {
        self.get::<_, Option<i64>>(column)
            .map(|time| time.map(Timestamp::from_nanos))
            .map_err(database(column))
    }

    fn bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>> {
        self.get(column).map_err(database(column))
    }

    fn uuid(&self, column: &'static str) -> Result<Uuid> {
        let bytes = self.get_ref(column).map_err(database(column))?;
        match bytes {
            ValueRef::Blob(bytes) => Uuid::from_slice(bytes).map_err(|error| unreadable(column, error)),
            other => Err(unreadable(column, other.data_type())),
        }
    }

    fn host_id(&self, column: &'static str) -> Result<HostId> {
        self.uuid(column).map(HostId::from_uuid)
    }

    fn word<T>(&self, column: &'static str, from_word: impl Fn(&str) -> Option<T>) -> Result<T> {
        let word = self.text(column)?;
        from_word(&word).ok_or_else(|| unreadable(column, word))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|error| unreadable(column, error))
    }
}

/// As it goes into a column. Serialising our own types can't fail.
fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Numbers beyond 2^63 stand at the largest value; no counter gets there.
fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Later by a span, standing at the end of time.
fn after(time: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(time.as_nanos().saturating_add(span))
}
