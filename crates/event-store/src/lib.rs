//! Telemetry: every event that agents sent, and the account of what is missing.
//!
//! [`EventStore`] is the boundary; nothing outside knows what stands behind it.
//! [`SqliteEventStore`] keeps events as rows with one typed column for each field
//! of the table, and one index, by host and time.
//!
//! Three promises hold for every store, and [`contract`] tests them:
//! an appended batch is on disk when `append` returns; a batch that comes again
//! is stored once; and for every host and boot `high_water = stored + missing`,
//! and for every kind of record `produced = stored + dropped` once all has arrived,
//! so that no loss is silent.
//!
//! The store is synchronous; call it from blocking threads.

#![deny(missing_docs)]

mod append;
pub mod contract;
mod error;
mod query;
mod sqlite;
mod store;

pub use append::{
    AgentFigures, AppendBatch, AppendOutcome, BadBatch, HighWaterMark, KindAccount, LedgerEntry,
};
pub use error::EventStoreError;
pub use query::{
    Cursor, EventPage, EventQuery, GapPage, GapQuery, GapTotals, HistogramBucket, ParseCursorError, Predicate,
};
pub use sqlite::SqliteEventStore;
pub use store::{Deleted, EventStore};
