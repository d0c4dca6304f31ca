//! How sources are asked to stop, and the clock that orders what they see.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(windows)]
use windows as system;

pub use system::{StopHandle, StopSignal, boot_ns, stop_signal};
