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
pub struct Alert {
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
pub struct AlertRule {
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
pub struct AlertProcess {
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
pub struct AlertResponse {
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
pub struct AlertResponseStep {
    /// When.
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// At whom a response was aimed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlertResponseTarget {
    /// One life of one process.
    pub entity_id: String,
    /// Its image.
    pub executable: String,
}

/// An ancestor.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AncestorProcess {
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
pub struct AlertNote {
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
pub struct AlertDetail {
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
pub struct AlertQuery {
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

/// A change of an alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertChange {
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
