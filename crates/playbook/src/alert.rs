//! The alert that a run is about, and what names mean in it.

use std::borrow::Cow;

use event_model::{Severity, Timestamp, ValueKind, ValueRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An alert as the bus and the API give it. Keys that are not known here are left alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alert {
    /// Its id.
    pub id: String,
    /// When its first event was observed.
    pub time: Timestamp,
    /// The host's id.
    pub host_id: String,
    /// The host's name.
    pub host_name: String,
    /// The rule.
    pub rule: AlertRule,
    /// How far the work on it is.
    #[serde(default)]
    pub status: String,
    /// How many detections it stands for.
    #[serde(default = "one")]
    pub count: i64,
    /// Which telling of it this is: 0 as it was opened, others when it repeated.
    #[serde(default)]
    pub generation: u32,
    /// The process that it is about.
    #[serde(default)]
    pub process: Option<AlertProcess>,
    /// That process and its ancestors, nearest first.
    #[serde(default)]
    pub ancestry: Vec<AlertProcess>,
    /// The event as an ECS document.
    #[serde(default)]
    pub event: Value,
}

/// The rule of an alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlertRule {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it says about itself.
    #[serde(default)]
    pub description: String,
    /// How bad it is.
    pub severity: Severity,
    /// ATT&CK techniques.
    #[serde(default)]
    pub attack: Vec<String>,
}

/// A process of an alert. The entity id tells one life of one process, so that a PID that is used
/// again is never taken for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlertProcess {
    /// One life of one process.
    pub entity_id: String,
    /// PID.
    #[serde(default)]
    pub pid: Option<i64>,
    /// Image.
    #[serde(default)]
    pub executable: String,
    /// Arguments joined by spaces.
    #[serde(default)]
    pub command_line: String,
    /// Name or id.
    #[serde(default)]
    pub user: String,
}

/// The text is no alert.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}: not an alert: {reason}; hint: GET /api/v1/alerts/ID gives one")]
pub struct AlertError {
    line: usize,
    column: usize,
    reason: String,
}

fn one() -> i64 {
    1
}

impl Alert {
    /// From the JSON of the bus or of `GET /api/v1/alerts/{id}`.
    ///
    /// # Errors
    /// [`AlertError`] with the place in the text.
    pub fn from_json(text: &[u8]) -> Result<Self, AlertError> {
        serde_json::from_slice(text).map_err(|error| AlertError {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        })
    }

    /// The parent of the alert's process.
    pub fn parent(&self) -> Option<&AlertProcess> {
        let own = self.process.as_ref().map(|process| process.entity_id.as_str());
        self.ancestry.iter().find(|process| Some(process.entity_id.as_str()) != own)
    }
}

/// An alert with the groups of its host: what triggers, conditions and templates ask.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The alert.
    pub alert: &'a Alert,
    /// The groups its host is in.
    pub host_groups: Vec<String>,
}

/// The names that are not fields of the event, with their kinds.
pub(crate) const NAMES: &[(&str, ValueKind)] = &[
    ("alert.id", ValueKind::Text),
    ("alert.time", ValueKind::Time),
    ("alert.count", ValueKind::Integer),
    ("alert.status", ValueKind::Text),
    ("rule.id", ValueKind::Text),
    ("rule.name", ValueKind::Text),
    ("rule.description", ValueKind::Text),
    ("rule.severity", ValueKind::Text),
    ("rule.attack", ValueKind::TextList),
    ("host.id", ValueKind::Text),
    ("host.name", ValueKind::Text),
    ("host.group", ValueKind::TextList),
    ("parent.executable", ValueKind::Text),
    ("parent.command_line", ValueKind::Text),
];

pub(crate) fn kind_of(name: &str) -> Option<ValueKind> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// Whether a name is one of an alert or a field of an event.
pub(crate) fn is_known(name: &str) -> bool {
    kind_of(name).is_some() || event_model::Field::ALL.iter().any(|field| field.spec().ecs == name)
}

impl Facts<'_> {
    /// The value of a name; `None` where this alert has none.
    pub(crate) fn value(&self, name: &str) -> Option<ValueRef<'_>> {
        let alert = self.alert;
        let text = |text: &'_ str| Some(ValueRef::Text(Cow::Owned(text.to_owned())));
        match name {
            "alert.id" => text(&alert.id),
            "alert.time" => Some(ValueRef::Time(alert.time)),
            "alert.count" => Some(ValueRef::Integer(alert.count)),
            "alert.status" => text(&alert.status),
            "rule.id" => text(&alert.rule.id),
            "rule.name" => text(&alert.rule.name),
            "rule.description" => text(&alert.rule.description),
            "rule.severity" => text(alert.rule.severity.as_str()),
            "rule.attack" => Some(ValueRef::TextList(&alert.rule.attack)),
            "host.id" => text(&alert.host_id),
            "host.name" => text(&alert.host_name),
            "host.group" => Some(ValueRef::TextList(&self.host_groups)),
            "parent.executable" => text(&alert.parent()?.executable),
            "parent.command_line" => text(&alert.parent()?.command_line),
            _ => self.of_event(name).or_else(|| self.of_process(name)),
        }
    }

    /// As text, lists with commas; what templates show.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        Some(match self.value(name)? {
            ValueRef::Text(text) => text.into_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Boolean(truth) => truth.to_string(),
            ValueRef::TextList(texts) => texts.join(", "),
            ValueRef::Time(time) => time.to_string(),
        })
    }

    fn of_event(&self, name: &str) -> Option<ValueRef<'_>> {
        let mut value = &self.alert.event;
        for part in name.split('.') {
            value = value.get(part)?;
        }
        match value {
            Value::String(text) => match event_kind(name) {
                Some(ValueKind::Time) => text.parse().ok().map(ValueRef::Time),
                _ => Some(ValueRef::Text(Cow::Borrowed(text))),
            },
            Value::Number(number) => number.as_i64().map(ValueRef::Integer),
            Value::Bool(truth) => Some(ValueRef::Boolean(*truth)),
            // Conditions look at the whole; a list of one is the usual case.
            Value::Array(items) => {
                let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                (!texts.is_empty()).then(|| ValueRef::Text(Cow::Owned(texts.join(" "))))
            }
            Value::Null | Value::Object(_) => None,
        }
    }

    fn of_process(&self, name: &str) -> Option<ValueRef<'_>> {
        let process = self.alert.process.as_ref()?;
        let text = |text: &'_ str| (!text.is_empty()).then(|| ValueRef::Text(Cow::Owned(text.to_owned())));
        match name {
            "process.entity_id" => text(&process.entity_id),
            "process.pid" => process.pid.map(ValueRef::Integer),
            "process.executable" => text(&process.executable),
            "process.command_line" => text(&process.command_line),
            "user.name" => text(&process.user),
            _ => None,
        }
    }
}

fn event_kind(name: &str) -> Option<ValueKind> {
    event_model::Field::ALL
        .iter()
        .map(|field| field.spec())
        .find(|spec| spec.ecs == name)
        .map(|spec| spec.kind)
}
