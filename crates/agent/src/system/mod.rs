//! What the agent asks of its operating system: one module for each, with the same names and
//! duties. The choice is made here and nowhere else.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(windows)]
use windows as own;

pub(crate) use own::{
    bell, clocks, execution_gate, host, observing, paths, process, self_watch, service_notice,
    standard_output, usage,
};
pub use own::{service, signals, supervisor};
