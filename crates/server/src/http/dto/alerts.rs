//! Alerts.

use event_model::{ActionKind, ReceiptState, ResponseMode, Severity, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::EcsDocument;
use super::words::{
    ActionWord, AlertStatusWord, CloseReasonWord, ModeWord, ReceiptStateWord, SeverityWord, TimeText,
};
use state_store::{AlertStatus, CloseReason};

/// An alert: one rule on one process tree, with the repeats counted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Alert {
    /// Id.
    pub id: String,
    /// When it first happened.
    #[schema(value_type = TimeText)]
    pub time: Timestamp,
    /// When it last happened.
    #[schema(value_type = TimeText)]
    pub last_time: Timestamp,
    /// Host.
    pub host_id: String,
    /// Name of the host.
    pub host_name: String,
    /// The rule, as it was then.
    pub rule: AlertRule,
    /// Status.
    #[schema(value_type = AlertStatusWord)]
    pub status: AlertStatus,
    /// Why it was closed.
    #[schema(value_type = Option<CloseReasonWord>, required)]
    pub close_reason: Option<CloseReason>,
    /// Who works on it.
    #[schema(required)]
    pub assignee: Option<String>,
    /// How often it happened.
    pub count: u64,
    /// The process, where the event is about one.
    #[schema(required)]
    pub process: Option<AlertProcess>,
    /// What was done about it.
    pub responses: Vec<AlertResponse>,
}

/// The rule of an alert.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertRule {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Severity.
    #[schema(value_type = SeverityWord)]
    pub severity: Severity,
    /// ATT&CK techniques.
    pub attack: Vec<String>,
    /// What its actions were allowed to do.
    #[schema(value_type = ModeWord)]
    pub mode: ResponseMode,
}

/// The process of an alert.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertProcess {
    /// One life of one process.
    pub entity_id: String,
    /// PID.
    #[schema(required)]
    pub pid: Option<i64>,
    /// Image.
    pub executable: String,
    /// Arguments joined by spaces.
    pub command_line: String,
    /// User.
    pub user: String,
}

/// A response, and its proof.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertResponse {
    /// Id.
    pub id: String,
    /// What was asked for.
    #[schema(value_type = ActionWord)]
    pub action: ActionKind,
    /// How far it came.
    #[schema(value_type = ReceiptStateWord)]
    pub state: ReceiptState,
    /// The proof, or the reason why there is none.
    pub reason: String,
    /// Each step.
    pub steps: Vec<AlertResponseStep>,
    /// At whom.
    pub target: AlertResponseTarget,
}

/// A step of a response.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertResponseStep {
    /// When.
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// At whom a response was aimed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertResponseTarget {
    /// One life of one process.
    pub entity_id: String,
    /// Its image.
    pub executable: String,
}

/// An ancestor.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AncestorProcess {
    /// One life of one process.
    pub entity_id: String,
    /// PID.
    pub pid: u32,
    /// Image.
    pub executable: String,
    /// Arguments joined by spaces.
    pub command_line: String,
    /// User.
    pub user: String,
    /// When it was created.
    #[schema(value_type = TimeText)]
    pub start: Timestamp,
}

/// A note on an alert.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertNote {
    /// When.
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    /// Who.
    pub author: String,
    /// What.
    pub text: String,
}

/// All about one alert.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertDetail {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// The event that the rule matched.
    pub event: EcsDocument,
    /// The process and its ancestors, nearest first.
    pub ancestry: Vec<AncestorProcess>,
    /// The conditions that matched, as written.
    pub matched: Vec<String>,
    /// Notes, the oldest first.
    pub notes: Vec<AlertNote>,
}

super::page!(
    /// Alerts, the latest first.
    AlertPage of Alert
);

/// Which alerts.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertQuery {
    /// Status; several with commas.
    pub status: Option<String>,
    /// Severity; several with commas.
    pub severity: Option<String>,
    /// Id of the host.
    pub host: Option<String>,
    /// Id of the rule.
    pub rule: Option<String>,
    /// Part of the rule's name, the command line or the host's name.
    #[param(max_length = 256)]
    pub q: Option<String>,
    /// From the page before.
    pub cursor: Option<String>,
    /// At most 500; 100 by default.
    #[serde(default, deserialize_with = "super::number")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// Which telling of an alert.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertTelling {
    /// An alert that repeats is told of again on the bus: with its number, the alert is as it was then, with the
    /// process and the event that repeated it. 0, and nothing, is the alert as it was opened.
    #[serde(default, deserialize_with = "super::number")]
    #[param(value_type = Option<u32>)]
    pub generation: Option<u32>,
}

/// A change of an alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertChange {
    /// New status. `closed` needs a reason.
    #[serde(default)]
    #[schema(value_type = Option<AlertStatusWord>)]
    pub status: Option<AlertStatus>,
    /// Why it is closed.
    #[serde(default)]
    #[schema(value_type = Option<CloseReasonWord>)]
    pub close_reason: Option<CloseReason>,
    /// Who works on it; an empty text for nobody.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub assignee: Option<String>,
    /// A note to add.
    #[serde(default)]
    #[schema(max_length = 4000)]
    pub note: Option<String>,
}

impl From<state_store::Alert> for Alert {
    fn from(alert: state_store::Alert) -> Self {
        let rule = alert.rule;
        Self {
            id: alert.id.to_string(),
            time: alert.time,
            last_time: alert.last_time,
            host_id: alert.host_id.to_string(),
            host_name: alert.host_name,
            rule: AlertRule {
                id: rule.id.to_string(),
                name: rule.name,
                description: rule.description,
                severity: rule.severity,
                attack: rule.attack,
                mode: rule.mode,
            },
            status: alert.status,
            close_reason: alert.close_reason,
            assignee: alert.assignee,
            count: alert.count,
            process: alert.process.map(|process| AlertProcess {
                entity_id: process.entity_id,
                pid: process.pid,
                executable: process.executable,
                command_line: process.command_line,
                user: process.user,
            }),
            responses: alert.responses.into_iter().map(AlertResponse::from).collect(),
        }
    }
}

impl From<event_model::ResponseReceipt> for AlertResponse {
    fn from(receipt: event_model::ResponseReceipt) -> Self {
        let steps = receipt.steps.into_iter().map(|step| AlertResponseStep { at: step.at, what: step.what });
        Self {
            id: receipt.id.to_string(),
            action: receipt.action,
            state: receipt.state,
            reason: receipt.reason,
            steps: steps.collect(),
            target: AlertResponseTarget {
                entity_id: receipt.target.entity_id.to_string(),
                executable: receipt.target.executable,
            },
        }
    }
}

impl From<state_store::AlertDetail> for AlertDetail {
    fn from(detail: state_store::AlertDetail) -> Self {
        let ancestry = detail.ancestry.into_iter().map(|process| AncestorProcess {
            entity_id: process.entity_id.to_string(),
            pid: process.pid,
            executable: process.executable,
            command_line: process.command_line,
            user: process.user,
            start: process.start,
        });
        let notes =
            detail.notes.into_iter().map(|note| AlertNote { at: note.at, author: note.by, text: note.text });
        Self {
            alert: detail.alert.into(),
            event: EcsDocument(detail.event),
            ancestry: ancestry.collect(),
            matched: detail.matched,
            notes: notes.collect(),
        }
    }
}
