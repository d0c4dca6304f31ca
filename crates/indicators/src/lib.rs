//! Indicators: hashes, addresses, domains, URLs and paths that are known to be bad.
//!
//! - [`read_indicators`] reads plain lists, CSV, STIX 2.1 bundles and MISP events.
//!   Whatever is wrong becomes a diagnostic with its line; the rest is taken.
//! - [`TableBuilder`] writes one immutable file, [`IndicatorTable`] opens it. Memory holds
//!   only a filter of some nine bits for each indicator; what passes it is confirmed in
//!   the file. To change a table, write another and open that.
//!
//! The file is read with pread(2), not mapped: a mapped file that shrinks ends the
//! process, and its pages would count as memory of the agent.

#![deny(missing_docs)]

mod defang;
mod indicator;
mod read;
mod table;
mod value;

pub use indicator::{Indicator, IndicatorDefaults, MAX_DESCRIPTION_CHARACTERS, MAX_SOURCE_CHARACTERS};
pub use read::{IndicatorFormat, MAX_JSON_BYTES, MAX_LIST_BYTES, ReadOutcome, read_indicators};
pub use table::{BuiltTable, IndicatorMatch, IndicatorTable, Probes, TableBuilder, TableError};
pub use value::{IndicatorValue, MAX_VALUE_BYTES, Observable, ValueError};
