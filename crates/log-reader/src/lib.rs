//! Recorded logs: bytes in, events out.
//!
//! A [`LogDecoder`] reads a log of any known format and hands each event to a
//! [`LogConsumer`], value by value under the names that Sigma rules use. Where a value
//! stands in the log's tree (`Event.EventData.Image`, `winlog.event_data.Image`,
//! `process.executable`) decides its names; [`FieldLayout`] is that knowledge, as data.
//! Records of the Windows event log take one way, whether they come from an EVTX file, from XML
//! of a live subscription or from JSON that somebody else made of them.
//!
//! Invariants: no bytes make it panic; memory is bounded by [`RECORD_LIMIT`] and the limits
//! beside it, whatever the size of the file; what can't be read is reported with its
//! place and left out, and the rest goes on.

#![deny(missing_docs)]

mod auditd;
mod consumer;
mod decoder;
mod event_xml;
mod evtx_file;
mod format;
mod json;
mod json_documents;
mod json_lines;
mod json_scan;
mod kept;
mod layout;
mod lines;
mod path_tree;
mod problem;
mod time;

pub use consumer::{AuditKind, EventHead, LogConsumer, Origin};
pub use decoder::{LogDecoder, RECORD_LIMIT, VALUES_LIMIT};
pub use format::LogFormat;
pub use layout::{FIELD_NAMES_FILE_LIMIT, FieldLayout, FieldNamesError};
pub use problem::{Problem, ProblemKind};
