//! What a file is, and which YARA rules match it.
//!
//! - [`ContentReading`] reads an open file once, step by step, and gives its
//!   [`ContentFacts`]: MD5, SHA-1, SHA-256, TLSH, entropy, size, first bytes, type.
//! - [`YaraRules`] compiles rule texts once and scans bytes, files and the memory of
//!   processes within [`ScanLimits`].
//! - [`RegularFile`] opens files that an attacker may have laid out: what is not a
//!   regular file is never opened at all, and a file that changes while it is read
//!   is noticed.
//!
//! Nothing here maps files into memory: a file that shrinks while it is mapped
//! would end the process with a SIGBUS.

#![deny(missing_docs)]

mod content_facts;
mod content_reading;
mod entropy;
mod file_type;
mod regular_file;
mod system;
mod yara;

pub use content_facts::{ContentFacts, FactsBuilder, HEADER_BYTES, MAX_TLSH_BYTES};
pub use content_reading::{ContentReading, ContentUnread, read_content};
pub use entropy::ByteCounts;
pub use file_type::{FileKind, FileType};
pub use regular_file::{FileIdentity, LastSymlink, RegularFile};
pub use system::{ProcessMemory, ProcessUnread};
pub use yara::{
    CompiledYara, MAX_SOURCE_BYTES, MAX_SOURCES, MAX_TOTAL_SOURCE_BYTES, MatchedString, MetaValue,
    ScanLimits, ScanSubject, YaraIncomplete, YaraMatch, YaraRules, YaraScan, YaraSource, YaraSources,
};
