//! The Windows event log: which channels and ids are collected, and what a record means.
//!
//! A record takes one way whether it comes from the live subscription (as XML) or from a recorded
//! file: [`Records`] is the consumer of the crate `log-reader` for both.

mod channels;
mod meaning;
mod records;
mod recovery;
#[cfg(windows)]
mod subscription;

pub use channels::{CHANNELS, Channel, SYSMON, is_collected, switched_off};
pub use meaning::{MADE, meaning};
pub use records::{LogRecord, Records};
pub use recovery::{Next, Recovery};
#[cfg(windows)]
pub use subscription::EventLogs;
