//! Event tracing (ETW): what providers of Windows tell as it happens.

mod again;
mod launch;
mod meaning;
mod payload;
#[cfg(windows)]
mod source;
mod starts;

pub use again::Again;
pub use launch::{Launch, SYSTEM_PROCESS, launch};
pub use meaning::{
    DNS_CLIENT, DNS_QUERIES_COMPLETED, Event, KERNEL_PROCESS, ProcessNotice, meaning, process_notice,
};
pub use payload::{Property, Values};
#[cfg(windows)]
pub use source::EventTracing;
#[cfg(windows)]
pub(crate) use source::{Drives, ENDED, NOT_WANTED, event_of, reason, tampered};
pub use starts::Starts;
