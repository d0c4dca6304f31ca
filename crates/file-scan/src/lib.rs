//! What a file is, and which YARA rules match it.
//!
//! - [`ContentReading`] reads an open file once, step by step, and gives its
//!   [`ContentFacts`]: MD5, SHA-1, SHA-256, TLSH, entropy, size, first bytes, type.
//! - [`RegularFile`] opens files that an attacker may have laid out: what is not a
//!   regular file is never opened at all, and a file that changes while it is read
//!   is noticed.
//!
//! Nothing here maps files into memory: a file that shrinks while it is mapped
//! would end the process with a SIGBUS.

mod content_facts;
mod content_reading;
mod entropy;
mod file_type;
mod linux;

pub use content_facts::{ContentFacts, FactsBuilder, HEADER_BYTES, MAX_TLSH_BYTES};
pub use content_reading::{ContentReading, ContentUnread, read_content};
pub use entropy::ByteCounts;
pub use file_type::{FileKind, FileType};
pub use linux::{FileIdentity, LastSymlink, RegularFile};
