//! Event tracing (ETW): what providers of Windows tell as it happens.

mod access;
mod again;
mod events;
mod launch;
mod layouts;
mod losses;
#[cfg(test)]
pub(crate) mod made;
mod meaning;
mod payload;
mod segments;
#[cfg(windows)]
mod session;
#[cfg(windows)]
mod source;
mod starts;
mod threads;

pub use access::{AUDIT_API_CALLS, OPEN_PROCESS};
pub use again::Again;
pub use events::Events;
pub use launch::{Launch, SYSTEM_PROCESS, launch};
pub use layouts::{Kind, Layouts};
pub use losses::Losses;
pub use meaning::{
    DNS_CLIENT, DNS_QUERIES_COMPLETED, Event, KERNEL_PROCESS, ProcessNotice, meaning, process_notice,
};
pub use payload::{Property, Values};
pub use segments::{KERNEL_NETWORK, NETWORK_IDS, segment};
#[cfg(windows)]
pub(crate) use session::{Decoder, ENDED, Feed, Listener, NOT_WANTED, Spec, Tell, Traced, reason, tampered};
#[cfg(windows)]
pub(crate) use source::Drives;
#[cfg(windows)]
pub use source::EventTracing;
pub use starts::Starts;
