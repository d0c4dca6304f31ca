//! A detection: one rule matched one event.
//!
//! The agent makes detections; the server makes an alert of them, with a status
//! and an assignee, and counts repeats.

use serde::{Deserialize, Serialize};

use crate::{ActionKind, DetectionId, EventRecord, ProcessEntityId, RuleId, Timestamp, words};

words! {
    /// How bad it is, in Sigma's five levels.
    Severity {
        /// Worth knowing.
        Informational = "informational",
        /// Seldom an attack.
        Low = "low",
        /// To be looked at.
        Medium = "medium",
        /// Likely an attack.
        High = "high",
        /// An attack.
        Critical = "critical",
    }
}

words! {
    /// What a rule's actions may do.
    ResponseMode {
        /// Nothing: the rule is not judged.
        Off = "off",
        /// Report only. New rules start here.
        Detect = "detect",
        /// Report, and say what would have been done.
        Shadow = "shadow",
        /// Report, and wait for a person's word.
        Ask = "ask",
        /// Act at once.
        Auto = "auto",
    }
}

/// The rule as a detection carries it, so that it reads the same after the rule has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReference {
    /// Its id.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its severity.
    pub severity: Severity,
    /// ATT&CK techniques, for example `T1059.001`.
    pub attack: Vec<String>,
    /// What its actions were allowed to do.
    pub mode: ResponseMode,
}

/// An ancestor as a detection shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSummary {
    /// One life of one process.
    pub entity_id: ProcessEntityId,
    /// PID.
    pub pid: u32,
    /// Absolute path of the image.
    pub executable: String,
    /// Arguments joined by spaces.
    pub command_line: String,
    /// User name, or the id where it has none.
    pub user: String,
    /// When it was created.
    pub start: Timestamp,
}

/// One rule matched one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Made from the event and the rule.
    pub id: DetectionId,
    /// The rule.
    pub rule: RuleReference,
    /// The event, whole.
    pub event: EventRecord,
    /// The event's process and its ancestors, nearest first.
    pub ancestry: Vec<ProcessSummary>,
    /// Which of the rule's conditions matched, as written.
    pub matched: Vec<String>,
    /// The responses that the rule asks for.
    pub actions: Vec<ActionKind>,
}
