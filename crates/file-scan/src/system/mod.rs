//! What the operating system has to do with it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(windows)]
use windows as own;

pub use own::{ProcessMemory, ProcessUnread};
pub(crate) use own::{ReadProgress, identity_of, open_regular};
