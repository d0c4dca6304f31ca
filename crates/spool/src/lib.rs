//! A bounded, crash-safe queue on disk of sealed batches.
//!
//! Batches are opaque; beside each stands a clear [`BatchHeader`] that says which
//! records it holds and how far its sensor had come, and a note in which the
//! writer keeps what it needs to go on after a crash. They lie one after another in
//! segment files that are only appended to and deleted whole:
//!
//! - [`Spool::append`] is one write; when it returns, a kill -9 can't take the
//!   batch away (a power cut can, for up to a second: syncing is grouped);
//! - [`Spool::open`] scans what is there, cuts a torn tail, and steps over damage;
//! - [`Spool::ack`] moves a cursor and deletes segments behind it: the cursor is
//!   on disk before the segment goes, so a batch that is gone was acknowledged;
//! - whatever is given up (size limit, damage, refused by the server) is a [`Loss`],
//!   by kind where a header tells it ([`Tally`]), and stays on record until a batch
//!   that tells of it has been appended.
//!
//! One process at a time: a lock file in the directory is held while it is open.

#![deny(missing_docs)]

mod codec;
mod disk;
mod queue;
mod reader;
mod segment;
mod state;
mod syncer;
mod tally;

use std::path::PathBuf;

pub use codec::{BatchHeader, MAX_NOTE, MAX_PAYLOAD, Position};
pub use queue::{Recovery, Spool, SpoolOptions};
pub use reader::{Reader, StoredBatch};
pub use state::{LastBatch, Loss, LossReason, Telling};
pub use tally::{Amount, MAX_KINDS, Tally};

/// The spool could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another agent has the directory.
    #[error("the spool `{}` is in use by another process; hint: give each agent a state directory of its own", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused a call.
    #[error("spool: {doing} `{}` failed", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One batch, or the note beside it, is more than the spool may hold.
    #[error("a batch or its note of {bytes} bytes is more than the limit of {limit} bytes")]
    TooLarge {
        /// Size of what is too large.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl SpoolError {
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
