//! YARA: rule texts in; matches on bytes, files and the memory of processes out.
//!
//! `docs/adr/0009-yara.md` says why this engine, and why rules travel as source.

mod compile;
mod items;
mod matched;
mod scan;
mod source;

pub use compile::{CompiledYara, YaraRules};
pub use matched::{MatchedString, MetaValue, YaraMatch};
pub use scan::{ScanLimits, ScanSubject, YaraIncomplete, YaraScan};
pub use source::{MAX_SOURCE_BYTES, MAX_SOURCES, MAX_TOTAL_SOURCE_BYTES, YaraSource, YaraSources};
