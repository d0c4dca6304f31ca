//! The event store in one SQLite file, `events.sqlite` in a folder of its own.
//!
//! One table holds the events, a column for each field of the table of fields,
//! and one index by host and time: with every further index on random keys
//! SQLite writes several kilobytes per event. Small side tables, written in the
//! same transaction, hold what would otherwise need a scan: the account of each
//! boot (`streams`, and by kind `kind_counts` and `kind_drops`), gaps, and counts by minute.
//!
//! One connection writes, behind a lock; readers have connections of their own
//! and, because of the write-ahead log, never wait for it nor it for them.

mod account;
mod append;
mod columns;
mod counts;
mod predicate;
mod schema;
mod search;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_model::{BootId, EventId, EventRecord, EventType, HostId, KindFigures, ProcessEntityId, Timestamp};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::{
    AppendBatch, AppendOutcome, Deleted, EventPage, EventQuery, EventStore, EventStoreError, GapPage,
    GapQuery, GapTotals, HighWaterMark, HistogramBucket, KindAccount, LedgerEntry,
};

/// Name of the file in the store's folder.
const FILE: &str = "events.sqlite";

/// Readers kept open between calls; more are opened when needed and closed after.
const IDLE_READERS: usize = 4;

type Result<T> = std::result::Result<T, EventStoreError>;

/// An event store in one SQLite file.
pub struct SqliteEventStore {
    path: PathBuf,
    writer: Mutex<Connection>,
    idle_readers: Mutex<Vec<Connection>>,
}

impl SqliteEventStore {
    /// Opens the store in this folder; makes folder and file where they are missing.
    ///
    /// Refuses a file that is damaged, of another program, or of a newer schema.
    pub fn open(folder: &Path) -> Result<Self> {
        make_private_folder(folder)
            .map_err(|source| EventStoreError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join(FILE);
        let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        schema::prepare(&mut writer, &path)?;
        Ok(Self { path, writer: Mutex::new(writer), idle_readers: Mutex::new(Vec::new()) })
    }

    /// Runs `work` in one write transaction; an error rolls it back.
    fn write<T>(&self, doing: &'static str, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        let database = |source| EventStoreError::Database { doing, source };
        let transaction =
            writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database)?;
        let value = work(&transaction)?;
        transaction.commit().map_err(database)?;
        Ok(value)
    }

    /// Runs `work` on one moment of the store.
    fn read<T>(&self, doing: &'static str, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let idle = lock(&self.idle_readers).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?,
        };
        let value = {
            let transaction =
                reader.transaction().map_err(|source| EventStoreError::Database { doing, source })?;
            work(&transaction)?
        };
        let mut idle = lock(&self.idle_readers);
        if idle.len() < IDLE_READERS {
            idle.push(reader);
        }
        Ok(value)
    }
}

impl fmt::Debug for SqliteEventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEventStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl EventStore for SqliteEventStore {
    fn append(&self, batch: &AppendBatch) -> Result<AppendOutcome> {
        batch.check()?;
        self.write("store a batch of events", |transaction| append::append(transaction, batch))
    }

    fn high_water(&self, host: HostId, boot: BootId) -> Result<u64> {
        self.read("read an account", |transaction| append::high_water(transaction, host, boot))
    }

    fn high_water_marks(&self, host: HostId, limit: usize) -> Result<Vec<HighWaterMark>> {
        self.read("read accounts", |transaction| append::high_water_marks(transaction, host, limit))
    }

    fn ledger(&self, host: HostId) -> Result<Vec<LedgerEntry>> {
        self.read("read accounts", |transaction| append::ledger(transaction, host))
    }

    fn unexplained(&self) -> Result<Vec<LedgerEntry>> {
        self.read("read accounts", |transaction| append::unexplained(transaction))
    }

    fn account(&self, host: HostId, boot: BootId) -> Result<Vec<KindAccount>> {
        self.read("read an account", |transaction| account::account(transaction, host, boot))
    }

    fn agent_figures(&self, host: HostId, boot: BootId) -> Result<Vec<KindFigures>> {
        self.read("read an account", |transaction| account::agent_figures(transaction, host, boot))
    }

    fn search(&self, query: &EventQuery) -> Result<EventPage> {
        self.read("search events", |transaction| search::search(transaction, query))
    }

    fn by_id(&self, id: EventId) -> Result<Option<EventRecord>> {
        self.read("look an event up", |transaction| search::by_id(transaction, id))
    }

    fn histogram(
        &self,
        from: Timestamp,
        until: Timestamp,
        width: Duration,
        host: Option<HostId>,
        event_types: &[EventType],
    ) -> Result<Vec<HistogramBucket>> {
        self.read("count events", |transaction| {
            counts::histogram(transaction, from, until, width, host, event_types)
        })
    }

    fn gaps_between(&self, query: &GapQuery) -> Result<GapPage> {
        self.read("look gaps up", |transaction| counts::gaps_between(transaction, query))
    }

    fn gap_totals(&self, host: Option<HostId>, from: Timestamp, until: Timestamp) -> Result<GapTotals> {
        self.read("count gaps", |transaction| counts::gap_totals(transaction, host, from, until))
    }

    fn process_start_of(
        &self,
        host: HostId,
        process: ProcessEntityId,
        around: Timestamp,
    ) -> Result<Option<EventRecord>> {
        self.read("look a process start up", |transaction| {
            search::process_start_of(transaction, host, process, around)
        })
    }

    fn delete_before(&self, before: Timestamp, max_events: u64) -> Result<Deleted> {
        self.write("remove old events", |transaction| append::delete_before(transaction, before, max_events))
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let failed = |source| schema::open_error(path, source);
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    // A commit is on disk before it returns: an acknowledged event survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "cache_size", -16_384).map_err(failed)?;
    Ok(connection)
}

/// A panic in another thread left the connection at worst with a transaction
/// that SQLite rolls back, so the lock's poison says nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// For `map_err` on what SQLite says while doing something.
fn database(doing: &'static str) -> impl Fn(rusqlite::Error) -> EventStoreError {
    move |source| EventStoreError::Database { doing, source }
}
