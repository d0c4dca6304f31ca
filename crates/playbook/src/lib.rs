//! Playbooks: YAML in; what to do next, or what is wrong and where, out. No I/O, no operating system.
//!
//! [`read_playbook`] reads a file; whatever is wrong becomes a [`rule_engine::Diagnostic`] with its
//! place. [`next`] is the engine, a pure function: playbook, alert and the journal of a run in,
//! [`Decision`]s out. Whoever drives it writes each decision into the journal *before* acting on it,
//! and so a crash between two steps resumes or is reported, and nothing is acted twice.
//! [`simulate`] plays a run through without acting: dry run and tests are made from it.
//! `docs/reference/playbooks.md` is the author's view of the same.

#![deny(missing_docs)]

mod action;
mod alert;
mod duration;
mod engine;
mod graph;
mod groups;
mod journal;
mod model;
mod read;
mod reader;
mod simulate;
mod template;
mod test_file;

pub use action::{ActionKind, ChatService, Effect, Parameter, ParameterKind, ResolveError};
pub use alert::{Alert, AlertError, AlertProcess, AlertRule, Facts};
pub use engine::{Decision, next};
pub use groups::HostGroups;
pub use journal::{Entry, EntryKind, JournalError, Outcome, RunEnd, RunState, StepState};
pub use model::{Limit, Mode, OnFailure, Playbook, Step, Trigger};
pub use read::{PLAYBOOK_LIMIT, ReadOutcome, STEP_LIMIT, read_playbook};
pub use simulate::{Given, SimulatedRun, SimulatedStep, simulate};
pub use test_file::{Case, TestFile, TestFileError};
