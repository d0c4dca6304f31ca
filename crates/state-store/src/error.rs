//! What can go wrong with the store.

use std::path::PathBuf;

/// The store could not do what it was asked.
///
/// `Conflict`, `NotFound`, `Invalid` and `LastAdministrator` are the caller's to
/// correct; the rest are the operator's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file can't be opened or made.
    #[error("state database {}: can't be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file's mode can't be narrowed to its owner.
    #[error("state database {}: can't be made private to its owner (mode 0600)", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no database of ours or is damaged.
    #[error(
        "state database {}: damaged or not a Rampart database ({reason})\nhint: restore it from a backup, or \
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
        "state database {}: its schema is version {found}, this program knows up to {known}\nhint: install \
         the newer version that wrote it", path.display()
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
    #[error("state database: can't {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A stored value can't be read.
    #[error("state database: {what} holds `{value}`, which this program can't read")]
    UnreadableValue {
        /// Table and column.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// There is one with this key already.
    #[error("{what} `{key}` exists already")]
    Conflict {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// There is none with this key.
    #[error("there is no {what} `{key}`")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// The input contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// The change would leave nobody to administer the server.
    #[error(
        "`{username}` is the last enabled administrator\nhint: give another user the role administrator first"
    )]
    LastAdministrator {
        /// The user.
        username: String,
    },
}
