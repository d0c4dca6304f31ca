//! Event tracing (ETW): what providers of Windows tell as it happens.

mod meaning;
mod payload;
#[cfg(windows)]
mod source;

pub use meaning::{
    DNS_CLIENT, DNS_QUERIES_COMPLETED, Event, KERNEL_PROCESS, ProcessNotice, meaning, process_notice,
};
pub use payload::{Property, Values};
#[cfg(windows)]
pub use source::EventTracing;
#[cfg(windows)]
pub(crate) use source::{event_of, path_of, reason};
