//! What can go wrong with the store.

use std::path::PathBuf;

use crate::BadBatch;

/// The store could not do what it was asked; nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventStoreError {
    /// The batch contradicts itself. It will never be accepted.
    #[error("the batch can't be stored")]
    BadBatch(#[from] BadBatch),
    /// The folder can't be made.
    #[error("event store {}: can't be made", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file can't be opened or made.
    #[error("event store {}: can't be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is no store of ours or is damaged.
    #[error(
        "event store {}: damaged or not a Rampart event store ({reason})\nhint: restore it from a backup, or \
         move it away to start with an empty one", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error(
        "event store {}: its schema is version {found}, this program knows up to {known}\nhint: install the \
         newer version that wrote it", path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A read or a write failed; the transaction was rolled back.
    #[error("event store: can't {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A stored value can't be read.
    #[error("event store: {what} holds a value that this program can't read")]
    UnreadableValue {
        /// Table and column.
        what: String,
    },
}
