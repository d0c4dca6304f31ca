//! Windows.

pub(crate) mod bell;
pub(crate) mod clocks;
pub(crate) mod execution_gate;
pub(crate) mod host;
pub(crate) mod observing;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod self_watch;
pub mod service;
pub(crate) mod service_notice;
pub mod signals;
pub(crate) mod standard_output;
pub mod supervisor;
pub(crate) mod usage;
