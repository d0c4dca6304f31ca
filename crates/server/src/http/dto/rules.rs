//! Rules.

use event_model::{ActionKind, ResponseMode, Severity, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Alert;
use super::words::{ActionWord, ModeWord, RuleOriginWord, RuleTypeWord, SeverityWord, TimeText};
use state_store::RuleOrigin;

/// A rule.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Rule {
    /// Its id, as in its text.
    pub id: String,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Type.
    #[serde(rename = "type")]
    #[schema(value_type = RuleTypeWord)]
    pub rule_type: event_model::RuleScope,
    /// Severity.
    #[schema(value_type = SeverityWord)]
    pub severity: Severity,
    /// Whether agents judge it.
    pub enabled: bool,
    /// What its actions may do.
    #[schema(value_type = ModeWord)]
    pub mode: ResponseMode,
    /// Its actions.
    #[schema(value_type = Vec<ActionWord>)]
    pub actions: Vec<ActionKind>,
    /// ATT&CK techniques.
    pub attack: Vec<String>,
    /// As written: native JSON, or Sigma in YAML.
    pub text: String,
    /// When it was last changed.
    #[schema(value_type = TimeText)]
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
    /// Where it came from.
    #[schema(value_type = RuleOriginWord)]
    pub origin: RuleOrigin,
    /// Alerts in 24 hours, repeats included.
    pub alerts_24h: u64,
}

super::page!(
    /// Rules by id.
    RulePage of Rule
);

/// A rule's text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleText {
    /// One rule: native JSON (it begins with `{`), or Sigma in YAML.
    #[schema(max_length = 65536)]
    pub text: String,
}

/// The text of one rule or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleCollectionText {
    /// Native JSON (it begins with `{` or `[`), or Sigma in YAML, one document for each rule.
    #[schema(max_length = 204800)]
    pub text: String,
}

/// A change of what stands beside a rule's conditions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleChange {
    /// Whether agents judge it.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// What its actions may do.
    #[serde(default)]
    #[schema(value_type = Option<ModeWord>)]
    pub mode: Option<ResponseMode>,
}

/// An exception to try on past alerts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExceptionTrial {
    /// The exception in JSON, as it would stand in the rule's `exceptions`.
    #[schema(max_length = 65536)]
    pub text: String,
    /// Alerts first detected since then; without it, in the last 30 days.
    #[serde(default)]
    #[schema(value_type = Option<TimeText>)]
    pub since: Option<Timestamp>,
}

/// What an exception would have hidden.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExceptionPreview {
    /// From when on alerts were looked at.
    #[schema(value_type = TimeText)]
    pub since: Timestamp,
    /// Alerts of the rule that were looked at, each by its first event.
    pub examined: u64,
    /// Of them, those that the exception would have hidden.
    pub hidden: u64,
    /// Detections that these stand for, repeats included.
    pub hidden_detections: u64,
    /// Alerts whose event could not be read.
    pub unreadable: u64,
    /// There were more alerts than are looked at (2,000); the newest were.
    pub incomplete: bool,
    /// The newest of the hidden alerts, at most 20.
    pub sample: Vec<Alert>,
}

impl From<crate::app::HiddenAlerts> for ExceptionPreview {
    fn from(found: crate::app::HiddenAlerts) -> Self {
        Self {
            since: found.since,
            examined: found.examined,
            hidden: found.hidden,
            hidden_detections: found.hidden_detections,
            unreadable: found.unreadable,
            incomplete: found.incomplete,
            sample: found.sample.into_iter().map(Alert::from).collect(),
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DiagnosticSeverity {
    /// The rule can't be used.
    Error,
    /// It can, but likely does not do what was meant.
    Warning,
}

/// What the rule engine says about a place in a rule's text.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct RuleDiagnostic {
    /// How bad it is.
    pub severity: DiagnosticSeverity,
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in the line, from 1, in characters.
    pub column: u32,
    /// Column behind the last character it is about.
    #[serde(default)]
    #[schema(required)]
    pub end_column: Option<u32>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    #[serde(default)]
    #[schema(required)]
    pub hint: Option<String>,
    /// Stable word.
    pub code: String,
}

/// What the rule engine says about a rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleCheck {
    /// No errors.
    pub ok: bool,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Vec<RuleDiagnostic>,
    /// The first rule that was read, where there are no errors.
    #[schema(required)]
    pub rule: Option<CheckedRule>,
    /// How many rules are without errors.
    pub rules: u64,
}

/// A rule as the engine reads it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckedRule {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    #[schema(value_type = RuleTypeWord)]
    pub rule_type: event_model::RuleScope,
    /// Severity.
    #[schema(value_type = SeverityWord)]
    pub severity: Severity,
    /// Mode.
    #[schema(value_type = ModeWord)]
    pub mode: ResponseMode,
    /// Actions.
    #[schema(value_type = Vec<ActionWord>)]
    pub actions: Vec<ActionKind>,
}

impl From<rule_engine::Diagnostic> for RuleDiagnostic {
    fn from(diagnostic: rule_engine::Diagnostic) -> Self {
        Self {
            severity: if diagnostic.is_error() {
                DiagnosticSeverity::Error
            } else {
                DiagnosticSeverity::Warning
            },
            line: diagnostic.line,
            column: diagnostic.column,
            end_column: Some(diagnostic.end_column),
            reason: diagnostic.reason,
            hint: diagnostic.hint,
            code: diagnostic.code.as_str().to_owned(),
        }
    }
}

impl From<&rule_engine::RuleHead> for CheckedRule {
    fn from(head: &rule_engine::RuleHead) -> Self {
        Self {
            id: head.id.to_string(),
            name: head.name.clone(),
            rule_type: head.scope,
            severity: head.severity,
            mode: head.mode,
            actions: head.actions.clone(),
        }
    }
}

impl From<crate::app::RuleView> for Rule {
    fn from(view: crate::app::RuleView) -> Self {
        let (kept, head) = (view.rule, view.head);
        Self {
            id: kept.head.id.to_string(),
            name: kept.head.name,
            description: head.description,
            rule_type: head.scope,
            severity: kept.head.severity,
            enabled: kept.head.enabled,
            mode: kept.head.mode,
            actions: head.actions,
            attack: head.attack,
            text: kept.text,
            updated_at: kept.updated_at,
            updated_by: kept.updated_by,
            origin: kept.origin,
            alerts_24h: view.alerts_24h,
        }
    }
}
