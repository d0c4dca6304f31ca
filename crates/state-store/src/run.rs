//! Runs of playbooks: asked for here, done by a responder, which tells how far it came.

use event_model::{Timestamp, words};
use uuid::Uuid;

use crate::AlertId;

words! {
    /// How far a run came.
    RunState {
        /// A person wants it, and no responder has taken it yet.
        Requested = "requested",
        /// A responder is at it.
        Running = "running",
        /// Every step ended, none in a failure that stops.
        Completed = "completed",
        /// A step failed, and no other began.
        Stopped = "stopped",
        /// It took too long.
        TimedOut = "timed_out",
        /// What was done is undone.
        Undone = "undone",
        /// Nobody goes on with it.
        Abandoned = "abandoned",
    }
}

/// A run that a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Its id.
    pub id: Uuid,
    /// For which alert.
    pub alert: AlertId,
    /// Of which playbook.
    pub playbook: String,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Who wants it.
    pub requested_by: String,
}

/// What a responder tells of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// Its id.
    pub id: Uuid,
    /// For which alert.
    pub alert: AlertId,
    /// Of which playbook.
    pub playbook: String,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Who does it.
    pub responder: String,
    /// How far it came.
    pub state: RunState,
    /// Its steps and what became of them, as JSON.
    pub report: String,
}

/// A run, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybookRun {
    /// Its id.
    pub id: Uuid,
    /// For which alert.
    pub alert: AlertId,
    /// Of which playbook.
    pub playbook: String,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Who wanted it; empty where the alert alone began it.
    pub requested_by: String,
    /// When it was asked for or first told of.
    pub requested_at: Timestamp,
    /// Who does it; empty while nobody has taken it.
    pub responder: String,
    /// How far it came.
    pub state: RunState,
    /// Since when.
    pub state_at: Timestamp,
    /// Who wants it undone, and since when; until that is told of.
    pub undo_requested: Option<(String, Timestamp)>,
    /// Its steps and what became of them, as JSON; `None` before the first report.
    pub report: Option<String>,
}

/// Which runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Of one alert.
    pub alert: Option<AlertId>,
    /// Only what a responder is to do: taken by nobody yet, or to be undone.
    pub waiting: bool,
    /// From the page before.
    pub cursor: Option<String>,
    /// At most so many; brought into 1 to 500.
    pub limit: usize,
}
