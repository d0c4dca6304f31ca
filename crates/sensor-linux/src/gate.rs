//! The gate: a program is judged before it runs, and the kernel waits for the verdict.
//!
//! fanotify(7)'s `FAN_OPEN_EXEC_PERM` stops whoever executes a file until it is answered, so whoever holds that
//! descriptor and does not answer stops the host. It is held by a small process of its own, the [keeper](serve), which
//! does nothing but pass questions on to the agent and answers «yes» itself where none came in time. The agent in turn
//! ends a keeper that no longer says that it is well, and a keeper ends with its agent; the kernel then lets everybody
//! go. Only where both are stopped at once do programs wait.
//!
//! ```text
//! execve ── kernel ── keeper (holds the descriptor, has the deadline) ── agent (rules, guards)
//! ```
//!
//! What is not answered in time runs, is counted, and is judged like every other start once it runs.

mod call;
mod caller;
mod keeper;
mod kernel;
mod program;
mod source;
mod wire;
mod workers;

use std::fs::File;
use std::path::PathBuf;

use sensor_api::ObservedImage;

pub use self::keeper::serve;
pub use self::source::{ExecutionGate, GateJudge, Outcome, Refusal};

/// The first argument of the process that is a keeper.
pub const KEEPER_ARGUMENT: &str = "keep-execution-gate";

/// Where programs are judged before they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatePlaces {
    /// On every file system of this host that is no network's and no program's.
    All,
    /// On the file systems that these directories lie on.
    These(Vec<PathBuf>),
}

/// May this run?
#[derive(Debug)]
pub struct Question {
    /// What would run. Its facts are those of the process that asks, but for the program and its arguments.
    pub image: ObservedImage,
    /// The parent of the process that asks, where there is one.
    pub parent: Option<ObservedImage>,
    /// The program's file; of a script, its interpreter's.
    pub file: File,
}
