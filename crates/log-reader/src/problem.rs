//! What can't be read in a log, and where.

use std::fmt;

use serde::Serialize;

/// Something in a log can't be read; the rest was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of problem.
    pub kind: ProblemKind,
    /// The record's number, where it is known: see [`crate::EventHead::record`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// Byte of the file at which it stands, from 0.
    pub byte: u64,
    /// What is wrong, in words.
    pub reason: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Kinds of problems, as stable words for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The file can't be opened or read.
    Unreadable,
    /// The file has no bytes.
    Empty,
    /// The content is no log that this version reads.
    UnknownFormat,
    /// The file ends within a record.
    Cut,
    /// A record can't be decoded; it was left out.
    BadRecord,
    /// A record is longer than [`crate::RECORD_LIMIT`], or has too many fields; it was left out
    /// or read up to the limit.
    TooLarge,
    /// Bytes that are not UTF-8 were read as U+FFFD.
    NotUtf8,
    /// A part of an EVTX file is damaged; what could be read of it was read.
    Damaged,
    /// The file was not closed cleanly.
    Dirty,
}

impl ProblemKind {
    /// Whether something is missing from what was read.
    pub fn loses_records(self) -> bool {
        !matches!(self, Self::NotUtf8 | Self::Dirty | Self::Empty)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(record) = self.record {
            write!(f, "record {record}, ")?;
        }
        write!(f, "byte {}: {}; hint: {}", self.byte, self.reason, self.hint)
    }
}
