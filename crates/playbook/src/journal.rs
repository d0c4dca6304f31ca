//! What happened in a run: entries, and the state they add up to.

use std::collections::BTreeSet;

use event_model::{Timestamp, words};
use serde::{Deserialize, Serialize};

use crate::Playbook;

words! {
    /// How a step ended.
    Outcome {
        /// Done, and proved where that can be.
        Succeeded = "succeeded",
        /// Not done; the detail says why.
        Failed = "failed",
        /// It took too long. Whether it was done is not known.
        TimedOut = "timed_out",
        /// A person said no.
        Denied = "denied",
        /// Its condition did not hold.
        Skipped = "skipped",
        /// The responder ended between beginning and telling: done or not, it is not tried again.
        Lost = "lost",
        /// It would have been done; the playbook is in shadow mode.
        Shadowed = "shadowed",
    }
}

impl Outcome {
    /// Whether what becomes of the run is up to the step's `on_failure`.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Denied | Self::Lost)
    }
}

words! {
    /// How a run ended.
    RunEnd {
        /// Every step ended, none in a failure that stops.
        Completed = "completed",
        /// A step failed, and no other began.
        Stopped = "stopped",
        /// It took too long.
        TimedOut = "timed_out",
        /// What was done is undone, as far as the journal says.
        Undone = "undone",
        /// Its playbook is gone or has changed; nobody goes on with it.
        Abandoned = "abandoned",
    }
}

/// One entry of a run's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who wrote it.
    #[serde(default)]
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryKind {
    /// A step begins; written before it acts.
    StepStarted {
        /// The step.
        step: String,
    },
    /// The server has taken the step's response, which goes on without us.
    StepSubmitted {
        /// The step.
        step: String,
        /// Id of the response.
        response: String,
    },
    /// A step ended.
    StepFinished {
        /// The step.
        step: String,
        /// How.
        outcome: Outcome,
        /// More.
        #[serde(default)]
        detail: String,
    },
    /// A person decided.
    Approval {
        /// The step.
        step: String,
        /// Yes or no.
        approve: bool,
    },
    /// A person wants what was done undone.
    UndoRequested,
    /// A step's undoing begins; written before it acts.
    UndoStarted {
        /// The step.
        step: String,
    },
    /// A step's undoing ended.
    UndoFinished {
        /// The step.
        step: String,
        /// Whether it is undone.
        succeeded: bool,
        /// More.
        #[serde(default)]
        detail: String,
    },
    /// The run ended.
    RunFinished {
        /// How.
        end: RunEnd,
        /// More.
        #[serde(default)]
        detail: String,
    },
}

/// Where a step is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepState {
    /// When it began.
    pub started: Option<Timestamp>,
    /// The response that does it.
    pub response: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// More about that.
    pub detail: String,
    /// People who agreed.
    pub approved_by: BTreeSet<String>,
    /// One who did not.
    pub denied_by: Option<String>,
    /// Whether its undoing began.
    pub undo_started: bool,
    /// Whether it was undone, once that ended.
    pub undone: Option<bool>,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunState {
    /// When it began.
    pub began: Option<Timestamp>,
    /// The steps, in the playbook's order.
    pub steps: Vec<StepState>,
    /// Someone wants it undone.
    pub undo_requested: bool,
    /// How it ended; a run that ended can still be undone.
    pub end: Option<RunEnd>,
}

/// A journal and a playbook that do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A step that the playbook does not have.
    #[error("the journal tells of step `{0}`, which the playbook does not have")]
    UnknownStep(String),
    /// The second beginning of one step: an act would have been done twice.
    #[error("the journal tells of step `{0}` beginning twice")]
    StartedTwice(String),
}

impl RunState {
    /// Where a run of this playbook is that began then and has this journal.
    ///
    /// # Errors
    /// [`JournalError`] if the journal is of another playbook, or is damaged.
    pub fn of(playbook: &Playbook, began: Timestamp, entries: &[Entry]) -> Result<Self, JournalError> {
        let steps = vec![StepState::default(); playbook.steps.len()];
        let mut state = Self { began: Some(began), steps, ..Self::default() };
        for entry in entries {
            state.add(playbook, entry)?;
        }
        Ok(state)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn add(&mut self, playbook: &Playbook, entry: &Entry) -> Result<(), JournalError> {
        match &entry.kind {
            EntryKind::StepStarted { step } => {
                let own = self.of_step(playbook, step)?;
                if own.started.is_some() || own.outcome.is_some() {
                    return Err(JournalError::StartedTwice(step.clone()));
                }
                own.started = Some(entry.at);
            }
            EntryKind::StepSubmitted { step, response } => {
                self.of_step(playbook, step)?.response = Some(response.clone())
            }
            EntryKind::StepFinished { step, outcome, detail } => {
                let own = self.of_step(playbook, step)?;
                own.outcome = Some(*outcome);
                own.detail.clone_from(detail);
            }
            EntryKind::Approval { step, approve } => {
                let own = self.of_step(playbook, step)?;
                if *approve {
                    own.approved_by.insert(entry.by.clone());
                } else {
                    own.denied_by = Some(entry.by.clone());
                }
            }
            EntryKind::UndoRequested => self.undo_requested = true,
            EntryKind::UndoStarted { step } => self.of_step(playbook, step)?.undo_started = true,
            EntryKind::UndoFinished { step, succeeded, .. } => {
                self.of_step(playbook, step)?.undone = Some(*succeeded)
            }
            EntryKind::RunFinished { end, .. } => self.end = Some(*end),
        }
        Ok(())
    }

    fn of_step(&mut self, playbook: &Playbook, step: &str) -> Result<&mut StepState, JournalError> {
        let own = playbook.place_of(step).and_then(|place| self.steps.get_mut(place));
        own.ok_or_else(|| JournalError::UnknownStep(step.to_owned()))
    }
}
