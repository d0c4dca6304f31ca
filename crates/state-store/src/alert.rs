//! Alerts: what someone is told of, made from detections.
//!
//! A detection becomes a new alert, or repeats an open one: same host, same
//! rule, same executable, and no more than [`REPEAT_WINDOW`] since the last.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use event_model::{
    Detection, DetectionId, HostId, ProcessSummary, ResponseReceipt, RuleId, RuleReference, Severity,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use event_model::words;

/// How long after an alert's last detection another one still counts as its repeat.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_secs(3_600);

/// An alert that repeats is told of again after so long, however few its repeats are: what comes back each minute must
/// not be acted on once only.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// Whether an alert that now stands for `count` detections is told of again, which was last told of at `told_at` with
/// `told_count`: at 2, 5, 10, 20, 50, 100 and so on, so that a storm is a few messages, and after
/// [`TOLD_AGAIN_AFTER`].
pub(crate) fn is_told_again(count: u64, told_count: u64, told_at: Timestamp, now: Timestamp) -> bool {
    let since = now.as_nanos().saturating_sub(told_at.as_nanos());
    count >= next_step(told_count)
        || u128::try_from(since).is_ok_and(|since| since >= TOLD_AGAIN_AFTER.as_nanos())
}

fn next_step(told_count: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for factor in [2, 5, 10] {
            match power.checked_mul(factor) {
                Some(step) if step > told_count => return step,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        power = power.saturating_mul(10);
    }
}

/// The id of an alert: made from the host and the detection that opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlertId(Uuid);

impl AlertId {
    /// From a UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id of the alert that this detection of this host opens. With the host in
    /// it, no agent can take another's place by naming the other's detection.
    pub fn opened_by(host: HostId, first: DetectionId) -> Self {
        Self(Uuid::new_v5(host.as_uuid(), first.as_bytes()))
    }

    /// The UUID itself.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AlertId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

words! {
    /// How far the work on an alert is.
    AlertStatus {
        /// Nobody has looked.
        New = "new",
        /// Someone works on it.
        InProgress = "in_progress",
        /// Done.
        Closed = "closed",
    }
}

words! {
    /// What a closed alert turned out to be.
    CloseReason {
        /// An attack.
        TruePositive = "true_positive",
        /// The rule was wrong.
        FalsePositive = "false_positive",
        /// The rule was right and nothing bad happened.
        Benign = "benign",
        /// Another alert tells of it.
        Duplicate = "duplicate",
    }
}

/// A detection as it came in.
#[derive(Debug, Clone, Copy)]
pub struct DetectionInput<'a> {
    /// The detection.
    pub detection: &'a Detection,
    /// Name of the host.
    pub host_name: &'a str,
    /// Version of the agent, where it is known.
    pub agent_version: Option<&'a str>,
}

/// The detections and receipts of one batch.
#[derive(Debug, Clone)]
pub struct Findings<'a> {
    /// The host, from its certificate. Whatever the findings name is looked for
    /// among what this host sent before, and nowhere else.
    pub host: HostId,
    /// In the order in which they were made.
    pub detections: Vec<DetectionInput<'a>>,
    /// In the order in which they were made. Each names its detection, which may
    /// stand in this batch, in an earlier one, or nowhere.
    pub receipts: Vec<&'a ResponseReceipt>,
}

/// What a detection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertChangeKind {
    /// It opened an alert.
    New,
    /// It repeated an open one.
    Repeated,
    /// It had been recorded before; nothing changed.
    AlreadyKnown,
}

/// What became of one detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertChange {
    /// The detection's alert.
    pub alert: AlertId,
    /// What it did to it.
    pub kind: AlertChangeKind,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FindingsOutcome {
    /// For each detection, in order.
    pub detections: Vec<AlertChange>,
    /// Every alert that is new, repeated, or has a new receipt; each once.
    pub changed: Vec<AlertId>,
}

