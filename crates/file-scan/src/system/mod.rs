//! What the operating system has to do with it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(windows)]
use windows as own;

pub(crate) use own::ReadProgress;
pub use own::{FileIdentity, LastSymlink, ProcessMemory, ProcessUnread, RegularFile};