/// The process that an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertProcess {
    /// One life of one process, as the event gives it.
    pub entity_id: String,
    /// PID.
    pub pid: Option<i64>,
    /// Image.
    pub executable: String,
    /// Arguments joined by spaces.
    pub command_line: String,
    /// Name or id.
    pub user: String,
}

/// An alert as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// Observed time of its first detection's event.
    pub time: Timestamp,
    /// Observed time of its latest detection's event.
    pub last_time: Timestamp,
    /// The host.
    pub host_id: HostId,
    /// Its name at that time.
    pub host_name: String,
    /// The rule, as it was.
    pub rule: RuleReference,
    /// How far the work is.
    pub status: AlertStatus,
    /// What it turned out to be; present exactly while it is closed.
    pub close_reason: Option<CloseReason>,
    /// Who works on it.
    pub assignee: Option<String>,
    /// How many detections it stands for.
    pub count: u64,
    /// The process of its first detection; `None` where the event has none.
    pub process: Option<AlertProcess>,
    /// What was done about it, oldest first; at most the newest 50.
    pub responses: Vec<ResponseReceipt>,
}

/// A remark on an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertNote {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What.
    pub text: String,
}

/// An alert with all that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertDetail {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// The event of its first detection as an ECS document.
    pub event: serde_json::Value,
    /// The process and its ancestors, nearest first.
    pub ancestry: Vec<ProcessSummary>,
    /// The conditions that matched.
    pub matched: Vec<String>,
    /// Remarks, oldest first.
    pub notes: Vec<AlertNote>,
    /// Which telling this is: 0 for the alert as it was opened. Of each other one, count, time, process, event and
    /// what comes of them are those of the detection with which it was told again.
    pub generation: u32,
}

/// Which alerts. An empty list does not restrict.
#[derive(Debug, Clone, Default)]
pub struct AlertQuery {
    /// Any of these.
    pub status: Vec<AlertStatus>,
    /// Any of these.
    pub severity: Vec<Severity>,
    /// Of this host.
    pub host: Option<HostId>,
    /// Of this rule.
    pub rule: Option<RuleId>,
    /// Substring (ASCII letters without regard to case) of the rule's name, the
    /// host's name, the executable or the command line.
    pub text: Option<String>,
    /// First detected at or after.
    pub from: Option<Timestamp>,
    /// First detected before.
    pub until: Option<Timestamp>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// At most so many (1 to 500; others are brought into it).
    pub limit: usize,
}

/// A change of an alert; `None` leaves what is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertUpdate {
    /// How far the work is.
    pub status: Option<AlertStatus>,
    /// What it turned out to be. Needed for, and only good with, a closed alert.
    pub close_reason: Option<CloseReason>,
    /// Who works on it; `Some(None)` for nobody.
    pub assignee: Option<Option<String>>,
    /// A remark to append.
    pub note: Option<String>,
}

/// Open alerts of one severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SeverityCount {
    /// The severity.
    pub severity: Severity,
    /// Alerts that are not closed.
    pub open: u64,
}

/// Alerts first detected in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HourCount {
    /// Start of the hour.
    pub hour: Timestamp,
    /// How many.
    pub count: u64,
}

/// Detections of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleCount {
    /// The rule.
    pub rule_id: RuleId,
    /// Its name.
    pub name: String,
    /// Alerts.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_told_of_in_growing_steps_and_after_a_while() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let mut told = vec![1];
        for count in 2..=1_000 {
            if is_told_again(count, *told.last().unwrap(), at(0), at(1)) {
                told.push(count);
            }
        }
        assert_eq!(told, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000]);
        assert!(is_told_again(4, 3, at(0), at(300)) && !is_told_again(4, 3, at(0), at(299)));
        assert!(!is_told_again(4, 3, at(600), at(0)), "a clock that went back tells of nothing");
        assert!(!is_told_again(u64::MAX - 1, u64::MAX - 1, at(0), at(0)));
    }
}
